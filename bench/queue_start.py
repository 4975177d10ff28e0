"""How long a queue takes to be taken up, and how much memory it needs: `python bench/queue_start.py [--entries N]`.

Two queues, of messages of 4 KiB: for a few domains from one sender, and each for a domain and from a sender of its own.
Each is opened by a fresh process; the disk's pages are dropped from memory before the cold run, where that is allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOAL_S, GOAL_MIB = 5.0, 300
_TOGETHER = 500


async def fill(folder: Path, entries: int, *, is_wide: bool) -> None:
    """Commit so many messages, a tenth of them deferred once."""
    from gatepost.model import Bytes, Envelope, Recipient, Ticket, token_at
    from gatepost.model import Path as Address
    from gatepost.store.embedded import open_shard
    from gatepost.store.files import RealFiles
    from gatepost.store.spool import Deposit, Fate, RecipientOutcome

    now = time.time()
    token = token_at(int(now * 1000), 0, 1)
    content = Bytes(b"Subject: x\r\n\r\n" + b"x" * 78 * 52)
    spool = await open_shard(folder, RealFiles(), time.time)
    for at in range(0, entries, _TOGETHER):
        deposits = []
        for number in range(at, min(entries, at + _TOGETHER)):
            domain = f"d{number if is_wide else number % 50}.example"
            sender = Address.parse(f"a@s{number if is_wide else 1}.example")
            envelope = Envelope(sender, (Recipient(Address.parse(f"user{number}@{domain}")),))
            deposits.append(Deposit(Ticket(token, number + 1), envelope, content, now - 3600))
        await spool.commit(deposits)
    for entry in await spool.due(now, entries // 10):
        [recipient] = entry.envelope.recipients
        outcome = RecipientOutcome(recipient, Fate.LATER, "450 4.2.1 the mailbox is full, try again later")
        await spool.settle(entry.id, [outcome], next_attempt=now + 3600)
    await spool.close()


async def take_up(folder: Path) -> dict[str, Any]:
    """Open the shard and lease what a runner would; seconds, and MiB of resident memory."""
    import gatepost.delivery
    from gatepost.store.embedded import open_shard
    from gatepost.store.files import RealFiles

    assert gatepost.delivery  # what a server has loaded anyway
    before = resident_mib()
    began, used = time.perf_counter(), time.process_time()
    spool = await open_shard(folder, RealFiles(), time.time)
    opened = time.perf_counter() - began
    leased = await spool.due(time.time(), 500, leaves_room=True)
    first = time.perf_counter() - began
    counts = spool.counts()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {
        "entries": counts.queued,
        "leased": len(leased),
        "opened_s": opened,
        "first_s": first,
        "cpu_s": time.process_time() - used,
        "before_mib": before,
        "after_mib": resident_mib(),
        "peak_mib": peak,
    }
    await spool.close()
    return facts


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measured(folder: Path, *, is_cold: bool) -> dict[str, Any]:
    if is_cold:
        os.sync()
        for file in folder.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, __file__, "--open", str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout))


def report(entries: int) -> str:
    lines = [
        f"| {entries:,} messages of 4 KiB | open | first 500 in hand | CPU | resident memory | of which the queue |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, is_wide in (("50 domains, one sender", False), ("each with its own domain and sender", True)):
        folder = Path(tempfile.mkdtemp(prefix="gatepost-queue-"))
        try:
            asyncio.run(fill(folder, entries, is_wide=is_wide))
            for heat in ("cold", "warm"):
                told = measured(folder, is_cold=heat == "cold")
                lines.append(
                    f"| {name}, {heat} | {told['opened_s']:.2f} s | {told['first_s']:.2f} s | {told['cpu_s']:.2f} s "
                    f"| {told['peak_mib']:.0f} MiB | {told['after_mib'] - told['before_mib']:.0f} MiB |"
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    lines.append(f"| must | {GOAL_S:.0f} s | | | {GOAL_MIB} MiB | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open is not None:
        print(json.dumps(asyncio.run(take_up(options.open))))
        return
    print(report(options.entries))


if __name__ == "__main__":
    main()
