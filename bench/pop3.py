"""How fast mailboxes are read, beside Dovecot's POP3 server in the same run: `python bench/pop3.py`.

Both serve the same Maildirs (a copy each) on loopback in the clear, with the same hashes of the same passwords; Dovecot
with its own trace of what happened in its log, Gatepost with its trace. The clients are bench/pop3_load.c, 20 at a
time; what they can do against the least server there could be is printed first. Variants take turns, and each figure is
the median of its rounds. Dovecot starts a process for each session; in a row of its own it keeps them.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import measured
from measured import NotMeasured, Process, program

CLIENTS = 20
USERS = 2_000  # more than passwords are remembered, so that each login is computed
FEW = 400  # so that each is remembered, and nobody meets himself
SMALL, SMALLS = 4 * 1024, 500
LARGE, LARGES = 8 * 1024 * 1024, 2
LISTED = 10_000
PASSWORD = "correct-horse"
DOMAIN = "bench.example"

_DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = maildir:{folder}/mail/%d/%n
mail_uid = {owner}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 1000
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/{passwords}
}}
userdb {{
  driver = static
  args = home={folder}/mail/%d/%n
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
{login}
}}
service pop3 {{
{session}
}}
"""
_KEPT = ("  service_count = 0\n  process_min_avail = 2", "  service_count = 1000\n  process_min_avail = 20")
_GATEPOST = """
hostname = "pop.bench.example"
data = "{folder}/data"
workers = {workers}
[[listen]]
name = "pop"
address = "127.0.0.1:0"
protocol = "pop3"
auth_without_tls = true
[[route]]
match = "*@bench.example"
deliver = "maildir"
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one variant did: a rate (1/s), and µs of CPU of the server for one."""

    rate: float
    cpu_us: float


