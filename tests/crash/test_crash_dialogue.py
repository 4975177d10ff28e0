"""The server killed at every step of its dialogue with the next server, before and after each answer.

Three recipients of one message: one is delivered, one refused, one put off. Whatever the step, afterwards the message
has arrived, its sender has one notice of the failure, and a second copy exists only where the 250 was on its way,
to us or to our disk.
"""

from __future__ import annotations

import os
import signal
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from house.premises import fresh_mark
from house.server_process import LOOPBACK, ServerProcess, eventually, gatepost

STEPS = [
    (line, moment)
    for line in ("(connected)", "EHLO", "MAIL", "RCPT 1", "RCPT 2", "RCPT 3", "DATA", "(content)", ".", "QUIT")
    for moment in ("before", "after")
]
# LMTP's dialogue is the same machine up to the dot: a step of each kind before it, and all from there on
LMTP_STEPS = [
    *[step for step in STEPS if step[0] in ("(content)", ".", "QUIT")],
    *(("EHLO", "after"), ("RCPT 2", "before"), ("DATA", "after")),
]
# after the dot the answer is the message's: we can't know whether it was read, or its settlement had reached the disk
IN_FLIGHT = {(line, moment) for line in (".", "QUIT") for moment in ("before", "after")}
SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = 1
[delivery]
first = "1s"
max = "1s"
reuse = "0s"
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "*@example.org"
deliver = "maildir"
[[route]]
match = "*@next.example"
deliver = "{way} 127.0.0.1:{port}"
for = "anyone"
recipients = "any"
[[user]]
name = "ann@example.org"
"""


@dataclass
class Deadly:
    """The next server. It kills its client at one step, and is an ordinary server from then on."""

    step: tuple[str, str]
    lmtp: bool
    victim: int = 0
    has_killed: bool = False
    taken: list[tuple[str, ...]] = field(default_factory=list)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, line: str, moment: str) -> bool:
        """Whether the client is dead now."""
        with self.lock:
            if self.has_killed or (line, moment) != self.step:
                return False
            self.has_killed = True
            os.kill(self.victim, signal.SIGKILL)
            return True


class Session(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        try:
            self._serve(self.server.deadly)
        except OSError:
            return

    def _say(self, deadly: Deadly, step: str, *lines: str) -> bool:
        """Answer, with the two moments around it; whether the session goes on."""
        if deadly.at(step, "before"):
            return False
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
        self.wfile.flush()
        return not deadly.at(step, "after")

    def _serve(self, deadly: Deadly) -> None:
        if not self._say(deadly, "(connected)", "220 next.example"):
            return
        accepted: list[str] = []
        asked = 0
        while line := self.rfile.readline():
            verb = line[:4].decode().upper()
            match verb:
                case "EHLO" | "LHLO":
                    goes_on = self._say(deadly, "EHLO", "250-next.example", "250 ENHANCEDSTATUSCODES")
                case "MAIL":
                    accepted, asked = [], 0
                    goes_on = self._say(deadly, "MAIL", "250 2.1.0 ok")
                case "RCPT":
                    asked += 1
                    address = line.decode().partition("<")[2].partition(">")[0]
                    reply = self._reply_to(deadly, address)
                    accepted += [address] if reply.startswith("250") else []
                    goes_on = self._say(deadly, f"RCPT {asked}", reply)
                case "DATA":
                    goes_on = self._say(deadly, "DATA", "354 go") and self._content(deadly, accepted)
                case "QUIT":
                    goes_on = self._say(deadly, "QUIT", "221 bye") and False
                case _:
                    goes_on = self._say(deadly, verb, "250 2.0.0 ok")
            if not goes_on:
                return

    def _reply_to(self, deadly: Deadly, address: str) -> str:
        match address.partition("@")[0]:
            case "nobody":
                return "550 5.1.1 there is nobody of that name"
            case "busy" if not deadly.has_killed:
                return "450 4.2.1 busy"
            case _:
                return "250 2.1.5 ok"

    def _content(self, deadly: Deadly, accepted: list[str]) -> bool:
        if deadly.at("(content)", "before"):
            return False
        while (line := self.rfile.readline()) != b".\r\n":
            if not line or deadly.at("(content)", "after"):
                return False
        with deadly.lock:
            deadly.taken.append(tuple(accepted))
        return self._say(deadly, ".", *(["250 2.0.0 taken"] * (len(accepted) if deadly.lmtp else 1)))


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def deadly_server(step: tuple[str, str], *, lmtp: bool) -> Iterator[Deadly]:
    deadly = Deadly(step, lmtp)
    with Threads((LOOPBACK, 0), Session) as server:
        server.deadly = deadly
        deadly.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield deadly
        finally:
            server.shutdown()
            thread.join()


def submit(server: ServerProcess, mark: str) -> None:
    """One message of a sender of ours, to three recipients; answered 250."""
    with server.connect() as client:
        assert client.reply().startswith("220 ")
        assert client.say("EHLO client.example").startswith("250")
        assert client.say("MAIL FROM:<ann@example.org>").startswith("250")
        for name in ("eve", "nobody", "busy"):
            assert client.say(f"RCPT TO:<{name}@next.example>").startswith("250")
        assert client.say("DATA").startswith("354")
        text = "".join(f"line {number}\r\n" for number in range(1000))
        client.send(f"Subject: {mark}\r\n\r\n{text}.\r\n".encode())
        assert client.reply().startswith("250")


def notices(folder: Path, mark: str) -> list[bytes]:
    """Reports about the message in its sender's Maildir."""
    found = [path.read_bytes() for path in (folder / "data" / "mail").glob("example.org/ann/new/*")]
    return [content for content in found if mark.encode() in content]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("way", "steps"), [("relay", STEPS), ("lmtp", LMTP_STEPS)], ids=["relay", "lmtp"])
def test_killed_at_every_step_of_the_dialogue(tmp_path: Path, way: str, steps: list[tuple[str, str]]) -> None:
    doubled: list[tuple[str, str]] = []
    for number, step in enumerate(steps):
        folder = tmp_path / str(number)
        folder.mkdir()
        mark = fresh_mark()
        with deadly_server(step, lmtp=way == "lmtp") as deadly:
            (folder / "gatepost.toml").write_text(SETTINGS.format(way=way, port=deadly.port))
            with ServerProcess(folder, "run") as server:
                deadly.victim = server.process.pid
                submit(server, mark)
                assert server.process.wait(30) == -signal.SIGKILL, server.log
            with ServerProcess(folder, "run") as server:
                eventually(lambda at=folder: "0 queued, 0 held" in gatepost(at, "queue", "list").stdout, 40)
                assert server.stop() == 0
            assert deadly.has_killed
            copies = Counter(address for accepted in deadly.taken for address in accepted)
        assert copies.keys() == {"eve@next.example", "busy@next.example"}, f"lost {step}: {deadly.taken}"
        if copies != {"eve@next.example": 1, "busy@next.example": 1}:
            doubled.append(step)
            assert step in IN_FLIGHT, f"{step}: {copies}"
        [notice] = notices(folder, mark)
        assert notice.count(b"Action: failed") == 1, step
        assert b"nobody@next.example" in notice
    print(f"\n{way}: {len(steps)} kills, nothing lost; second copies after {doubled}")
