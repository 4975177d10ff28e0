"""How fast mail is collected, beside fetchmail in the same run: `python bench/collecting.py`.

Both fetch the same messages from Dovecot on loopback and leave them there: Gatepost into its spool, durable, with what
it notes of each; fetchmail hands them to Postfix's smtp-sink, which keeps nothing. Each figure is the median of its
rounds, which take turns; Gatepost's is the time of the run itself, fetchmail's that of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import measured
import pop3

COUNT = 2_000
SIZE = 2 * 1024
USER = f"u0@{pop3.DOMAIN}"

_GATEPOST = """
hostname = "mx.bench.example"
data = "{folder}/data"
workers = 1
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "*@{domain}"
deliver = "discard"
[[collect]]
name = "bench"
server = "127.0.0.1:{port}"
tls = "none"
user = "{user}"
password = "{password}"
to = "{user}"
every = "0s"
keep = "forever"
at_most = 100000
"""
_FETCHMAIL = """
poll 127.0.0.1 service {port} protocol pop3 user "{user}" password "{password}" sslproto "" smtphost 127.0.0.1/{sink}
  fetchall keep
"""


class Ground(pop3.Ground):
    """One mailbox."""

    def fill(self, mail: Path, kind: str) -> None:
        box = mail / pop3.DOMAIN / "u0"
        for name in ("tmp", "new", "cur"):
            (box / name).mkdir(parents=True)
        for number in range(COUNT):
            text = f"Return-Path: <a@b.example>\nFrom: a@b.example\nSubject: number {number}\n\n".encode()
            text += b"this is a line of a message, like any other\n" * ((SIZE - len(text)) // 44)
            (box / "new" / f"{1_790_000_000 + number}.M1P{number}.host").write_bytes(text)


def by_gatepost(port: int) -> float:
    """Messages a second."""
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as folder:
        settings = Path(folder) / "gatepost.toml"
        facts = {"folder": folder, "domain": pop3.DOMAIN, "user": USER, "password": pop3.PASSWORD}
        settings.write_text(_GATEPOST.format(port=port, **facts))
        command = [sys.executable, "-m", "gatepost", "-c", str(settings), "fetch", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        (report,) = json.loads(done.stdout)
        if report["taken"] != COUNT:
            raise measured.NotMeasured(f"Gatepost: {report}")
        return COUNT / (report["ended"] - report["began"])


def by_fetchmail(port: int, sink: int) -> float:
    """Messages a second."""
    with tempfile.TemporaryDirectory(prefix="fetchmail-bench-") as folder:
        settings = Path(folder) / "rc"
        settings.write_text(_FETCHMAIL.format(port=port, user=USER, password=pop3.PASSWORD, sink=sink))
        settings.chmod(0o600)
        command = [measured.program("fetchmail"), "-f", str(settings), "--silent", "--nosyslog"]
        began = time.perf_counter()
        done = subprocess.run(command, env={**os.environ, "FETCHMAILHOME": folder}, timeout=300, capture_output=True)
        if done.returncode:
            raise measured.NotMeasured(f"fetchmail: {done.returncode} {done.stdout!r} {done.stderr!r}")
        return COUNT / (time.perf_counter() - began)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rounds", type=int, default=3)
    rounds = asked.parse_args().rounds
    with ExitStack() as stack:
        ground = Ground(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collecting-bench-"))))
        other = stack.enter_context(pop3.dovecot(ground, "small", keeps=True, plain=True))
        sink = stack.enter_context(measured.sink())
        rates: dict[str, list[float]] = {"Gatepost": [], "fetchmail": []}
        for _ in range(rounds):
            rates["Gatepost"].append(by_gatepost(other.port))
            rates["fetchmail"].append(by_fetchmail(other.port, sink.port))
    ours, theirs = (statistics.median(each) for each in rates.values())
    print(f"{COUNT:,} messages of {SIZE // 1024} KiB from Dovecot, messages/s, median of {rounds}")
    print(f"Gatepost {ours:,.0f} · fetchmail {theirs:,.0f} · ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
