"""A peer that has gone while we are about to say goodbye is no error."""

import asyncio

from gatepost.net import connect, listen


async def test_closing_after_the_peer_has_gone():
    served = asyncio.Event()

    async def serve(stream):
        stream.write(b"x" * 100)
        await stream.drain()
        served.set()

    listener = await listen(("127.0.0.1", 0), serve)
    stream = await connect(*listener.address, timeout=5)
    await served.wait()

    def gone():
        raise OSError(107, "Transport endpoint is not connected")

    real = stream._transport

    class Transport:
        def __getattr__(self, name):
            return getattr(real, name)

        write_eof = staticmethod(gone)

    stream._transport = Transport()
    stream._backlog = b"still talking"
    await stream.close()
    assert stream.lost
    await listener.close()
