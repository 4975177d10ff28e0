"""How fast a queue is emptied into smtp-sink, beside Postfix's in the same run: `python bench/queue_rate.py`.

Ten thousand messages of 4 KiB wait, for one destination or for fifty (loopback addresses of one sink). Both servers
have 20 connections at a time to a destination at most, begin with 5, keep connections, and sync what they promise; the
clock runs from the first percent that has left the queue until it is empty. Postfix is a private instance, with a
configuration and a queue of its own in a temporary folder; its queue is filled while it has no queue manager.
"""

from __future__ import annotations

import argparse
import asyncio
import grp
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measured
from measured import NotMeasured, Process, program

SIZE = 4096
CONCURRENCY = 20
_TOGETHER = 500
_LONGEST_S = 600.0


@dataclass(slots=True)
class Row:
    """One variant, a value for each round: messages/s, and µs of CPU a message."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def address(number: int) -> str:
    return f"127.0.1.{number + 1}"


# ── the sink ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def sink() -> Iterator[Process]:
    """smtp-sink at every loopback address."""
    port = measured.free_port()
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    server = subprocess.Popen([program("smtp-sink"), *user, "-m", "5000", f"0.0.0.0:{port}", "1024"])
    try:
        measured.wait_for(port)
        yield Process(server.pid, port)
    finally:
        server.terminate()
        measured.end(server)


# ── Gatepost ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def fill(data: Path, count: int, destinations: int, workers: int) -> None:
    """Commit the messages, evenly over the workers' shards."""
    from gatepost.model import Bytes, Envelope, Recipient, Ticket, token_at
    from gatepost.model import Path as Address
    from gatepost.store.embedded import open_shard
    from gatepost.store.files import RealFiles
    from gatepost.store.spool import Deposit

    content = Bytes(b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * (SIZE // 78))
    sender = Address.parse("ann@own.example")
    now = time.time()
    for shard in range(workers):
        token = token_at(int(now * 1000), shard, 1)
        (data / "shards").mkdir(parents=True, exist_ok=True)
        spool = await open_shard(data / "shards" / str(shard), RealFiles(), time.time)
        mine = range(shard, count, workers)
        for at in range(0, len(mine), _TOGETHER):
            await spool.commit(
                [
                    Deposit(
                        Ticket(token, number + 1),
                        Envelope(sender, (Recipient(Address.parse(f"u{number}@d{number % destinations}.example")),)),
                        content,
                        now,
                    )
                    for number in mine[at : at + _TOGETHER]
                ]
            )
        await spool.close()


async def empty(data: Path, shard: int, workers: int, port: int, destinations: int) -> dict[str, float]:
    """Be one worker until its queue is empty; when it began and ended, and its CPU."""
    from gatepost.app.running import collect_seldom
    from gatepost.app.settings import load
    from gatepost.app.worker import Worker

    routes = [
        {"match": f"*@d{n}.example", "deliver": f"relay {address(n)}:{port}", "recipients": "any"}
        for n in range(destinations)
    ]
    overrides = {
        "hostname": "mx.example.org",
        "data": str(data),
        "delivery": {"concurrency": CONCURRENCY},
        "listen": ["127.0.0.1:0"],
        "route": routes,
    }
    worker = Worker(load(None, environ={}, overrides=overrides), shard=shard, workers=workers)
    await worker.start({})
    collect_seldom()
    spool = worker.stores.spool
    whole = spool.counts().queued
    began, used = 0.0, 0.0
    while queued := spool.counts().queued:
        if not began and queued <= whole * 0.99:
            began, used, counted = time.monotonic(), time.process_time(), queued
        await asyncio.sleep(0.01)
    ended, cpu = time.monotonic(), time.process_time() - used
    await worker.stop(1)
    return {"began": began, "ended": ended, "cpu_us": cpu / counted * 1e6}


def gatepost(count: int, destinations: int, workers: int) -> tuple[float, float]:
    data = Path(tempfile.mkdtemp(prefix="gatepost-queue-"))
    try:
        asyncio.run(fill(data, count, destinations, workers))
        with sink() as target:
            command = [sys.executable, __file__, "--empty", str(data), "--destinations", str(destinations)]
            command += ["--workers", str(workers), "--port", str(target.port)]
            running = [
                subprocess.Popen([*command, "--shard", str(shard)], stdout=subprocess.PIPE) for shard in range(workers)
            ]
            told = [json.loads(one.communicate(timeout=_LONGEST_S)[0]) for one in running]
    finally:
        shutil.rmtree(data, ignore_errors=True)
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    return count * 0.99 / seconds, statistics.mean(one["cpu_us"] for one in told)


# ── Postfix ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}/log
myhostname = postfix.example.org
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
disable_dns_lookups = yes
smtp_tls_security_level = none
transport_maps = texthash:{folder}/etc/transport
default_destination_concurrency_limit = {concurrency}
initial_destination_concurrency = 5
default_process_limit = 200
smtp_connection_cache_on_demand = yes
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
scache    unix  - - n - 1 scache
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""
_MANAGER = "qmgr unix n - n 300 1 qmgr\n"
_DAEMONS = Path("/usr/lib/postfix/sbin")


class Postfix:
    """A private instance. `start` and `end` are of its master, by process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = measured.free_port()
        self._master: subprocess.Popen[bytes] | None = None
        folder.chmod(0o755)
        owner, drop = pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postdrop").gr_gid
        for name in ("etc", "log", "data", "queue"):
            (folder / name).mkdir()
        os.chown(folder / "data", owner, -1)
        for name in (
            "active",
            "bounce",
            "corrupt",
            "defer",
            "deferred",
            "flush",
            "hold",
            "incoming",
            "private",
            "saved",
        ):
            (folder / "queue" / name).mkdir(mode=0o700)
            os.chown(folder / "queue" / name, owner, -1)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (folder / "queue" / name).mkdir()
            os.chown(folder / "queue" / name, owner, drop)
            (folder / "queue" / name).chmod(mode)
        (folder / "queue" / "pid").mkdir()

    def configure(self, sink_port: int, destinations: int, *, with_manager: bool) -> None:
        etc = self.folder / "etc"
        told = {"folder": self.folder, "daemons": _DAEMONS, "concurrency": CONCURRENCY}
        (etc / "main.cf").write_text(_MAIN.format(**told))
        (etc / "master.cf").write_text(_MASTER.format(port=self.port) + (_MANAGER if with_manager else ""))
        lines = (f"d{n}.example smtp:[{address(n)}]:{sink_port}\n" for n in range(destinations))
        (etc / "transport").write_text("".join(lines))

    def start(self) -> Process:
        self._master = subprocess.Popen([_DAEMONS / "master", "-d", "-c", self.folder / "etc"])
        measured.wait_for(self.port)
        return Process(self._master.pid, self.port)

    def end(self) -> None:
        if self._master is not None:
            self._master.terminate()
            measured.end(self._master)
            self._master = None

    def queued(self) -> int:
        return sum(len(os.listdir(self.folder / "queue" / name)) for name in ("incoming", "active"))

    def deferred(self) -> int:
        return sum(1 for path in (self.folder / "queue" / "deferred").rglob("*") if path.is_file())


def postfix(count: int, destinations: int) -> tuple[float, float]:
    if os.getuid() != 0:
        raise NotMeasured("a private Postfix needs root, to become its own users")
    folder = Path(tempfile.mkdtemp(prefix="postfix-queue-"))
    instance = Postfix(folder)
    try:
        with sink() as target:
            instance.configure(target.port, destinations, with_manager=False)
            instance.start()
            source = [program("smtp-source"), "-s", "10", "-d", "-l", str(SIZE), "-f", "ann@own.example"]
            for number in range(destinations):
                some = ["-m", str(count // destinations), "-t", f"u@d{number}.example", f"127.0.0.1:{instance.port}"]
                subprocess.run([*source, *some], check=True, timeout=_LONGEST_S)
            instance.end()
            whole = instance.queued()
            if whole < count * 0.99:
                raise NotMeasured(f"Postfix has queued {whole} of {count}")
            instance.configure(target.port, destinations, with_manager=True)
            process = instance.start()
            began = wait(lambda: instance.queued() <= whole * 0.99)
            used = process.cpu_s()
            ended = wait(lambda: not instance.queued())
            if instance.deferred():
                raise NotMeasured(f"Postfix has deferred {instance.deferred()} messages; see {folder}/log")
            return whole * 0.99 / (ended - began), (process.cpu_s() - used) / (whole * 0.99) * 1e6
    finally:
        instance.end()
        shutil.rmtree(folder, ignore_errors=True)


def wait(is_so: Callable[[], bool]) -> float:
    """When it was so first (s, monotonic)."""
    until = time.monotonic() + _LONGEST_S
    while not is_so():
        if time.monotonic() > until:
            raise NotMeasured("Postfix's queue doesn't empty")
        time.sleep(0.02)
    return time.monotonic()


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


def report(count: int, rounds: int, only: Sequence[str] = ()) -> str:
    variants: dict[str, Callable[[int], tuple[float, float]]] = {
        "Postfix": lambda destinations: postfix(count, destinations),
        "Gatepost, one worker": lambda destinations: gatepost(count, destinations, 1),
        "Gatepost, two workers": lambda destinations: gatepost(count, destinations, 2),
    }
    variants = {name: do for name, do in variants.items() if not only or any(part in name for part in only)}
    rows: dict[tuple[str, int], Row] = {}
    for _ in range(rounds):
        for destinations in (1, 50):
            for name, do in variants.items():
                rate, cpu = do(destinations)
                row = rows.setdefault((name, destinations), Row())
                row.rates.append(rate)
                row.cpu_us.append(cpu)
                print(f"{name:<24} {destinations:>3}  {rate:8.0f}/s  {cpu:6.0f} µs", file=sys.stderr, flush=True)
    lines = ["| messages/s · ratio to Postfix · CPU per message | 1 destination | 50 destinations |", "|---|---:|---:|"]
    for name in variants:
        cells = []
        for destinations in (1, 50):
            mine, theirs = rows[name, destinations], rows.get(("Postfix", destinations))
            rate = statistics.median(mine.rates)
            ratio = f" · {rate / statistics.median(theirs.rates):.2f}" if theirs is not None else ""
            cells.append(f"{rate:,.0f}{ratio} · {statistics.median(mine.cpu_us):,.0f} µs")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of variants")
    parser.add_argument("--destinations", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--empty", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.empty is not None:
        from gatepost.app.running import loop_factory

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            told: Any = runner.run(
                empty(options.empty, options.shard, options.workers, options.port, options.destinations)
            )
        print(json.dumps(told))
        return
    try:
        print(report(options.messages, options.rounds, options.only))
    except NotMeasured as error:
        sys.exit(f"not measured: {error}")


if __name__ == "__main__":
    main()
