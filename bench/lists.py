"""How long a post to a large list takes until it is in the queue for every member: `python bench/lists.py`.

A list of 10,000 members in a database on disk, over few domains and over as many as members; the post rests in a spool
on disk, is expanded, and the expansion committed in one step with the end of the post. Shown are seconds, entries,
octets of the database's log, and what the process has grown by at most. Then the copies of one entry are rendered,
with a return path and an unsubscribe link each.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path as File

from gatepost.lists.context import Context
from gatepost.lists.copies import copies
from gatepost.lists.expansion import expand
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.net.resolver import StaticResolver
from gatepost.store import Deposit, Fate
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.store.lists import ListOptions, open_lists
from gatepost.store.spool import RecipientOutcome

_HEAD = b"From: Ann <ann@example.net>\r\nTo: news@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.net>\r\n\r\n"
_LINE = b"%076d\r\n" % 0


def _content(size: int) -> bytes:
    return (_HEAD + _LINE * (size // len(_LINE)))[: size - 2] + b"\r\n"


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _round(members: int, domains: int, size: int) -> tuple[float, int, float, float]:
    """Seconds until it is durable, entries, MiB of log, µs a copy."""
    with tempfile.TemporaryDirectory() as name:
        folder = File(name)
        store = open_lists(folder / "lists.db")
        spool = await open_shard(folder / "shard", RealFiles(), time.time)
        numbers = count(1)
        token = token_at(int(time.time() * 1000), 0, 0)
        context = Context(store, "mx.example.org", time.time, lambda: Ticket(token, next(numbers)), 1 << 30)
        try:
            options = ListOptions(post="open", unsubscribe_url="https://example.org/u/{token}")
            made = await store.create("news", "news@example.org", options)
            people = ((f"m{n}@d{n % domains}.example.net", "") for n in range(members))
            await store.subscribe_all("news", people, now=time.time())
            envelope = Envelope(Path.parse("ann@example.net"), (Recipient(Path.parse("news@example.org")),))
            post = Deposit(context.new_ticket(), envelope, Bytes(_content(size)), time.time())
            await spool.commit([post])
            [entry] = await spool.due(time.time(), 1)
            began = time.perf_counter()
            deposits = await expand(context, made, entry)
            done = [RecipientOutcome(one, Fate.DONE) for one in entry.envelope.recipients]
            await spool.settle(entry.id, done, next_attempt=None, deposits=deposits)
            seconds = time.perf_counter() - began
            log = (folder / "shard" / "spool.db-wal").stat().st_size / 2**20
            copy = (await spool.due(time.time(), 1))[0]
            began = time.perf_counter()
            looks = await copies(context, copy, StaticResolver({}))
            assert looks is not None
            for recipient in copy.envelope.recipients:
                looks.of([recipient])
            each = (time.perf_counter() - began) / len(copy.envelope.recipients) * 1e6
            return seconds, len(deposits), log, each
        finally:
            await spool.close()
            await store.close()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    before = _peak_mib()
    print("domains      size   seconds   entries   log MiB   peak MiB   µs a copy")
    for domains in (10, asked.members):
        for size in (4 * 1024, 64 * 1024, 1024 * 1024):
            rounds = [asyncio.run(_round(asked.members, domains, size)) for _ in range(asked.rounds)]
            seconds = statistics.median(one[0] for one in rounds)
            each = statistics.median(one[3] for one in rounds)
            _, entries, log, _ = rounds[-1]
            grown = _peak_mib() - before
            print(f"{domains:7} {size:9} {seconds:9.3f} {entries:9} {log:9.1f} {grown:10.1f} {each:11.1f}")


if __name__ == "__main__":
    main()
