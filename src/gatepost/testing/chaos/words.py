"""What a client may say: commands as they should be, odd, malformed and at the bounds, and the content of messages.

Each function throws the dice and gives octets; what is a whole line comes with its CRLF unless the fault is there. The
sources of the odd ones are the mistakes of known servers and clients: look-alike ends of content, arguments at their
limits (rfc5321#4.5.3.1), literals and routes, sizes of chunks that aren't numbers, parameters twice.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.testing.chaos.dice import Dice, Weighted

CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the sessions are about. A session is made again by the same seed and the same knobs."""

    senders: tuple[str, ...] = (
        "dave@bobo.example",
        "eve@example.com",
        "",
        "list-bounces+ann=example.org@lists.example",
    )
    recipients: tuple[str, ...] = ("ann@example.org", "bob@example.org", "sales@example.org", "postmaster@example.org")
    helos: tuple[str, ...] = ("client.example", "[192.0.2.1]", "mail.example.com")
    verbs: tuple[str, ...] = ()
    """Verbs of the plugin's own; after a 3xx to one of them lines and octets for it follow."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2")
    command_line: int = 512
    """The longest command line that every server takes, in octets with CRLF (rfc5321#4.5.3.1.4)."""
    text_line: int = 1000
    """The longest line of content that every server takes, in octets with CRLF (rfc5321#4.5.3.1.6)."""
    moves: int = 16
    """About how many things a session does."""
    tls: bool = True
    """Whether STARTTLS is said."""
    prdr: bool = True
    """Whether a reply for each recipient is asked for at times."""
    hang_ups: bool = True
    """Whether some sessions end in the middle of something."""


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_ODD_ADDRESSES = (
    b'"a b"@example.org', b'"a\\"b"@example.org', b"@a.example,@b.example:ann@example.org", b"ann@[192.0.2.1]",
    b"ann@[IPv6:2001:db8::1]", b"ann@[IPv6:fe80::1%eth0]", b"ann@[300.1.1.1]", b"postmaster", b"Postmaster@",
    b"@example.org",
    b"ann", b"a@b@example.org", b'"a@b"@example.org', b"ann@example.org.", b"a..b@example.org", b".ann@example.org",
    b"ann%other.example@example.org", b"other.example!ann@example.org", b"|/bin/sh@example.org", b"-oQ/tmp@example.org",
    b"../../etc/passwd@example.org", b"ann@example..org", b"ann@-example.org", b"ann@xn--zckzah.example",
    "ü@example.org".encode(),
    "ann@bücher.example".encode(), "ann@example.org\u200b".encode(), b"\xff\xfe@example.org", b"ann@exa mple.org",
    b"ann,bob@example.org",
    b"$(id)@example.org", b"`id`@example.org", b"ann'--@example.org", b'ann";drop@example.org', b"%s%n@example.org",
    b"ann+tag@example.org", b"<ann@example.org>", b"ann@example.org>", b"<ann@example.org", b"a\x00b@example.org",
    b"a\tb@example.org", b"a\rb@example.org", b"MAILER-DAEMON@example.org", b"ann@localhost", b"ann@127.0.0.1",
)  # fmt: skip
_MAIL_PARAMETERS = Weighted(
    (4, b"SIZE=1000"), (1, b"SIZE=0"), (2, b"SIZE=99999999999"), (1, b"SIZE=-1"), (1, b"SIZE="), (1, b"SIZE"),
    (1, b"SIZE=1 SIZE=2"), (1, b"SIZE=18446744073709551616"), (3, b"BODY=8BITMIME"), (2, b"BODY=7BIT"),
    (2, b"BODY=BINARYMIME"), (1, b"BODY=XX"), (1, b"BODY=8BITMIME BODY=7BIT"), (3, b"SMTPUTF8"), (1, b"SMTPUTF8=1"),
    (2, b"RET=HDRS"), (1, b"RET=NONE"), (2, b"ENVID=a+2Bb"), (1, b"ENVID=a+0D+0Ab"), (1, b"ENVID=+"),
    (1, b"ENVID=a+00"),
    (2, b"AUTH=<>"), (1, b"AUTH=ann+40example.org"), (1, b"AUTH="), (1, b"REQUIRETLS"), (1, b"XUNKNOWN"),
    (1, b"XUNKNOWN=1"), (1, b"=1"), (1, b"a=b=c"), (1, b"MT-PRIORITY=3"), (1, b"\xc3\xbc=1"), (1, b"BY=120;R"),
)  # fmt: skip
_RCPT_PARAMETERS = Weighted(
    (3, b"NOTIFY=NEVER"), (3, b"NOTIFY=SUCCESS,FAILURE,DELAY"), (1, b"NOTIFY=NEVER,SUCCESS"), (1, b"NOTIFY="),
    (1, b"NOTIFY=NEVER NOTIFY=NEVER"), (2, b"ORCPT=rfc822;ann+40example.org"), (1, b"ORCPT=rfc822;a+0D+0ARCPT"),
    (1, b"ORCPT=;"), (1, b"ORCPT=utf-8;\\x{FC}"), (1, b"XUNKNOWN"), (1, b"SIZE=1"), (1, b"ORCPT=rfc822;+"),
)  # fmt: skip
_ODD_FORMS = Weighted((6, b"%s:<%s>"), (2, b"%s: <%s>"), (2, b"%s:%s"), (1, b"%s <%s>"), (1, b"%s:<%s"), (1, b"%s:%s>"),
                      (1, b"%s :<%s>"), (1, b"%s:<<%s>>"), (1, b"%s:<%s> "), (1, b"%s:\t<%s>"),
                      (1, b"%s:(c)<%s>"))  # fmt: skip
_UNKNOWN = (
    b"XYZZY", b"FOO bar", b"EHL O", b"EHLOx", b"MAILX FROM:<a@b.example>", b"ETRN example.org", b"TURN",
    b"SEND FROM:<a@b.example>",
    b"SAML FROM:<a@b.example>", b"ATRN", b"XADR ann", b"BURL imap://x", b"ONEX", b"VERB", b"WIZ", b"DEBUG", b"SITE",
    b"USER ann",
    b"PASS secret", b"LHLO x", b"XCLIENT ADDR=127.0.0.1", b"XCLIENT NAME=x LOGIN=root",
    b"XFORWARD NAME=a ADDR=192.0.2.9",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25", b"PROXY UNKNOWN", b"From: ann@example.org", b".", b"..", b"", b" ", b"\t",
    b"*", b"-", b"=",
    b"250 ok", b"354 go on", b"A1 LOGIN ann secret", b"RCPT", b"MAIL", b"EHLO", b"HELO", b"VRFY", b"EXPN", b"DATA now",
    b"RSET now",
    b"QUIT now", b"STARTTLS now", b"NOOP\tx", b"mail from:<>", b"Rcpt To:<ann@example.org>", b"dAtA ", b" NOOP",
    b"NOOP ", b"HELP me",
    b"VRFY ann", b"VRFY <ann@example.org>", b"EXPN staff", b"VRFY \xc3\xbc", b"VRFY \xc3\xbc SMTPUTF8", b"BDAT",
    b"BDAT x",
)  # fmt: skip
_ALIENS = (
    b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n",
    b"POST /x HTTP/1.0\r\nContent-Length: 30\r\n\r\nMAIL FROM:<a@b.example>\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", b"\x16\x03\x01\r\n", b"SSH-2.0-x\r\n", b"\x04\x01\x00\x19",
    b"\x05\x01\x00",
    b"\x00\x0e\x38\x00\x00\x00\x00\x00\r\n", b"\x80\x2e\x01\x03\x01\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip
_CHUNK_SIZES = (
    b"-1", b"+5", b"0x10", b"00000005", b"5.0", b"", b"5 LAST LAST", b"5 FIRST", b"LAST", b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616", b"99999999999999999999999", b"5,LAST", b"\xd9\xa5", b"1e3", b" 5", b"5\tLAST",
)  # fmt: skip
_SASL = (
    b"*", b"=", b"", b"AGFubgBzZWNyZXQ=", b"AGFubgBzZWNyZXQ", b"%%%", b"AAAA====", b"YW5u", b"c2VjcmV0",
    b"biwsbj1hbm4scj1mb28=",
    b"biwsbj0scj0=", b"bixhPXJvb3Qsbj1hbm4scj14", b"AAAA", b"YQBiAGMAZA==", b"//79", b"Yz1iaXdzLHI9eCxwPXk=", b"* ",
    b"**",
    b"QUIT", b"AA\x00AA", b"\xff\xff", b"QQ==QQ==",
)  # fmt: skip


def hello(dice: Dice, knobs: Knobs) -> bytes:
    return b"%s %s\r\n" % (dice.pick((b"EHLO", b"EHLO", b"EHLO", b"HELO", b"ehlo")), dice.pick(knobs.helos).encode())


def odd_hello(dice: Dice, knobs: Knobs) -> bytes:
    names = (b"", b"x y", b"[]", b"[IPv6:::1]", b"a" * 255, b"a." * 130 + b"b", b"-", b"_x", b"\xc3\xbc.example",
    b"x\x00y",
             b"*.example.com", b"[300.0.0.1]", b"ann@example.org", b"mx.test", b"localhost", b"%s",
             b"x;y=z")  # fmt: skip
    return b"EHLO %s\r\n" % dice.pick(names)


def mail(dice: Dice, knobs: Knobs) -> bytes:
    parameters = b""
    if dice.chance(15):
        parameters = b" BODY=8BITMIME"
    elif knobs.prdr and dice.chance(5):
        parameters = b" PRDR"
    return b"MAIL FROM:<%s>%s\r\n" % (dice.pick(knobs.senders).encode(), parameters)


def rcpt(dice: Dice, knobs: Knobs) -> bytes:
    return b"RCPT TO:<%s>\r\n" % dice.pick(knobs.recipients).encode()


def odd_path(dice: Dice, knobs: Knobs) -> bytes:
    """MAIL or RCPT whose address, form or parameters aren't the usual ones."""
    is_mail = dice.chance(40)
    address = dice.pick(_ODD_ADDRESSES) if dice.chance(50) else dice.pick(knobs.recipients).encode()
    line = dice.weighed(_ODD_FORMS) % (b"MAIL FROM" if is_mail else b"RCPT TO", address)
    for _ in range(dice.below(3)):
        line += b" " + dice.weighed(_MAIL_PARAMETERS if is_mail else _RCPT_PARAMETERS)
    return line + CRLF


def unknown(dice: Dice, knobs: Knobs) -> bytes:
    return dice.pick(_UNKNOWN) + CRLF


def alien(dice: Dice, knobs: Knobs) -> bytes:
    """Another protocol's first octets."""
    return dice.pick(_ALIENS)


def own_verb(dice: Dice, knobs: Knobs) -> bytes:
    verb = dice.pick(knobs.verbs).encode()
    return verb + dice.pick((b"", b" x", b" 10", b" =", b" " + b"y" * 400, b" \xc3\xbc", b" \x00", b" a b c")) + CRLF


_SIMPLE = (b"NOOP\r\n", b"RSET\r\n", b"NOOP x\r\n", b"HELP\r\n", b"VRFY ann\r\n", b"EXPN staff\r\n", b"DATA\r\n")
_ANYTHING: Weighted[Callable[[Dice, Knobs], bytes]] = Weighted(
    (4, hello), (5, mail), (6, rcpt), (8, lambda dice, knobs: dice.pick(_SIMPLE)), (2, odd_hello), (4, odd_path),
    (3, unknown),
)  # fmt: skip


def anything(dice: Dice, knobs: Knobs) -> bytes:
    """A command, whatever would be in order."""
    return dice.weighed(_ANYTHING)(dice, knobs)


_NOT_TEXT = (b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xc2\x85", b"\x1b[2J")


def malformed(dice: Dice, knobs: Knobs) -> bytes:
    """A line that is no command line: its octets or its end are wrong."""
    line = anything(dice, knobs)
    at = dice.below(len(line))
    match dice.below(10):
        case 0:
            return line[:at] + b"\x00" + line[at:]
        case 1:
            return line[:at] + bytes((0x80 | dice.below(128),)) + line[at:]
        case 2:
            return line[:-2] + b"\n"
        case 3:
            return line[:-2] + b"\r\r\n"
        case 4:
            return line[:at] + b"\r" + line[at:]
        case 5:
            return line[:at] + b"\n" + line[at:]
        case 6:
            return dice.octets(dice.between(1, 40)).replace(b"\n", b"\x0b") + CRLF
        case 7:
            return line[:at] + bytes((dice.below(32) or 1,)) + line[at:]
        case 8:
            return (
                line[:at]
                + dice.pick((b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xc2\x85", b"\x1b[2J"))
                + line[at:]
            )
        case _:
            return b"\r\n" * dice.between(1, 3) + line


def at_bounds(dice: Dice, knobs: Knobs) -> bytes:
    """A line as long as a limit, or one octet off it."""
    off = dice.between(-1, 1)
    size = knobs.command_line + off
    match dice.below(8):
        case 0 | 1:
            return _filled(b"NOOP ", b"", size, dice)
        case 2:
            return _filled(b"XYZZY", b"", size, dice)
        case 3:
            return _filled(b"RCPT TO:<", b"@example.org>", size, dice)
        case 4:
            return b"RCPT TO:<%s@example.org>\r\n" % (b"l" * (64 + off))  # rfc5321#4.5.3.1.1
        case 5:
            return b"MAIL FROM:<a@%s.example>\r\n" % (b"d." * 130)[: 255 + off - 8].strip(b".")  # rfc5321#4.5.3.1.2
        case 6:
            return _filled(b"EHLO ", b"", dice.pick((size, 12288 + off, 2000, 20_000)), dice)
        case _:
            return _filled(b"MAIL FROM:<a@b.example> ENVID=", b"", dice.pick((size, 600 + off, 1200 + off)), dice)


def _filled(head: bytes, tail: bytes, size: int, dice: Dice) -> bytes:
    """A line of `size` octets with its CRLF."""
    return head + b"x" * max(0, size - len(head) - len(tail) - 2) + tail + CRLF


def chunk_head(dice: Dice, size: int, *, last: bool) -> bytes:
    return b"BDAT %d%s\r\n" % (size, dice.pick((b" LAST", b" last")) if last else b"")


def odd_chunk(dice: Dice, knobs: Knobs) -> bytes:
    """BDAT with a size that isn't one, or that is far too big."""
    return b"BDAT %s\r\n" % dice.pick(_CHUNK_SIZES)


def auth(dice: Dice, knobs: Knobs) -> bytes:
    mechanism = dice.pick(knobs.mechanisms).encode()
    initial = b" " + dice.pick(_SASL) if dice.chance(50) else b""
    if dice.chance(10):
        mechanism = dice.pick((b"", b"NTLM", b"plain", b"GSSAPI", b"EXTERNAL", b"A" * 300, b"PL\x00AIN", b"ANONYMOUS"))
    return b"AUTH %s%s\r\n" % (mechanism, initial)


def sasl_response(dice: Dice, knobs: Knobs) -> bytes:
    match dice.below(12):
        case 0:
            return _filled(b"", b"", 12288 + dice.between(-1, 1), dice)
        case 1:
            return b64encode(dice.octets(dice.between(0, 300))) + CRLF
        case 2:
            return dice.pick(_SASL) + b"\n"
        case 3:
            return dice.pick(_SASL) + b"\r\nNOOP\r\n"
        case _:
            return dice.pick(_SASL) + CRLF


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────────

_LOOK_ALIKES = (
    b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n..\r\n", b"\r\r\n.\n", b"\r\n\x0b.\r\n", b"\r\n\xef\xbc\x8e\r\n",
)  # fmt: skip
_SMUGGLED = b"MAIL FROM:<smuggler@example.com>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
_HEADS = (
    b"From: Dave <dave@bobo.example>\r\nTo: Ann <ann@example.org>\r\nSubject: hello\r\n\r\n",
    b"Subject: =?utf-8?q?caf=C3=A9?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    b"Subject: =?x?b?%%%?= =?utf-8?q?=\r\nContent-Type: text/plain; charset=\"\r\n\r\n",
    b"",
    b"\r\n",
    b"no colon here\r\n\r\n",
    b"From someone Mon Nov  2 09:00:00 2026\r\nSubject: mbox\r\n\r\n",
    b" starts folded: x\r\nSubject: a\r\n b\r\n\tc\r\n\r\n",
    b": no name\r\nSub ject: x\r\nX-\x01: y\r\n\r\n",
    b"Return-Path: <forged@example.com>\r\nBcc: bob@example.org\r\nAuthentication-Results: mx.test; spf=pass\r\n\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html\r\n\r\n<b>x</b>\r\n"
    b"--b\r\nContent-Type: application/octet-stream; name=\"a.exe\"\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMA%%\r\n--b--\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\n----\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/x\r\n\r\n",
)  # fmt: skip
_LINES = (
    b"Hello Ann.", b"", b".", b"..", b". x", b".x", b"From me", b"caf\xc3\xa9", b"\xff\xfe\x80", b"a\x00b",
    b"tab\tbed", b"--b", b"--b--",
    b"lottery inheritance viagra", b"X-Spam-Flag: YES", b"=3D=\r", b"MAIL FROM:<a@b.example>", b"QUIT", b"\x1a",
    b"\x1b[31m", b" ",
)  # fmt: skip


def content(dice: Dice, knobs: Knobs) -> bytes:
    """A message's octets as they would be before stuffing, with a CRLF at their end unless that is the fault."""
    match dice.below(12):
        case 0:
            return b""
        case 1:
            return b"x" * dice.pick((1, 997, 998, 999, 1000, 5000)) + dice.pick((CRLF, b"", b"\n", b"\r"))
        case 2:
            size = knobs.text_line + dice.between(-1, 1)
            return b"Subject: long line\r\n\r\n" + _filled(b"", b"", size, dice) * dice.between(1, 3)
        case 3:
            return b"".join(b"X-%d: %s\r\n" % (n, b"v" * 40) for n in range(dice.pick((5, 150, 1200)))) + b"\r\nx\r\n"
        case 4:
            return b"Received: from x by y; Mon, 2 Nov 2026 09:00:00 +0000\r\n" * dice.pick((5, 99, 101)) + b"\r\nx\r\n"
        case 5:
            return dice.pick(_HEADS) + dice.octets(dice.between(1, 400))
        case 6:
            return dice.pick(_HEADS) + b"a line of text\r\n" * dice.pick((50, 4200, 6000))
        case _:
            lines = [dice.pick(_LINES) for _ in range(dice.below(8))]
            return dice.pick(_HEADS) + b"".join(line + (CRLF if dice.chance(92) else b"\n") for line in lines)


def after_data(dice: Dice, knobs: Knobs) -> bytes:
    """What is sent behind a 354, with an end of content that is one, or only looks like one before the real one."""
    text = content(dice, knobs)
    if dice.chance(85):  # stuffed as it should be
        text = text.replace(b"\r\n.", b"\r\n..")
        text = b"." + text if text.startswith(b".") else text
    if dice.chance(40):
        text += dice.pick(_LOOK_ALIKES) + (_SMUGGLED if dice.chance(60) else b"")
    if not text.endswith(CRLF):
        text += CRLF
    if dice.chance(3):
        text = dice.pick((b".\n", b".\r", b".\r\r\n", b". \r\n")) + text
    return text + b".\r\n"


def for_a_verb(dice: Dice, knobs: Knobs) -> bytes:
    """Lines or octets for a verb that takes some."""
    match dice.below(6):
        case 0:
            return dice.octets(dice.between(1, 300))
        case 1:
            return b"x" * dice.pick((511, 512, 513, 65535, 65536, 65537)) + CRLF
        case 2:
            return after_data(dice, knobs)[:4000]
        case 3:
            return dice.pick((b"*\r\n", b".\r\n", b"\r\n", b"\n", b"\r", b"=\r\n", b"\x00\r\n"))
        case _:
            return b"".join(dice.pick(_LINES) + CRLF for _ in range(dice.between(1, 5)))
