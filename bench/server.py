"""A server to be measured, in a process of its own: prints its port, serves until its standard input ends.

`gatepost` is the real worker with the real settings; without `--durable` its spool keeps nothing, without `--trace`
nothing is recorded. Garbage is collected as seldom as in `gatepost run`. `aiosmtpd` throws away what it gets.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MANY = 10**9
PLUGINS = Path(__file__).parent / "plugins"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("gatepost", "aiosmtpd"))
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--plugin", choices=("waiting", "plain", "isolated"))
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the port and the data folder")
    parser.add_argument("--shard", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tls", type=Path, help="a folder with chain.pem and key.pem: implicit TLS")
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    if options.kind == "aiosmtpd":
        run_aiosmtpd()
        return
    with asyncio.Runner(loop_factory=loop(options.loop)) as runner:
        runner.run(serve(options))


def loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def serve(options: argparse.Namespace) -> None:
    from gatepost.app import worker as room
    from gatepost.app.running import collect_seldom
    from gatepost.app.settings import load
    from gatepost.net import bind

    room.Stores = stores(durable=options.durable, trace=options.trace)
    settings = load(None, environ={}, overrides=settings_of(options))
    worker = room.Worker(settings, shard=options.shard, workers=options.workers)
    bound = bind("127.0.0.1", options.port, reuse_port=options.workers > 1)
    await worker.start({"bench": bound})
    port = bound.getsockname()[1]
    others = [other(port, shard) for shard in range(1, options.workers)] if options.shard == 0 else []
    for process in others:
        assert process.stdout is not None
        process.stdout.readline()
    collect_seldom()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for process in others:
        process.communicate()
    await worker.stop(0.5)
    bound.close()


def other(port: int, shard: int) -> subprocess.Popen[bytes]:
    """A further worker, which ends when its input does."""
    command = [sys.executable, *sys.argv, "--port", str(port), "--shard", str(shard)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The embedded defaults with a route that discards, and limits that a benchmark's one peer doesn't meet."""
    limits = {
        "sessions": 100_000,
        "sessions_per_peer": 100_000,
        "transactions_per_session": MANY,
        "junk_commands": MANY,
    }
    listener: dict[str, Any] = {"name": "bench", "address": "127.0.0.1:0"}
    settings: dict[str, Any] = {
        "hostname": "mx.example.org",
        "data": str(options.data) if options.durable or options.trace else None,
        "listen": [listener],
        "limits": limits,
        "route": [{"match": "*", "deliver": "discard", "for": "anyone"}],
    }
    if options.tls is not None:
        listener["tls"] = "implicit"
        pair = {"chain": str(options.tls / "chain.pem"), "key": str(options.tls / "key.pem")}
        settings["tls"] = {"certificate": [pair]}
    if options.plugin is not None:
        isolate = options.plugin == "isolated"
        source = PLUGINS / ("waiting.py" if isolate else f"{options.plugin}.py")
        settings["plugin"] = [{"name": "asked", "source": str(source), "isolate": isolate}]
    return settings


def stores(*, durable: bool, trace: bool) -> type:
    """The worker's stores, without those that this variant leaves out."""
    from gatepost.app.stores import Stores
    from gatepost.store.spool import Deposit

    class Nowhere:
        """A spool that takes everything and keeps nothing."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def draft(self, ticket: Any) -> Any:
            return self._inner.draft(ticket)

        async def commit(self, deposits: Sequence[Deposit], *, records: Sequence[Any] = ()) -> None:
            return

        async def close(self) -> None:
            if hasattr(self._inner, "close"):
                await self._inner.close()

    class NoRecords:
        """A recorder that records nothing."""

        def record(self, token: str, kind: str, facts: Mapping[str, Any]) -> None:
            return

        def failed(self, token: str, plugin: str, stage: str, error: BaseException) -> None:
            raise error

    class Measured(Stores):
        @property
        def delivers(self) -> bool:
            return durable

        @classmethod
        async def open(cls, *args: Any, **named: Any) -> Any:
            opened = await super().open(*args, **named)
            if not durable:
                opened.spool = Nowhere(opened.spool)
            if not trace:
                opened.recorder = NoRecords()
            return opened

    return Measured


def run_aiosmtpd() -> None:
    from aiosmtpd.handlers import Sink
    from aiosmtpd.smtp import SMTP

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(Sink(), loop=loop, hostname="mx.example.org", data_size_limit=MANY), "127.0.0.1", 0
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
