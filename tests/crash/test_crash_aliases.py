"""Mail on its way through aliases, after a crash at every step of their expansion.

Three messages, one of which rests in a file, are for aliases and for people who are none; one who waited is an alias
after a reload. The real runner expands them against a recorded disk, while no maildrop has room. Then, for every
beginning of the log and every kind of crash, what such a crash leaves is opened by the real makers and delivery goes
on: whoever is meant by a message that was promised must have it, once in each maildrop.

Tried in one run: about 70 different states.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path as File

import pytest

from crash.recording import Recorder, RecordingFiles, RecordingVFS, write_down
from gatepost.delivery import Destinations, Dialer, Limits, Maildir, Policy, Route, Routes, Runner
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.store import Deposit, Spool, database
from gatepost.store.addresses import Addresses, Rules
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.store.users import folded

NOW = 1_800_000_000.0
TOKEN = token_at(1_800_000_000_000, 0, 1)
TEAM = [f"m{number}@example.org" for number in range(130)]
ALIASES = {
    "team@example.org": (*TEAM, "all@example.org"),
    "all@example.org": ("ann@example.org", "bob@example.org", "m7+x@example.org"),
    "ann@example.org": ("ann@example.org", "cat@example.org"),
}
MESSAGES = {
    1: (("team@example.org", "bob@example.org"), b"Subject: 1\r\n\r\nshort\r\n"),
    2: (("all@example.org", "ann+x@example.org"), b"Subject: 2\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n"),
    3: (("ann@example.org", "late@example.org", "m1@example.org"), b"Subject: 3\r\n\r\nshort\r\n"),
}
WANTED = {
    1: Counter([*TEAM, "ann@example.org", "bob@example.org", "cat@example.org"]),
    2: Counter(["ann@example.org", "bob@example.org", "cat@example.org", "m7@example.org"]),
    3: Counter(["ann@example.org", "cat@example.org", "m1@example.org", "dora@example.org", "emil@example.org"]),
}
LATE = {"late@example.org": ("dora@example.org", "emil@example.org")}


class People:
    """The port, over users whose names are their addresses. `late` is an alias after the reload."""

    def __init__(self, *, late: bool) -> None:
        aliases = {**ALIASES, **(LATE if late else {})}
        rules = Rules(plus="+", aliases={key: tuple(map(Path.parse, to)) for key, to in aliases.items()})
        known = {*TEAM, *(f"{name}@example.org" for name in ("ann", "bob", "cat", "dora", "emil"))}
        self.addresses = Addresses(rules, lambda address: address if address in known else None, folded)

    async def targets(self, address: Path) -> tuple[Path, ...] | None:
        return self.addresses.targets(address)

    async def person(self, address: Path) -> str:
        return self.addresses.user(address) or address.address


class Drops:
    """Maildrops that take each message of a ticket once for each address, as the real ones; nothing before `opens`."""

    def __init__(self, people: People, *, opens: bool) -> None:
        self.people = people
        self.opens = opens
        self.had: dict[tuple[str, str], tuple[int, str]] = {}

    async def deliver(self, ticket: Ticket, recipient: Recipient, content: Blob, *, sender: Path, fresh: bool) -> None:
        user = self.people.addresses.user(recipient.path)
        if not self.opens or user is None:
            raise OSError(28, "no room")
        text = content.read()
        number = int(text[text.index(b"Subject: ") + 9 :][:1])
        assert text.endswith(MESSAGES[number][1])
        self.had[str(ticket), recipient.address] = (number, user)


class Quiet:
    """Nobody listens."""

    def delivered(self, *what: object) -> None: ...
    def deferred(self, *what: object) -> None: ...
    def bounced(self, *what: object) -> None: ...
    def written(self, *what: object) -> None: ...


async def deliver(spool: Spool, drops: Drops, clock: list[float], *, left: int) -> None:
    """Let the real runner go on until so many entries are left, each of them tried, and none in its hands."""
    policy = Policy(
        "mx.example.org", Path.parse("postmaster@example.org"), lambda path: False, lambda: Ticket(TOKEN, 99)
    )
    runner = Runner(
        spool,
        lambda: Routes([Route(("*",), Maildir())]),
        drops,
        Destinations(Dialer("mx.example.org")),
        policy,
        Quiet(),
        clock=lambda: clock[0],
        chance=lambda: 0.0,
        limits=Limits(settle_again_s=0.01),
        aliases=lambda: drops.people,
    )
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(20):
            while True:
                found = await spool.entries()
                waits = all(entry.attempts for entry in found) and not spool.counts().leased
                if waits and len(found) == left:
                    break
                if waits and left == 0:
                    clock[0] += 100_000
                    runner.wake()
                await asyncio.sleep(0)
    finally:
        await runner.stop(grace_s=0.2)
        await task


async def test_whatever_step_it_ends_at_nobody_is_left_out_and_nobody_doubled(
    tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WAL_PAGES", 12)
    recorder = Recorder(tmp_path / "recorded")
    recorder.root.mkdir()
    vfs = RecordingVFS(recorder, "recording-aliases")
    clock = [NOW]
    spool = await open_shard(recorder.root / "shard", RecordingFiles(recorder), lambda: clock[0], vfs=vfs.name)
    for number, (to, content) in MESSAGES.items():
        envelope = Envelope(Path.parse("sue@example.net"), tuple(Recipient(Path.parse(one)) for one in to))
        await spool.commit([Deposit(Ticket(TOKEN, number), envelope, Bytes(content), NOW)])
    recorder.mark("promised")
    await deliver(spool, Drops(People(late=False), opens=False), clock, left=6)
    clock[0] += 10_000
    await deliver(spool, Drops(People(late=True), opens=False), clock, left=7)
    recorder.mark("expanded")
    await spool.close()
    vfs.close()

    first = recorder.log.index(("mark", "promised"))
    tried = 0
    for done, crash, left in recorder.crashes(tears=2):
        if done <= first:
            continue
        folder = tmp_path / str(tried)
        write_down(left, folder)
        damages: list[str] = []
        clock = [NOW + 50_000]
        spool = await open_shard(folder / "shard", RealFiles(), lambda at=clock: at[0], on_damage=damages.append)
        drops = Drops(People(late=True), opens=True)
        await deliver(spool, drops, clock, left=0)
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        for number, wanted in WANTED.items():
            assert Counter(user for which, user in drops.had.values() if which == number) == wanted, where
        assert damages == [], where
        await spool.close()
        assert [*(folder / "shard" / "bodies").iterdir()] == [], where
        tried += 1
    print(f"\naliases: {tried} different states out of {len(recorder.log) - first} steps")
    assert tried > 60
