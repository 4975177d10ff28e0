"""Fuzz target: any octets from a server, cut anywhere, for the POP3 client machine that collects mail.

The first octets choose what is said, and the cuts; the rest is what the server says. Where everything was said ahead,
the cuts change nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.hunting import hunt, pieces
from gatepost.wire.pop3.client import MAX_CHALLENGE, Client
from gatepost.wire.pop3.client_events import (
    NEED_DATA,
    Answered,
    Challenge,
    Closed,
    Complete,
    Event,
    Names,
    Piece,
    ProtocolError,
    Sizes,
)
from gatepost.wire.pop3.client_states import Ask, State

CUTS = 4
SAID = 6  # what is said, in turn
TOP = 1 + CUTS + SAID
BEFORE: tuple[Callable[[Client], None], ...] = (
    Client.capa,
    Client.start_tls,
    lambda client: client.user("ann"),
    lambda client: client.auth("PLAIN", b"\0ann\0secret"),
    lambda client: client.auth("SCRAM-SHA-256", b"n,,n=ann,r=x"),
)
INSIDE: tuple[Callable[[Client], None], ...] = (
    Client.sizes,
    Client.names,
    lambda client: client.retrieve(1),
    lambda client: client.top(2),
    lambda client: client.delete(3),
    Client.stat,
    Client.noop,
    Client.capa,
    Client.quit,
)
AHEAD = b"+OK <1.2@x>\r\n", b"+OK\r\nPIPELINING\r\n.\r\n", b"+OK\r\n"
SEEDS = tuple(
    bytes([ahead]) + b"\x05\x30\x02\x09" + said.ljust(SAID, b"\x06") + stream
    for ahead, said, stream in (
        (1, b"\x00\x01\x02\x04\x08", b"+OK\r\n1 5\r\n2 7\r\n.\r\n+OK\r\n1 a\r\n.\r\n+OK\r\n..x\r\n.\r\n+OK\r\n+OK\r\n"),
        (1, b"\x02\x02\x03", b"+OK\r\na\n.\n+OK\r\n.\r\n-ERR [SYS/TEMP] no\r\n+OK\r\nA: b\r\n\r\n.\r"),
        (1, b"\x02\x03\x05", b"+OK\n..a\nb\r\n.\n+OK\nA: b\n.\r\n+OK 2 320\n"),
        (1, b"\x00\x07", b"+OK\r\nx\r\n.\r\n+OK\r\n"),
        (1, b"\x06", b"+OK\r\n-ERR idle\r\n"),
        (0, b"\x00\x01", b"+OK hi\r\n+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n+OK\r\n"),
        (0, b"\x02\x03\x04", b"+OK\r\n+OK\r\n-ERR no\r\n+ \r\n+ cj14\r\n-ERR\r\n"),
        (0, b"", b"* OK imap\r\n"),
        (0, b"", b"-ERR [IN-USE] no\r\n"),
    )
)


class Caller:
    """Says what it is to say as soon as it may, and notes what it is told."""

    def __init__(self, said: bytes, *, ahead: bool) -> None:
        self.client = Client()
        self.events: list[Event] = []
        self.said = list(said)
        self.ahead = ahead
        if ahead:
            for call, line in zip((None, Client.capa, lambda one: one.apop("ann", "x")), AHEAD, strict=True):
                if call is not None:
                    call(self.client)
                self.hear(line, talks=False)
            self.events.clear()
            while self.said and self.client.state is State.TRANSACTION:
                INSIDE[self.said.pop(0) % len(INSIDE)](self.client)

    def hear(self, data: bytes, *, talks: bool = True) -> None:
        client = self.client
        client.receive(data)
        while True:
            while (event := client.next_event()) is not NEED_DATA:
                self.events.append(event)
            assert client.buffered <= MAX_CHALLENGE
            client.data_to_send()
            if not talks or not self.talk():
                return

    def talk(self) -> bool:
        """Whether something more was said."""
        client = self.client
        if client.state is State.HANDSHAKE:
            client.tls_started()
        elif client.state is State.SASL and self.said:
            (client.cancel if self.said.pop(0) % 2 else lambda: client.respond(b"x"))()
        elif client.is_waiting or not self.said:
            return False
        elif client.state is State.AUTHORIZATION:
            BEFORE[self.said.pop(0) % len(BEFORE)](client)
        elif client.state is State.NAMED:
            client.password("secret")
        elif client.state is State.TRANSACTION:
            INSIDE[self.said.pop(0) % len(INSIDE)](client)
        else:
            return False
        return True

    def told(self) -> list[object]:
        """What it was told, with the pieces of one thing joined."""
        found: list[object] = []
        for event in self.events:
            match event:
                case Sizes(entries) | Names(entries):
                    found += entries
                case Piece(data):
                    if found and isinstance(found[-1], bytes):
                        found[-1] += data
                    else:
                        found.append(data)
                case _:
                    found.append(event)
        return found


def play(said: bytes, stream: list[bytes], *, ahead: bool) -> Caller:
    """A whole session, to the server's end."""
    caller = Caller(said, ahead=ahead)
    for piece in stream:
        caller.hear(piece)
    caller.hear(b"")
    return caller


def check(caller: Caller) -> None:
    """What holds whatever a server says."""
    assert caller.client.state is State.CLOSED
    last = caller.events[-1]
    assert isinstance(last, Closed | ProtocolError) or (
        isinstance(last, Answered)
        and (last.ask is Ask.QUIT or (last.ask is Ask.GREETING and not last.reply.is_positive))
    )
    if isinstance(last, ProtocolError):
        assert last.text.isprintable()
    content = b""
    for event in caller.events:
        match event:
            case Piece(data):
                assert data
                content += data
            case Answered(_, reply):
                assert str(reply).isprintable() and not content
            case Complete():
                assert not content or content.endswith(b"\r\n")
                rest = content.replace(b"\r\n", b"")
                assert b"\r" not in rest and b"\n" not in rest
                content = b""
            case Challenge(data):
                assert len(data) <= MAX_CHALLENGE
            case _:
                pass


def one_input(data: bytes) -> None:
    """Nothing raises, everything ends, what is told is safe; and whatever was said ahead, cuts change nothing."""
    if len(data) < TOP:
        return
    ahead, places, said, stream = bool(data[0] % 2), data[1 : 1 + CUTS], data[1 + CUTS : TOP], data[TOP:]
    cut = play(said, pieces(stream, places), ahead=ahead)
    check(cut)
    if ahead:
        whole = play(said, [stream] if stream else [], ahead=True)
        check(whole)
        assert whole.told() == cut.told()


if __name__ == "__main__":
    hunt(one_input, SEEDS)
