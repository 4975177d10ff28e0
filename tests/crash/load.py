"""Mail under load and what was promised of it: clients that send as fast as they are answered, and the reckoning.

Every message is different and can be told whole from half by looking at it. What a client heard is written down the
moment it has read the 250; what it didn't hear is nobody's promise.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from house.peers import NextServer
from house.server_process import Client, eventually, gatepost

SIZES = (300, 1024, 20_000, 1024, 70_000, 300, 200_000)  # in a row of the database, and in files of their own
ANN, BOB, NEXT = "ann@example.org", "bob@example.org", "eve@next.example"
RECIPIENTS = ((ANN,), (NEXT,), (ANN, BOB), (ANN, NEXT))
CONNECTIONS = 8
_NUMBER = re.compile(rb"^Subject: number (\d+)\r?$", re.MULTILINE)

SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = {workers}
[limits]
transactions_per_session = 1000000
[delivery]
first = "1s"
max = "1s"
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "*@example.org"
deliver = "maildir"
[[route]]
match = "*@next.example"
deliver = "relay 127.0.0.1:{port}"
recipients = "any"
[[user]]
name = "ann@example.org"
[[user]]
name = "bob@example.org"
"""


def content(number: int) -> bytes:
    """A message that is like no other, with its number on every line."""
    size = SIZES[number % len(SIZES)]
    top = b"From: <dave@bobo.example>\r\nSubject: number %d\r\n\r\n" % number
    line = b"%08d " % number + b"." * 60 + b"\r\n"
    return top + line * (size // len(line)) + b"the end of %d\r\n" % number


def number_of(message: bytes) -> int:
    found = _NUMBER.search(message)
    assert found, message[:500]
    return int(found[1])


@dataclass
class Load:
    """Clients and what they were promised. Invariant: no message is sent twice."""

    promised: dict[int, str] = field(default_factory=dict)
    begun: dict[int, tuple[str, ...]] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    _numbers: itertools.count = field(default_factory=itertools.count)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self, port: int, connections: int = CONNECTIONS) -> None:
        self._ended.clear()
        self._threads = [threading.Thread(target=self._client, args=(port,)) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No message begins any more; those under way are waited for."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _client(self, port: int) -> None:
        """Sends until told to end; comes again after a lost connection, and gives up where nobody listens."""
        while not self._ended.is_set():
            try:
                with Client(port) as client:
                    self._session(client)
            except ConnectionRefusedError:
                return
            except OSError:
                continue

    def _session(self, client: Client) -> None:
        if not client.reply().startswith("220 ") or not client.say("EHLO client.example").startswith("250 "):
            return
        while not self._ended.is_set():
            number = next(self._numbers)
            to = self.begun[number] = RECIPIENTS[number % len(RECIPIENTS)]
            lines = ["MAIL FROM:<dave@bobo.example>", *(f"RCPT TO:<{one}>" for one in to), "DATA"]
            client.send("".join(f"{line}\r\n" for line in lines).encode())
            replies = [client.reply() for _ in lines]
            if not replies[-1].startswith("354 "):
                return
            client.send(content(number).replace(b"\r\n.", b"\r\n..") + b".\r\n")
            if (said := client.reply()).startswith("250 "):
                self.promised[number] = said.rpartition(" ")[2]
            else:
                assert said == "" or said[0] in "4", said
                if not said:
                    return


def settle_accounts(load: Load, folder: Path, next_server: NextServer) -> str:
    """Every promise was kept, and nothing is half there or there twice; says so in figures."""
    boxes = {user: folder / "data" / "mail" / "example.org" / user.partition("@")[0] for user in (ANN, BOB)}
    for user, box in boxes.items():
        assert [*box.glob("tmp/*")] == []
        found = Counter(_whole(path.read_bytes().replace(b"\n", b"\r\n")) for path in box.glob("new/*"))
        assert [number for number, times in found.items() if times > 1] == [], f"twice in the mailbox of {user}"
        assert found.keys() <= {number for number, to in load.begun.items() if user in to}
        assert {number for number in load.promised if user in load.begun[number]} <= found.keys()
    taken = [_whole(message) for _, _, message in next_server.taken]
    assert {number for number in load.promised if NEXT in load.begun[number]} <= {*taken}
    doubled = [number for number, times in Counter(taken).items() if times > 1]
    for number in doubled:
        first = next(at for at, one in zip(next_server.taken_at, taken, strict=True) if one == number)
        assert any(first - 0.1 < kill < first + 3 for kill in load.kills), "doubled without a 250 in flight"
    for shard in (folder / "data" / "shards").iterdir():
        for shelf in "incoming", "bodies", "damaged":
            assert [*shard.glob(f"{shelf}/*")] == []
    return (
        f"{len(load.kills)} kills; of {len(load.begun)} messages begun {len(load.promised)} were answered 250 and are "
        f"there; {len(taken)} relayed, {len(doubled)} of them twice, with the 250 in flight"
    )


def _whole(message: bytes) -> int:
    """The number of a message, which is there from its first octet to its last."""
    number = number_of(message)
    assert message.endswith(content(number)), f"{number} is half there: {message[:300]!r} … {message[-100:]!r}"
    return number


def is_drained(folder: Path) -> bool:
    return "0 queued, 0 held" in gatepost(folder, "queue", "list").stdout


def drain(folder: Path, timeout_s: float = 40) -> None:
    """Wait until everything accepted has left."""
    eventually(lambda: is_drained(folder), timeout_s)
