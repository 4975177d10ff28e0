"""Fuzz target: any octets from a client, cut anywhere, for the SMTP server machine in any of its profiles.

The first octets choose the profile and the cuts, the rest is what the client sends.
"""

from __future__ import annotations

import re

from fuzz.hunting import hunt, pieces
from gatepost.model import Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp.profile import BareNewline, Profile
from gatepost.wire.smtp.replies import MAX_LINE
from gatepost.wire.smtp.server import ServerSession, State
from gatepost.wire.smtp.states import Protocol
from scenes.smtp_machine.house import HOST, SYNCHRONISED, House, coalesced

CUTS = 4
TOP = 2 + CUTS
REPLY_LINE = re.compile(rb"[2-5][0-9][0-9][ -][^\x00-\x1f\x7f]*")
MAIL = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n"
SEEDS = tuple(
    bytes([flags, kind]) + b"\x05\x30\x02\x09" + stream
    for flags, kind, stream in (
        (0, 0, b"EHLO me\r\n" + MAIL + b"DATA\r\nSubject: x\r\n\r\n..\r\nhello\r\n.\r\nQUIT\r\n"),
        (1, 0, b"EHLO me\r\n" + MAIL + b"DATA\r\nbare\nlines\r.\n.\r\n.\r\n" + MAIL + b"RSET\r\n"),
        (2, 1, b"LHLO me\r\n" + MAIL + b"RCPT TO:<bad@example.org>\r\nBDAT 5\r\nhelloBDAT 0 LAST\r\nNOOP\r\n"),
        (4, 0, b"EHLO me\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\nAUTH LOGIN\r\nYW5u\r\n*\r\nSTARTTLS\r\nEHLO me\r\n"),
        (8, 2, b"HELO me\r\nVRFY a\r\nEXPN b\r\nHELP\r\nXYZZY\r\nGET / HTTP/1.1\r\n\x16\x03\x01"),
        (16, 0, b"EHLO me\r\nMAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8 PRDR\r\nRCPT TO:<postmaster>\r\nBDAT 999\r\n"),
        (32, 0, b"EHLO me\r\nMAIL FROM:<\"a b\"@[192.0.2.1]>\r\nRCPT TO:<@x,@y:z@example.org>\r\nDATA\r\n\r\n.\r\n"),
        (4, 8, b"EHLO me\r\nMAIL FROM:<a@b> RET=FULL ENVID=a+2Bb REQUIRETLS\r\nSTARTTLS\r\nEHLO me\r\n"
               b"MAIL FROM:<a@b> REQUIRETLS RET=HDRS SMTPUTF8\r\n"
               b"RCPT TO:<c@d> NOTIFY=NEVER ORCPT=utf-8;\xc3\xbc\\x{FC}\r\n"),
        (0, 0, MAIL[:-2] + b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+00+0Ab\r\nRCPT TO:<x@y> ORCPT=rfc822;a+40b\r\n"),
        (0, 4, b"EHLO me\r\nXFORWARD NAME=a ADDR=IPV6:::1\r\nXCLIENT ADDR=203.0.113.9 LOGIN=a+40b PORT=1\r\n"),
    )
)  # fmt: skip


def profile_of(flags: int, kind: int) -> Profile:
    return Profile(
        HOST,
        protocol=[*Protocol][kind % len(Protocol)],
        bare_newline=BareNewline.NORMALISE if flags & 1 else BareNewline.REFUSE,
        binarymime=bool(flags & 2),
        starttls=bool(flags & 4),
        auth=("SCRAM-SHA-256", "PLAIN", "LOGIN") if flags & 4 else (),
        auth_without_tls=bool(flags & 4),
        ask_lines=bool(flags & 8),
        ask_replies=bool(flags & 8),
        message_size=100 if flags & 16 else 100_000,
        text_line=40 if flags & 32 else 1000,
        errors=3 if flags & 64 else 1000,
        requiretls=bool(kind & 8),
        xclient=bool(kind & 4),
        xforward=bool(kind & 4),
        junk=2 if flags & 128 else 1000,
    )


def play(profile: Profile, parts: list[bytes]) -> tuple[House, bool]:
    """The whole session; and whether it came to a place where a client must wait, so that cuts do matter."""
    house = House(ServerSession(profile), answers=[("Rcpt", "bad@", Reply(550, "5.1.1", "nobody"))])
    house.run()
    for part in parts:
        house.receive(part)
        if house.session.state is State.TLS:
            house.session.tls_started()
            house.run()
        assert house.session.buffered <= max(profile.longest_line, 12289)
    house.receive(b"")
    waits = any(isinstance(event, (*SYNCHRONISED, ev.Refused)) for event in house.events)
    return house, waits


def one_input(data: bytes) -> None:
    """Every stream ends in CLOSED, with replies that are lines and messages whose line ends are all CRLF."""
    if len(data) < TOP:
        return
    profile = profile_of(data[0], data[1])
    stream = data[TOP:]
    whole, waits = play(profile, [stream] if stream else [])
    cut, _ = play(profile, pieces(stream, data[2:TOP]))
    for house in whole, cut:
        assert house.session.state is State.CLOSED
        assert isinstance(house.events[-1], ev.Ended)
        for line in house.output.split(b"\r\n")[:-1]:
            assert REPLY_LINE.fullmatch(line), line
            assert len(line) <= MAX_LINE
        for message in house.messages:
            rest = message.replace(b"\r\n", b"")
            assert profile.binarymime or not (b"\r" in rest or b"\n" in rest), message
    if not waits:
        assert coalesced(cut.events) == coalesced(whole.events)
        assert cut.output == whole.output


if __name__ == "__main__":
    hunt(one_input, SEEDS)
