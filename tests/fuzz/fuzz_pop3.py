"""Fuzz target: any octets from a client, cut anywhere, for the POP3 machine in any of its profiles; and any octets as
the message it fetches.

The first octets choose the profile and the cuts, the rest is what the client sends and, after a NUL NUL, the message.
"""

from __future__ import annotations

import re

from fuzz.hunting import hunt, pieces
from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3.replies import MAX_LINE
from gatepost.wire.pop3.server import Profile, ServerSession, State
from scenes.pop3_machine.maildrop_house import MAIL, STAMP, MaildropHouse

CUTS = 4
TOP = 1 + CUTS
BETWEEN = b"\0\0"
REPLY_LINE = re.compile(rb"[^\x00-\x1f\x7f]*")
LOGIN = b"USER ann\r\nPASS secret\r\n"
SEEDS = tuple(
    bytes([flags]) + b"\x05\x30\x02\x09" + stream
    for flags, stream in (
        (3, LOGIN + b"STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nRSET\r\nQUIT\r\n"),
        (3, LOGIN + b"RETR 3\r\nTOP 3 1\r\nTOP 3 0\r\n" + BETWEEN + b"A: b\r\n\r\n.\r\n..x\r.\r\n\n.\nend"),
        (7, b"CAPA\r\nAUTH\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\nLIST 2147483648\r\nTOP 1 -1\r\nNOOP\r\n"),
        (7, b"AUTH LOGIN\r\nYW5u\r\n*\r\nAUTH LOGIN YW5u\r\nc2VjcmV0\r\nUIDL 0\r\n"),
        (8, b"USER ann\r\nSTLS\r\nCAPA\r\n" + LOGIN + b"QUIT\r\n"),
        (17, b"APOP ann 00000000000000000000000000000000\r\nUTF8\r\nLANG *\r\nLANG\r\nUSER J\xc3\xb6rg\r\nPASS  \r\n"),
        (32, b"GET / HTTP/1.1\r\n\r\n"),
        (33, b"\x16\x03\x01\x02\x00"),
        (65, b"NOOP\nUSER ann\nPASS \xff\n" + b"x" * 300 + b"\nPASS " + b"y" * 300 + b"\r\n"),
    )
)


def profile_of(flags: int) -> Profile:
    return Profile(
        auth_without_tls=bool(flags & 1),
        bare_newline=bool(flags & 2),
        auth=("SCRAM-SHA-256", "PLAIN", "LOGIN") if flags & 4 else (),
        starttls=bool(flags & 8),
        apop=bool(flags & 16),
        utf8=not flags & 32,
        errors=3 if flags & 64 else 1000,
        commands=3 if flags & 128 else 1000,
    )


def play(profile: Profile, parts: list[bytes], message: bytes) -> tuple[MaildropHouse, bool]:
    """The whole session; and whether it came to a place where a client must wait, so that cuts do matter."""
    house = MaildropHouse(ServerSession(profile, timestamp=STAMP), mail=(*MAIL, message))
    house.run()
    waits = False
    for part in parts:
        house.receive(part)
        if house.session.state is State.TLS:
            waits = True
            house.session.tls_started()
            house.run()
        assert house.session.buffered <= profile.longest_line
    house.receive(b"")
    return house, waits


def one_input(data: bytes) -> None:
    """Every stream ends in CLOSED, with replies that are lines, and whatever the message a dot alone ends it."""
    if len(data) < TOP:
        return
    profile = profile_of(data[0])
    stream, _, message = data[TOP:].partition(BETWEEN)
    whole, waits = play(profile, [stream] if stream else [], message)
    cut, _ = play(profile, pieces(stream, data[1:TOP]), message)
    for house in whole, cut:
        assert house.session.state is State.CLOSED
        assert isinstance(house.events[-1], ev.Ended)
        assert house.output.endswith(b"\r\n")
        rest = house.output.replace(b"\r\n", b"")
        assert b"\r" not in rest and b"\n" not in rest
        if not any(isinstance(event, ev.Retrieve | ev.Top) for event in house.events):
            for line in house.output.split(b"\r\n"):
                assert REPLY_LINE.fullmatch(line) and len(line) <= MAX_LINE, line
    if not waits:
        assert cut.events == whole.events
        assert cut.output == whole.output


if __name__ == "__main__":
    hunt(one_input, SEEDS)
