"""One real process, its system calls in order: what a 250 promises is on the disk before the 250 is on the wire."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from crash.load import SETTINGS
from house.peers import free_port
from house.server_process import ServerProcess, eventually, mail_in
from programs import program

WRITES = ("write", "writev", "pwrite64")
SYNCS = ("fsync", "fdatasync")
CALLS = ",".join([*WRITES, *SYNCS, "sendto", "sendmsg", "openat", "rename", "link", "linkat"])
pytestmark = pytest.mark.needs("strace")


@dataclass
class Call:
    """A system call: its arguments, file descriptors with their paths, and the lines at which it began and returned."""

    name: str
    text: str
    began: int
    ended: int


class Calls:
    """Everything a process asked for, from strace's log; threads interleave, so a call has a beginning and an end."""

    def __init__(self, log: str) -> None:
        self.all: list[Call] = []
        under_way: dict[str, Call] = {}
        for at, line in enumerate(log.splitlines()):
            thread, _, text = line.partition(" ")
            text = text.strip()
            if text.startswith("<... "):
                call = under_way.pop(thread)
                call.text += text
                call.ended = at
            elif found := re.match(r"(\w+)\(", text):
                call = Call(found[1], text, at, at)
                if text.endswith("<unfinished ...>"):
                    under_way[thread] = call
                    call.ended = sys.maxsize
                self.all.append(call)

    def find(self, names: tuple[str, ...], pattern: str, after: int = -1, before: int = sys.maxsize) -> list[Call]:
        """The calls with these names and something in their text, begun after a line and returned before another."""
        return [
            call
            for call in self.all
            if call.name in names and after < call.began and call.ended < before and re.search(pattern, call.text)
        ]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Calls, str, str]]:
    """The calls of a server that takes a message of 1 KiB and one of 200 KiB, and their tickets."""
    folder = tmp_path_factory.mktemp("strace")
    log = folder / "calls"
    (folder / "gatepost.toml").write_text(SETTINGS.format(workers=1, port=free_port()))
    strace = [program("strace"), "-D", "-f", "-y", "-s", "64", "-o", str(log), "-e", f"trace={CALLS}"]
    tickets = []
    with ServerProcess(folder, command=[*strace, sys.executable, "-m", "gatepost", "run"]) as server:
        for number, size in enumerate([1024, 200 * 1024], 1):
            with server.connect() as client:
                client.begin_message("ann@example.org")
                client.send(b"Subject: traced\r\n\r\n" + (b"x" * 62 + b"\r\n") * (size // 64) + b".\r\n")
                said = client.reply()
                assert said.startswith("250 2.0.0 "), said
                tickets.append(said.rpartition(" ")[2])
            eventually(lambda number=number: len(mail_in(folder / "data")) == number)
        pid = server.process.pid
        assert server.stop() == 0
    eventually(lambda: re.search(rf"^{pid} +\+\+\+ exited with 0", log.read_text(), re.MULTILINE))
    yield Calls(log.read_text()), *tickets


def reply(calls: Calls, ticket: str) -> Call:
    """The writing of a message's 250 to its socket."""
    [said] = calls.find(("write", "writev", "sendto", "sendmsg"), rf'^\w+\(\d+<(socket|TCP)\S*, .*"250 .*{ticket}')
    return said


def test_the_row_is_synced_before_the_250(traced: tuple[Calls, str, str]) -> None:
    calls, *tickets = traced
    for ticket in tickets:
        said = reply(calls, ticket)
        asked = calls.find(("write", "writev", "sendto", "sendmsg"), '"354 ', before=said.began)[-1]
        rows = calls.find(WRITES, r"spool\.db-wal>", asked.ended, said.began)
        assert rows, "the row is written between the 354 and the 250"
        assert calls.find(SYNCS, r"spool\.db-wal>", rows[-1].ended, said.began)


def test_the_name_of_the_database_is_synced_before_the_first_250(traced: tuple[Calls, str, str]) -> None:
    calls, first, _ = traced
    for name in "spool.db", "spool.db-wal":
        [made] = calls.find(("openat",), rf'/shards/0/{name}", [^)]*O_CREAT')[:1]
        assert calls.find(SYNCS, r"<\S+/data/shards/0>", made.ended, reply(calls, first).began), name


def test_a_file_and_its_folder_are_synced_before_the_row_that_names_it(traced: tuple[Calls, str, str]) -> None:
    calls, _, ticket = traced
    said = reply(calls, ticket)
    written = calls.find(WRITES, rf"<\S+/incoming/{ticket}>", before=said.began)
    assert written
    [named] = calls.find(("link", "linkat", "rename"), rf'/bodies/{ticket}"', written[-1].ended, said.began)
    assert calls.find(SYNCS, rf"<\S+/incoming/{ticket}>", written[-1].ended, named.began)
    [folder] = calls.find(SYNCS, r"<\S+/bodies>", named.ended, said.began)
    assert calls.find(WRITES, r"spool\.db-wal>", written[-1].ended, said.began)[0].began > folder.ended


def test_the_maildir_is_synced_before_the_row_is_removed(traced: tuple[Calls, str, str]) -> None:
    calls, *tickets = traced
    for ticket in tickets:
        said = reply(calls, ticket)
        written = calls.find(WRITES, rf"<\S+/tmp/[^/]*{ticket}R")
        [synced] = calls.find(SYNCS, rf"<\S+/tmp/[^/]*{ticket}R", written[-1].ended)
        [renamed] = calls.find(("rename",), rf"/new/[^/]*{ticket}R", synced.ended)
        folder = calls.find(SYNCS, r"<\S+/ann/new>", renamed.ended)[0]
        forgotten = calls.find(WRITES, r"spool\.db-wal>", said.began)[0]
        assert folder.ended < forgotten.began
