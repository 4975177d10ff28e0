"""The CPU gate: what one message costs inside the server, without sockets, disks or other processes.

Sessions run over doubles of the stream, one message after the other on a kept connection, as a client without
pipelining sends them. Prints µs of CPU per message: the median of several interleaved rounds for each variant.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatepost.app.generation import make_generation
from gatepost.hooks.api import on
from gatepost.plugins.loaded import Loaded
from gatepost.plugins.python import load
from gatepost.serving.reception import Reception
from gatepost.store.spool import Deposit
from gatepost.testing.line import SessionEnd
from gatepost.testing.rig import ANYONE, Rig

STAGES = ("connect", "hello", "sender", "recipient", "data", "headers", "message")
CONTENT = b"From: a@b.example\r\nTo: c@d.example\r\nSubject: bench\r\n\r\n" + b"x" * 68 + b"\r\n"
CONTENT += (b"The quick brown fox jumps over the lazy dog, and back again.\r\n" * 65)[: 4096 - len(CONTENT)]
CONTENT = CONTENT[: CONTENT.rindex(b"\r\n") + 2]


class NowhereSpool:
    """Takes everything and keeps nothing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def draft(self, ticket: Any) -> Any:
        return self._inner.draft(ticket)

    async def commit(self, deposits: Sequence[Deposit], *, records: Sequence[Any] = ()) -> None:
        return

    async def close(self) -> None:
        await self._inner.close()


class NoRecords:
    """Records nothing."""

    def record(self, token: str, kind: str, facts: Mapping[str, Any]) -> None:
        return

    def failed(self, token: str, plugin: str, stage: str, error: BaseException) -> None:
        raise error


def proceeding() -> Loaded:
    async def hook(event: object) -> None:
        return None

    for stage in STAGES:
        hook = on(stage)(hook)  # type: ignore[assignment]
    return load(hook)


class Script(SessionEnd):
    """A client whose next line is there as soon as the session asks for it, so that nothing but the session costs."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self._lines = self._dialogue(messages)
        self.began = 0.0
        self.ended = 0.0
        self._last = b""

    def _dialogue(self, messages: int) -> Iterator[bytes]:
        yield b"EHLO client.example\r\n"
        self.began = time.process_time()
        for _ in range(messages):
            yield b"MAIL FROM:<a@b.example>\r\n"
            yield b"RCPT TO:<c@d.example>\r\n"
            yield b"DATA\r\n"
            yield CONTENT + b".\r\n"
            if not self._last.startswith(b"250"):
                raise SystemExit(f"heard {self._last!r}")
        self.ended = time.process_time()
        yield b"QUIT\r\n"

    async def receive(self) -> bytes:
        return next(self._lines, b"")

    def write(self, data: bytes) -> None:
        self._last = data


async def one_round(plugins: list[Loaded], messages: int, records: bool) -> float:
    """Seconds of CPU for one message."""
    rig = Rig(plugins)
    rig.surroundings.spool = NowhereSpool(rig.spool)  # type: ignore[assignment]
    if not records:
        rig.surroundings.recorder = NoRecords()
    rig.generation = make_generation(rig.settings, plugins, ANYONE, rig.surroundings)
    line = Script(messages)
    await Reception(rig.place, line).run()  # type: ignore[arg-type]  # the double has what a Stream has
    await rig.close()
    return (line.ended - line.began) / messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--messages", type=int, default=900)  # below the limit of transactions in a session
    parser.add_argument("--profile", action="store_true", help="where the time goes, with a plugin")
    options = parser.parse_args()
    variants: dict[str, tuple[bool, bool]] = {
        "bare": (False, False),
        "plugin": (True, False),
        "plugin+records": (True, True),
    }
    if options.profile:
        import cProfile
        import pstats

        profile = cProfile.Profile()
        profile.enable()
        asyncio.run(one_round([proceeding()], options.messages, True))
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, (plugin, records) in variants.items():
            taken[name].append(asyncio.run(one_round([proceeding()] if plugin else [], options.messages, records)))
    for name, seconds in taken.items():
        median, lowest = statistics.median(seconds) * 1e6, min(seconds) * 1e6
        print(f"{name:<16} {median:7.1f} µs of CPU per message (lowest {lowest:.1f})")


if __name__ == "__main__":
    main()
