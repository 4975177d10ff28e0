"""What must hold in every session, whatever the client says: a value that sees both directions and says what is wrong.

Strategy: what was sent is taken apart into units (a command line, a chunk with its octets, content up to its end, an
authentication response) only as replies to them come, because a reply decides what the octets behind it are. So it is
known at each moment which replies are owed, to what each belongs, and which nobody has asked for.

- a reply has three digits, the same on all its lines, lines of at most 512 octets that end with CRLF, no other CR or
  LF, no NUL, no control characters, and nothing beyond ASCII unless the client has said SMTPUTF8 (rfc5321#4.2);
- each command has one reply, content has one when it has ended, and not before; only DATA is answered 354;
- the connection is closed after 221, 421 or a hang-up only, or after a refusal of what makes the stream unreliable;
- if the server's own handlers speak (`Expected.by_the_book`): no recipient without a sender, no content without a
  recipient, no sender within a transaction, NOOP is taken at every length that must be taken.

After a finding, where a plugin converses, and where it may have counted recipients otherwise than we have, nobody knows
what belongs to what: then only the form is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from gatepost.testing.chaos.steps import shown

MAX_REPLY_LINE = 512  # octets with CRLF, rfc5321#4.5.3.1.5
MAX_COMMAND_LINE = 512  # octets with CRLF, rfc5321#4.5.3.1.4
_MAX_LINES = 1000
_MAX_CHUNK = 2**31
_CODE = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?", re.DOTALL)  # rfc5321#4.2
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNK = re.compile(rb"BDAT +(0|[1-9][0-9]{0,17})(?: LAST)? *", re.IGNORECASE)
_NOOP = re.compile(rb"NOOP(?: [!-~][ -~]*)?", re.IGNORECASE)
_UNPRINTABLE = re.compile(rb"[^ -~]")
_HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"TRACE", b"PATCH", b"PRI"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What the server in question promises beyond the form of its replies."""

    by_the_book: bool = True
    """Commands are answered by the server's own handlers: no plugin answers in their place, or ends the session."""
    accepts: bool = False
    """Content that is as it should be is always taken."""
    verbs: frozenset[bytes] = frozenset()
    """Verbs, upper-case, that may be answered by a 3xx, and take what follows."""
    text_line: int = 1000
    message_size: int = 60_000
    """Content up to here is never too big."""


class Mode(Enum):
    """What the next octets from the client are."""

    BANNER = "nothing: the banner is due"
    COMMAND = "a command"
    CONTENT = "content up to the dot"
    AUTH = "a response of an authentication exchange"
    TLS = "a handshake"
    LOOSE = "a plugin's affair"
    OVER = "nothing: the session is over"