class Ground:
    """Mailboxes and hashes, made once. Invariant: a server gets a copy of its own of what it may change."""

    def __init__(self, folder: Path) -> None:
        from argon2 import PasswordHasher

        self.folder = folder
        folder.chmod(0o755)
        hasher = PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1)
        self.hashes = [hasher.hash(PASSWORD) for _ in range(USERS)]
        self.load = folder / "load"
        source = Path(__file__).with_name("pop3_load.c")
        subprocess.run(["cc", "-O2", "-o", self.load, source], check=True)

    def fill(self, mail: Path, kind: str) -> None:
        """Maildirs below `mail`, as `kind` says: empty, small, large, listed, foreign."""
        count, size = {
            "empty": (0, 0), "small": (SMALLS, SMALL), "large": (LARGES, LARGE),
            "listed": (LISTED, 512), "foreign": (LISTED, 512),
        }[kind]  # fmt: skip
        text = b"From: a@b.example\nSubject: x\n\n"
        text += (b"this is a line of a message, like any other\n" * (size // 44 + 1))[: max(0, size - len(text))]
        text = text[:-1] + b"\n"
        stored, sent = len(text), len(text) + text.count(b"\n")
        for user in range(1 if kind in ("listed", "foreign") else CLIENTS if count else 0):
            box = mail / DOMAIN / f"u{user}"
            for name in ("tmp", "new", "cur"):
                (box / name).mkdir(parents=True)
            first = mail / DOMAIN / "u0" / "new"
            for number in range(count):
                sizes = "" if kind == "foreign" else f",S={stored},W={sent}"
                name = f"{1_790_000_000 + number}.M1P{number}.host{sizes}"
                if user and size == LARGE:
                    os.link(first / name, box / "new" / name)
                else:
                    (box / "new" / name).write_bytes(text)


# ── the servers ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def dovecot(ground: Ground, kind: str, *, keeps: bool, plain: bool) -> Iterator[Process]:
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    folder = Path(tempfile.mkdtemp(prefix="dovecot-", dir=ground.folder))
    folder.chmod(0o755)
    (folder / "mail").mkdir()
    ground.fill(folder / "mail", kind)
    for path in (folder / "mail", *(folder / "mail").rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    for name, words in (
        ("plain", [f"{{PLAIN}}{PASSWORD}"] * USERS),
        ("hashed", [f"{{ARGON2ID}}{one}" for one in ground.hashes]),
    ):
        lines = (f"u{number}@{DOMAIN}:{word}\n" for number, word in enumerate(words))
        (folder / name).write_text("".join(lines))
    port = measured.free_port()
    login, session = _KEPT if keeps else ("", "")
    (folder / "conf").write_text(
        _DOVECOT.format(
            folder=folder, owner=owner.pw_uid, group=owner.pw_gid, port=port, login=login, session=session,
            passwords="plain" if plain else "hashed",
        )
    )  # fmt: skip
    server = subprocess.Popen([program("dovecot"), "-F", "-c", folder / "conf"], stderr=subprocess.DEVNULL)
    try:
        measured.wait_for(port)
        yield Process(server.pid, port)
    finally:
        server.terminate()
        measured.end(server)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def gatepost(ground: Ground, kind: str, *, workers: int) -> Iterator[Process]:
    folder = Path(tempfile.mkdtemp(prefix="gatepost-", dir=ground.folder))
    (folder / "data" / "mail").mkdir(parents=True)
    ground.fill(folder / "data" / "mail", kind)
    users = "".join(
        f'[[user]]\nname = "u{number}@{DOMAIN}"\npassword = "{one}"\n' for number, one in enumerate(ground.hashes)
    )
    settings = folder / "gatepost.toml"
    settings.write_text(_GATEPOST.format(folder=folder, workers=workers) + users)
    command = [sys.executable, "-m", "gatepost", "-c", str(settings), "run"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder)
    assert server.stdout is not None
    try:
        said = b""
        while not (found := re.search(rb"pop +127\.0\.0\.1:(\d+) ", said)) or b"try it" not in said:
            line = server.stdout.readline()
            if not line:
                raise NotMeasured(f"Gatepost didn't start: {(folder / 'log').read_text()}")
            said += line
        yield Process(server.pid, int(found[1]))
    finally:
        server.terminate()
        measured.end(server)
        server.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


VARIANTS: dict[str, Callable[[Ground, str, bool], AbstractContextManager[Process]]] = {
    "Dovecot": lambda ground, kind, plain: dovecot(ground, kind, keeps=False, plain=plain),
    "Dovecot, processes kept": lambda ground, kind, plain: dovecot(ground, kind, keeps=True, plain=plain),
    "Gatepost, one worker": lambda ground, kind, plain: gatepost(ground, kind, workers=1),
    "Gatepost, two workers": lambda ground, kind, plain: gatepost(ground, kind, workers=2),
}


# ── what is measured ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Load:
    """One load: which mailboxes, what the clients do, and what is counted: messages or logins, or MB."""

    name: str
    kind: str
    mode: str
    number: int
    plain: bool = True
    in_mb: bool = False


LOADS = (
    Load("logins/s, password known", "empty", "login", FEW),
    Load("logins/s, ARGON2ID", "empty", "login", USERS, plain=False),
    Load("RETR, 4 KiB, messages/s", "small", "retr", 1),
    Load("RETR, 4 KiB, ten ahead, messages/s", "small", "retr", 10),
    Load("RETR, 8 MiB, MB/s", "large", "retr", 1, in_mb=True),
)
LISTINGS = {"names with sizes": "listed", "names without": "foreign"}


def press(ground: Ground, process: Process, load: Load, seconds: float, *, is_ceiling: bool = False) -> Cell:
    """The clients at work; after a moment to get warm."""
    command = [str(ground.load), load.mode, str(process.port), str(CLIENTS)]
    rest = [str(load.number), PASSWORD]
    subprocess.run([*command, "1", *rest], check=True, stdout=subprocess.DEVNULL, timeout=60)
    used = process.cpu_s()
    done = subprocess.run([*command, str(seconds), *rest], check=True, capture_output=True, text=True, timeout=120)
    used = process.cpu_s() - used
    count, octets, elapsed, cpu, errors = map(float, done.stdout.split())
    if errors or not count:
        raise NotMeasured(f"{load.name}: {errors:.0f} errors")
    if cpu > 0.9 * elapsed and not is_ceiling:
        print(f"{load.name}: the clients were the limit", file=sys.stderr)
    amount = octets / 1e6 if load.in_mb else count
    return Cell(amount / elapsed, used / amount * 1e6)


def opening(process: Process) -> Cell:
    """Log in, LIST and UIDL: how often in a second that could be done, by one."""
    began, used = time.perf_counter(), process.cpu_s()
    with socket.create_connection(("127.0.0.1", process.port), 120) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for words in (b"", b"USER u0@bench.example\r\n", f"PASS {PASSWORD}\r\n".encode()):
            line.sendall(words)
            said = line.recv(1000)
            if not said.startswith(b"+OK"):
                raise NotMeasured(f"{words!r}: {said!r}")
        for words in (b"LIST\r\n", b"UIDL\r\n"):
            line.sendall(words)
            listed = bytearray()
            while not listed.endswith(b"\r\n.\r\n"):
                listed += line.recv(1 << 20)
            if (lines := listed.count(b"\n") - 2) != LISTED:
                raise NotMeasured(f"{words!r}: {lines} lines")
        elapsed = time.perf_counter() - began
        line.sendall(b"QUIT\r\n")
        line.recv(1000)
    return Cell(1 / elapsed, (process.cpu_s() - used) * 1e6)


def ceiling(ground: Ground, seconds: float) -> str:
    """What the clients can do."""
    told = []
    for load in LOADS:
        size = {"small": SMALL, "large": LARGE}.get(load.kind, 64)
        server = subprocess.Popen([ground.load, "serve", str(size)], stdout=subprocess.PIPE)
        assert server.stdout is not None
        try:
            cell = press(ground, Process(server.pid, int(server.stdout.readline())), load, seconds, is_ceiling=True)
        finally:
            server.terminate()
            server.wait()
            server.stdout.close()
        told.append(f"{load.name} {cell.rate:,.0f}")
    return "The clients can do: " + "; ".join(told) + "."


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


def report(rounds: int, seconds: float, only: Sequence[str], wanted: Sequence[str]) -> str:
    variants = {name: start for name, start in VARIANTS.items() if not only or any(part in name for part in only)}
    loads = [load for load in LOADS if not wanted or any(part in load.name for part in wanted)]
    listings = {name: kind for name, kind in LISTINGS.items() if not wanted or any(part in name for part in wanted)}
    rows: dict[str, dict[str, list[Cell]]] = {}

    def note(row: str, variant: str, cell: Cell) -> None:
        rows.setdefault(row, {}).setdefault(variant, []).append(cell)
        print(f"{row:<44} {variant:<26} {cell.rate:10.1f}/s {cell.cpu_us:10.0f} µs", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="pop3-bench-") as folder:
        ground = Ground(Path(folder))
        most = ceiling(ground, min(2.0, seconds))
        for _ in range(rounds):
            for load in loads:
                for name, start in variants.items():
                    with start(ground, load.kind, load.plain) as process:
                        note(load.name, name, press(ground, process, load, seconds))
            for words, kind in listings.items():
                for name, start in variants.items():
                    with start(ground, kind, True) as process:
                        note(f"login, LIST, UIDL of 10,000, {words}, first", name, opening(process))
                        again = [opening(process) for _ in range(9)]
                        rate = statistics.median(cell.rate for cell in again)
                        cpu = statistics.mean(cell.cpu_us for cell in again)
                        note(f"login, LIST, UIDL of 10,000, {words}, again", name, Cell(rate, cpu))
    return most + "\n\n" + shown(rows, list(variants))


def shown(rows: dict[str, dict[str, list[Cell]]], variants: Sequence[str]) -> str:
    lines = ["| | " + " | ".join(variants) + " |", "|---|" + "---:|" * len(variants)]
    for row, cells in rows.items():
        base = cells.get("Dovecot")
        told = []
        for name in variants:
            rate = statistics.median(cell.rate for cell in cells[name])
            cpu = statistics.median(cell.cpu_us for cell in cells[name])
            ratio = f" · {rate / statistics.median(cell.rate for cell in base):.2f}" if base else ""
            amount = f"{1000 / rate:,.0f} ms" if row.startswith("login, ") else f"{rate:,.0f}"
            told.append(
                f"{amount}{ratio} · {cpu / 1000:,.0f} ms" if cpu > 20_000 else f"{amount}{ratio} · {cpu:,.0f} µs"
            )
        lines.append(f"| {row} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of variants")
    parser.add_argument("--load", nargs="*", default=(), help="parts of the names of rows")
    options = parser.parse_args()
    try:
        print(report(options.rounds, options.seconds, options.only, options.load))
    except NotMeasured as error:
        sys.exit(f"not measured: {error}")


if __name__ == "__main__":
    main()
