"""examples/outgoing.py does on the way out what its first lines promise."""

from pathlib import Path

from gatepost import Server
from unit.delivery.delivery_peer import Peer, polite

FILE = Path(__file__).parents[2] / "examples" / "outgoing.py"
HELLO = b"Subject: hi\r\n\r\nhello\r\n"
PROPERTIES = {"vacation": ["ann@*"], "slow": "127.*", "source": "127.0.0.2"}


async def test_a_recipient_waits_a_refusal_is_put_off_and_the_address_is_its_own():
    script = polite(("RCPT TO:<carl@there.example>", "550 5.7.1 looks like SPAM"))
    sources = []
    async with Peer(script) as peer:
        accept = peer.accept

        def look(reader, writer):
            sources.append(writer.get_extra_info("peername")[0])
            accept(reader, writer)

        peer.accept = look
        peer._server.close()
        await peer.__aenter__()
        route = [{"match": "*", "deliver": {"by": "relay", "hosts": [f"127.0.0.1:{peer.port}"], "tls": "none"}}]
        async with Server(listen=[], route=route, plugin=[{"source": str(FILE), "properties": PROPERTIES}]) as server:
            to = ["ann@there.example", "bob@there.example", "carl@there.example"]
            sent = await server.send(HELLO, "me@here.example", to)
            await peer.until(lambda: len(peer.mail) == 1)
            [lines] = peer.heard
            await peer.until(lambda: "QUIT" in lines or "." in lines)
            told = str(server.explain(sent.ticket))
    assert lines[0] == "EHLO slow.example.org"
    assert not any("ann@" in line for line in lines)
    assert sources == ["127.0.0.2"]
    assert "out-recipient" in told
    assert "skip" in told