class Watch:
    """Invariant: `findings` has at most one text that says what was wrong; after it nothing is owed any more."""

    # fmt: off
    __slots__ = (
        "_due", "_early", "_has_hung_up", "_has_missed", "_heard_lines", "_is_known", "_is_smtp", "_may_close",
        "_recipients", "_rest", "_sender", "_sent", "_skipping", "_utf8", "_was_content", "codes", "dialogue",
        "expected", "findings", "is_closed", "last", "mode", "taken",
    )
    # fmt: on

    def __init__(self, expected: Expected | None = None) -> None:
        self.expected = expected or Expected()
        self.mode = Mode.BANNER
        self.findings: list[str] = []
        self.dialogue: list[tuple[str, bytes]] = []
        """("C" or "S", octets), in the order in which they were seen here."""
        self.codes: list[int] = []
        """Of all replies."""
        self.last = 0
        """The code of the last reply."""
        self.taken = 0
        """How often content was answered with 2xx."""
        self.is_closed = False
        self._sent = bytearray()  # and not answered yet
        self._rest = b""
        self._heard_lines: list[bytes] = []
        self._due = 0  # further replies to the last unit
        self._is_smtp = False  # a command was answered otherwise than with a refusal
        self._skipping = False  # the rest of a line that was refused before its end
        self._early = False  # something was sent before the banner came
        self._may_close = False
        self._has_hung_up = False
        self._has_missed = False  # replies, or what they belong to
        self._was_content = False  # what was answered last
        self._utf8 = False
        self._sender = False
        self._recipients = 0
        self._is_known = True  # whether there is a transaction, and with whom

    # ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────

    def sent(self, octets: bytes) -> None:
        """The client has sent this."""
        self._tell("C", octets)
        self._early = self._early or self.mode is Mode.BANNER
        if not self._utf8 and b"SMTPUTF8" in octets.upper():
            self._utf8 = True
        if self.mode is not Mode.OVER:
            self._sent += octets

    def heard(self, octets: bytes) -> None:
        """The server has said this."""
        if not octets:
            return
        self._tell("S", octets)
        self._rest += octets
        while not self.findings and (end := self._rest.find(b"\n") + 1):
            line, self._rest = self._rest[:end], self._rest[end:]
            self._line(line)
        if len(self._rest) > MAX_REPLY_LINE:
            self._wrong(f"a reply's line is longer than {MAX_REPLY_LINE} octets: {shown(self._rest)}")

    def hung_up(self, *, at_once: bool = False) -> None:
        """The client has said all it will; or is gone, and doesn't hear any more."""
        self._has_hung_up = True
        self._has_missed = self._has_missed or at_once

    def closed(self) -> None:
        """The server has closed the connection."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._rest or self._heard_lines:
            self._wrong(f"closed within a reply: {shown(b''.join(self._heard_lines) + self._rest)}")
        elif not (
            self.mode in (Mode.OVER, Mode.LOOSE, Mode.TLS) or self.last == 221 or self._has_hung_up or self._may_close
        ):
            self._wrong("closed without 221 or 421")
        elif self.owes and not (self._may_close or self.last == 221):
            self._wrong(f"closed without an answer to {self._asked()}")

    def silent(self, seconds: float) -> None:
        """Nothing came for so long, though something is owed."""
        unit = self._unit()
        if (
            unit is not None
            and self.mode is Mode.COMMAND
            and unit[:4].upper() == b"BDAT"
            and _chunk(unit.rstrip()) is None
        ):
            self._loosen()  # whatever the size says to that server, it waits for so much
            return
        self._wrong(f"no reply within {seconds:g} s to {self._asked()}")

    def handshake_done(self) -> None:
        """TLS is active; everything before is forgotten (rfc3207#4.2)."""
        self._sent.clear()
        self._forget()
        self.mode = Mode.COMMAND

    def wrong(self, what: str) -> None:
        """Something else than the dialogue is wrong."""
        self._wrong(what)

    @property
    def is_sure_of_all(self) -> bool:
        """Whether every reply was heard, and belongs to what it answers."""
        return not (self.findings or self._has_missed)

    @property
    def owes(self) -> bool:
        """Whether the server has to say something before the client says more."""
        if self.findings or self.is_closed or self.mode in (Mode.OVER, Mode.LOOSE, Mode.TLS):
            return False
        return self._due > 0 or self.mode is Mode.BANNER or self._unit() is not None

    @property
    def _is_sure(self) -> bool:
        """Whether it can be told from what was heard if there is a transaction."""
        return self.expected.by_the_book and self._is_known

    def __str__(self) -> str:
        return "\n".join(f"{who}: {shown(octets, 400)}" for who, octets in self.dialogue)

    # ── replies ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _line(self, raw: bytes) -> None:
        line = raw[:-2]
        if len(raw) > MAX_REPLY_LINE:
            self._wrong(f"a reply's line is longer than {MAX_REPLY_LINE} octets: {shown(raw)}")
        elif raw[-2:] != b"\r\n":
            self._wrong(f"a reply's line ends with LF alone: {shown(raw)}")
        elif _CONTROL.search(line):
            self._wrong(f"a reply has a control character: {shown(raw)}")
        elif not (line.isascii() or self._utf8):
            self._wrong(f"a reply isn't ASCII, and nobody has said SMTPUTF8: {shown(raw)}")
        elif (form := _CODE.fullmatch(line)) is None:
            self._wrong(f"a reply begins with no code: {shown(raw)}")
        elif self._heard_lines and not line.startswith(self._heard_lines[0][:3]):
            self._wrong(f"a reply has two codes: {shown(b''.join(self._heard_lines) + raw)}")
        elif len(self._heard_lines) >= _MAX_LINES:
            self._wrong("a reply has no end")
        elif form[2] == b"-":
            self._heard_lines.append(raw)
        else:
            whole = b"".join(self._heard_lines) + raw
            self._heard_lines.clear()
            self._reply(int(form[1]), whole)

    def _reply(self, code: int, whole: bytes) -> None:
        self.last = code
        self.codes.append(code)
        if self.mode is Mode.OVER:
            self._wrong(f"a reply after the last one: {shown(whole)}")
        elif code == 421:  # rfc5321#3.8: at any time
            self._over()
        elif self.mode is Mode.LOOSE:
            pass
        elif self.mode is Mode.TLS:
            self._wrong(f"a reply where a handshake is due: {shown(whole)}")
        elif self.mode is Mode.BANNER:
            self._banner(code, whole)
        elif self._due:
            self._due -= 1
            self.taken += code < 300 and not self._due  # the last one is about the message
        elif (unit := self._unit()) is not None:
            is_last = len(unit) == len(self._sent)
            self._is_smtp = self._is_smtp or code < 400
            del self._sent[: len(unit)]
            self._may_close = not self.expected.by_the_book
            self._was_content = self.mode is Mode.CONTENT
            self._answered(bytes(unit), code, whole, is_last=is_last)
        elif self.mode is Mode.CONTENT:
            self._wrong(f"the content hasn't ended, and is answered: {shown(whole)}")
        elif self._may_be_early(code):
            self._may_close = True
        else:
            what = "more than one reply to the content" if self._was_content else "a reply that nobody asked for"
            self._wrong(f"{what}: {shown(whole)}")

    def _banner(self, code: int, whole: bytes) -> None:
        self.mode = Mode.COMMAND
        if code == 220:
            return
        if code < 400:
            self._wrong(f"that is no banner: {shown(whole)}")
        self._may_close = self._early or not self.expected.by_the_book

    def _may_be_early(self, code: int) -> bool:
        """A line that is too long may be refused before its end; a chunk as well; another protocol's octets too."""
        if code < 400:
            return False
        partial = bytes(self._sent)
        if partial.startswith(b"\x16\x03") and not self._is_smtp:
            self._over()
            return True
        end = partial.find(b"\n") + 1
        if len(partial) <= MAX_COMMAND_LINE or end:
            return False
        self._sent.clear()
        self._skipping = True
        return True

    # ── units ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _unit(self) -> bytearray | None:
        """The first thing that was sent and isn't answered, if it is whole."""
        sent = self._sent
        if self._skipping:
            end = sent.find(b"\n") + 1
            del sent[: end or len(sent)]
            self._skipping = not end
        if not sent:
            return None
        if self.mode is Mode.CONTENT:  # a CRLF is thought before it, rfc5321#4.1.1.4
            if sent.startswith(b".\r\n"):
                return sent[:3]
            end = sent.find(b"\r\n.\r\n")
            return sent[: end + 5] if end >= 0 else None
        end = sent.find(b"\n") + 1
        if not end:
            return None
        if self.mode is Mode.COMMAND and (size := _chunk(sent[: end - 1].removesuffix(b"\r"))):
            end += size
            return sent[:end] if len(sent) >= end else None
        return sent[:end]

    def _answered(self, unit: bytes, code: int, whole: bytes, *, is_last: bool) -> None:
        if self.mode is Mode.CONTENT:
            self._content_answered(unit, code, whole)
            return
        line, _, _ = unit.partition(b"\n")
        line = line.removesuffix(b"\r")
        words = line.split(None, 1)
        verb = words[0].upper() if words else b""
        is_proper = unit.endswith(b"\r\n") and _CONTROL.search(line) is None
        if code >= 400 and self._makes_unreliable(verb, line, is_last=is_last):
            self._may_close = True
        if self.mode is Mode.AUTH:
            self.mode = Mode.AUTH if code == 334 else Mode.COMMAND
            if code // 100 == 3 and code != 334:
                self._wrong(f"an authentication response is answered: {shown(whole)}")
            return
        if verb in self.expected.verbs and code // 100 == 3:
            self._loosen()
            return
        self._command_answered(verb, line, code, whole, is_proper=is_proper, length=len(unit))

    def _command_answered(
        self, verb: bytes, line: bytes, code: int, whole: bytes, *, is_proper: bool, length: int
    ) -> None:
        by_the_book, positive = self.expected.by_the_book, code < 400
        match verb:
            case b"QUIT":
                if code == 221:
                    self._over()
                elif by_the_book and is_proper and line.upper() == b"QUIT":
                    self._wrong(f"QUIT is answered: {shown(whole)}")
            case b"DATA" if code == 354:
                if self._is_sure and not self._recipients:
                    self._wrong(f"content without a recipient: {shown(whole)}")
                self.mode = Mode.CONTENT
            case b"AUTH" if code == 334:
                self.mode = Mode.AUTH
            case b"STARTTLS" if code == 220:
                self.mode = Mode.TLS
            case b"BDAT":
                self._chunk_answered(line, code, whole)
            case _ if 300 <= code < 400:
                self._wrong(f"{shown(line, 60)} is answered: {shown(whole)}")
            case b"EHLO" | b"HELO" | b"LHLO" | b"RSET" if positive:
                self._forget()
            case b"MAIL" if positive:
                if self._is_sure and self._sender:
                    self._wrong(f"a sender within a transaction: {shown(whole)}")
                self._sender, self._recipients, self._is_known = True, 0, True
            case b"RCPT" if positive:
                if self._is_sure and not self._sender:
                    self._wrong(f"a recipient without a sender: {shown(whole)}")
                self._recipients += 1
            case b"DATA":  # refused: some reasons end the transaction, some don't
                self._is_known = False
            case b"NOOP" if (
                by_the_book and is_proper and _NOOP.fullmatch(line) and not positive and length <= MAX_COMMAND_LINE
            ):
                self._wrong(f"NOOP of {length} octets is answered: {shown(whole)}")

    def _chunk_answered(self, line: bytes, code: int, whole: bytes) -> None:
        if _chunk(line) is None:  # nobody knows where the next command begins
            self._may_close = True
            self._loosen()
            return
        if 300 <= code < 400 and code != 353:
            self._wrong(f"a chunk is answered: {shown(whole)}")
        if code >= 400:
            self._is_known = False
            return
        if self._is_sure and not self._recipients:
            self._wrong(f"a chunk without a recipient: {shown(whole)}")
        if line.rstrip().upper().endswith(b"LAST"):
            self._content_said(code)

    def _content_answered(self, unit: bytes, code: int, whole: bytes) -> None:
        self.mode = Mode.COMMAND
        if 300 <= code < 400 and code != 353:
            self._wrong(f"content is answered: {shown(whole)}")
        elif self.expected.accepts and code >= 400 and self._is_as_it_should_be(unit):
            self._wrong(f"proper content is answered: {shown(whole)}")
        self._content_said(code)

    def _content_said(self, code: int) -> None:
        if code == 353 and not self.expected.by_the_book:  # how many recipients the house knows can't be told
            self._loosen()
        elif code == 353:  # PRDR: one for each recipient, and one for all
            self._due = self._recipients + 1
        self.taken += code < 300
        self._forget()

    def _is_as_it_should_be(self, unit: bytes) -> bool:
        text = unit.removesuffix(b".\r\n")
        bare = text.replace(b"\r\n", b"")
        longest = max(map(len, text.split(b"\r\n"))) + 2
        return (
            len(text) <= self.expected.message_size
            and longest <= self.expected.text_line
            and not (b"\r" in bare or b"\n" in bare)
            and text.lower().count(b"received:") < 50
            and text.partition(b"\r\n\r\n")[0].count(b"\n") < 1000
        )

    def _makes_unreliable(self, verb: bytes, line: bytes, *, is_last: bool) -> bool:
        """Whether a server does well to close after refusing this: what follows can't be trusted to be commands."""
        if verb in _HTTP:
            return True
        if not self._is_smtp and _UNPRINTABLE.search(line):
            return True
        return not is_last and (self.mode is Mode.AUTH or verb in (b"DATA", b"AUTH"))

    # ── small things ───────────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self) -> None:
        self._sender, self._recipients, self._is_known = False, 0, True

    def _loosen(self) -> None:
        self.mode = Mode.LOOSE
        self._has_missed = True

    def _over(self) -> None:
        self.mode = Mode.OVER
        self._due = 0
        self._sent.clear()

    def _wrong(self, what: str) -> None:
        if not self.findings:
            self.findings.append(what)

    def _asked(self) -> str:
        if self.mode is Mode.BANNER:
            return "the connection"
        if self._due:
            return "the content, for one recipient more"
        unit = self._unit()
        return shown(bytes(unit or self._sent), 120)

    def _tell(self, who: str, octets: bytes) -> None:
        if self.dialogue and self.dialogue[-1][0] == who:
            octets = self.dialogue.pop()[1] + octets
        self.dialogue.append((who, octets))


def _chunk(line: bytes | bytearray) -> int | None:
    """How many octets follow this line, if it is BDAT with a size that every server understands (rfc3030#2)."""
    form = _CHUNK.fullmatch(line)
    return int(form[1]) if form is not None and int(form[1]) < _MAX_CHUNK else None
