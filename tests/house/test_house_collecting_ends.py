"""A run that is cut off from outside: its worker killed, its server stopped. The next one goes on from there."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from house.server_process import LOOPBACK, ServerProcess, eventually
from unit.collecting_remote.bad_server import SILENCE, BadServer

SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = {workers}

[[listen]]
address = "127.0.0.1:0"

[[route]]
match = "*@example.org"
deliver = "maildir"

[[user]]
name = "ann@example.org"

[[collect]]
name = "isp"
server = "{loopback}:{port}"
tls = "none"
user = "ann"
password = "secret"
to = "ann@example.org"
every = "0s"
keep = "0s"
"""
MAIL = [b"Subject: number %d\r\n\r\nhere it is\r\n" % number for number in range(3)]


@contextmanager
def other_server() -> Iterator[BadServer]:
    """One that gives the first message and then says nothing more, until its script is cleared."""
    server = BadServer([*MAIL], uids=["a", "b", "c"], says={"RETR 2": b"+OK\r\nSubject: num" + SILENCE})
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server.running():
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def subjects(folder: Path) -> list[str]:
    found = (path.read_text() for path in (folder / "data/mail/example.org/ann/new").glob("*"))
    return sorted(text.partition("Subject: ")[2].partition("\n")[0] for text in found)


@pytest.mark.parametrize("how", ["worker killed", "server stopped"])
def test_a_run_that_is_cut_off_is_taken_up_again(tmp_path: Path, how: str) -> None:
    with other_server() as other:
        settings = SETTINGS.format(workers=2 if how == "worker killed" else 1, loopback=LOOPBACK, port=other.port)
        (tmp_path / "gatepost.toml").write_text(settings)
        with ServerProcess(tmp_path, "run") as running:
            assert running.ask("fetch", "--background").returncode == 0
            eventually(lambda: "RETR 2" in other.heard)
            if how == "worker killed":
                before = running.workers()[0]
                os.kill(before, signal.SIGKILL)
                eventually(lambda: running.workers().get(0) not in (None, before))
            else:
                running.process.send_signal(signal.SIGTERM)
                assert running.process.wait(20) == 0
            other.says.clear()
            assert other.mail == MAIL
            eventually(lambda: running.ask("fetch").returncode == 0)
            eventually(lambda: subjects(tmp_path) == ["number 0", "number 1", "number 2"])
            assert other.mail == []
            assert "Traceback" not in running.log
