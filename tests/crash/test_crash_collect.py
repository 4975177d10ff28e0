"""`gatepost fetch` killed at chosen steps of what it writes, while it collects from a server that counts.

However often it dies, in the end each message is in the Maildir once, and none is left on the other server. The walk
over every step of a run, with doubles, is in tests/unit/collecting; here it is the process, the disk and a socket.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

from unit.collecting_remote.bad_server import BadServer

MORTAL = str(Path(__file__).with_name("mortal_server.py"))
KILLS = int(os.environ.get("CRASH_KILLS", "24")) // 4
LARGE = 90_000  # octets: content that rests in a file
SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = 1

[[listen]]
address = "127.0.0.1:0"

[[route]]
match = "*@example.org"
deliver = "maildir"

[[user]]
name = "ann@example.org"

[[collect]]
name = "isp"
server = "127.0.0.1:{port}"
tls = "none"
user = "ann"
password = "secret"
to = "ann@example.org"
every = "0s"
keep = "0s"
"""


def mail(number: int) -> bytes:
    body = b"all work and no play\r\n" * (LARGE // 22 if number % 3 == 0 else 1)
    return b"Return-Path: <carl@example.com>\r\nSubject: number %d\r\n\r\n%s" % (number, body)


async def fetch(folder: Path, die_at: int = 0) -> tuple[int, str]:
    """The exit code, and what it said."""
    command = [MORTAL] if die_at else ["-m", "gatepost"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "fetch",
        cwd=folder, env={**os.environ, "DIE_AT": str(die_at)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_killed_at_chosen_steps_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    put = 0
    died: Counter[str] = Counter()
    async with BadServer().running() as other:
        (tmp_path / "gatepost.toml").write_text(SETTINGS.format(port=other.port))
        for number in range(KILLS):
            for _ in range(2):
                put += 1
                other.mail.append(mail(put))
                other.uids.append(f"name{put}")
            code, said = await fetch(tmp_path, die_at=15 + number * 70 // KILLS)
            if code == -signal.SIGKILL:
                died.update(re.findall(r"^died at (\w+) ", said, re.MULTILINE))
            else:
                assert code == 0, said
        code, said = await fetch(tmp_path)
        assert code == 0, said
        assert other.mail == []
    code, said = await fetch(tmp_path)  # what it delivers from the queue is delivered now, and the server is gone
    assert code == 75, said
    found: Counter[int] = Counter()
    for path in (tmp_path / "data/mail/example.org/ann/new").iterdir():
        content = path.read_bytes()
        mark = re.search(rb"^Subject: number (\d+)$", content, re.MULTILINE)
        assert mark is not None
        number = int(mark[1])
        assert content.endswith(mail(number).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"))
        found[number] += 1
    print(f"\n{put} messages, killed {died.total()} times: {dict(died)}")
    assert found == Counter(range(1, put + 1))
    assert died.total() >= KILLS // 2
    assert len(died) >= 2
