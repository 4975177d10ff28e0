"""The SMTP, submission and LMTP server as a value: octets in, events out, answers in, octets out.

Strategy: three layers. `conversation` keeps the manners, `introduction` knows who is talking, this file reads commands
and carries transactions. A command is looked up in the legality table, guarded by the profile and parsed; then its
question is open, and only its answer moves the state. What the machine refuses by itself it says at once and tells as
`Refused`. Where
RFC 2920 wants the client to wait (greeting, DATA, AUTH, STARTTLS), input that is there already can only be somebody
else's content or an injection: after STARTTLS it is discarded and counted; elsewhere the command is refused and the
session closed, because what follows can't be trusted to be commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatepost.model import Body, Path, Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp import grammar
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp.content import Content
from gatepost.wire.smtp.events import NEED_DATA, Event, NeedData
from gatepost.wire.smtp.introduction import Introduction
from gatepost.wire.smtp.profile import AUTH_LINE, BareNewline, Profile
from gatepost.wire.smtp.states import COMMAND_STATES, LEGAL, TRANSACTION_STATES, Ask, Protocol, State, Verb

__all__ = ["NEED_DATA", "BareNewline", "Profile", "Protocol", "ServerSession", "State", "Verb"]

_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "TRACE", "PATCH", "PRI"})
_JUNK = frozenset(
    {Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.RSET, Verb.NOOP, Verb.VRFY, Verb.EXPN, Verb.HELP, Verb.UNKNOWN}
)
_READY, _MAIL, _RCPT, _DATA, _END = State.READY, State.MAIL, State.RCPT, State.DATA, State.END
_AUTH, _BDAT, _UNKNOWN = Verb.AUTH, Verb.BDAT, Verb.UNKNOWN
_LMTP = Protocol.LMTP
_HELLOS = (b"EHLO", b"HELO", b"LHLO")  # whose replies have no enhanced status  # rfc2034#3
_BINARY = Body.BINARY_MIME
_ASK_DATA = ev.Data()
_ASK_CHUNK = ev.Data(is_chunk=True)


@dataclass(slots=True)
class _Chunk:
    """One BDAT: its octets, those still to come; if it is refused, by what reply and the state after it."""

    size: int
    left: int
    last: bool
    resume: State = State.READY
    refusal: Reply | None = None
    is_answered: bool = False
    """The reply isn't ours: a plugin has answered the command."""


class ServerSession(Introduction):
    """Invariant: a transaction exists exactly in TRANSACTION_STATES; every state change is an answer's or a limit's.

    Drive it so: `next_event` until NEED_DATA, answering each question; then send `data_to_send`; then close if
    `wants_close`, shake hands and call `tls_started` if `state` is TLS, else `receive`.
    """

    # fmt: off
    __slots__ = (
        "_chunk", "_content", "_data_asked", "_failing", "_first", "_heard", "_junk", "_legal",
        "_longest", "_mail", "_transactions", "_whole", "recipients",
    )
    # fmt: on

    def __init__(self, profile: Profile, *, tls: bool = False) -> None:
        super().__init__(profile, tls=tls)
        self.recipients = 0  # accepted in this transaction
        self._legal = _DECISIONS[profile.protocol]
        self._longest = profile.longest_line
        self._first = True  # no line was read yet
        self._heard: bytes | None = None  # a line to be parsed
        self._mail: ev.Mail | None = None
        self._content: Content | None = None
        self._chunk: _Chunk | None = None
        self._data_asked = False
        self._whole = False  # the content has come to its own end
        self._failing = False  # a chunk has failed: those pipelined behind it are no errors of the client
        self._transactions = self._junk = 0

    @property
    def sender(self) -> Path | None:
        """The reverse-path of the open transaction."""
        return self._mail.path if self._mail else None

    @property
    def parameters(self) -> Mapping[str, str]:
        """The MAIL parameters of the open transaction, keyword upper-case."""
        return self._mail.parameters if self._mail else grammar.NO_PARAMETERS

    @property
    def body(self) -> Body:
        """What the client declared the content of the open transaction to be."""
        return self._mail.body if self._mail else Body.SEVEN_BIT

    @property
    def prdr(self) -> bool:
        """Whether the client asked for a reply per recipient at MAIL."""
        return self._mail is not None and self._mail.prdr

    # Answers of special shape

    def answer_each(self, replies: Sequence[Reply], final: Reply | None = None) -> None:
        """Answer EndOfData with one reply per accepted recipient, in order; under PRDR with a final one as well."""
        lmtp = self.profile.protocol is Protocol.LMTP
        if not (lmtp or self.prdr) or lmtp is not (final is None):
            raise RuntimeError("this transaction has no replies for each recipient")
        if len(replies) != self.recipients:
            raise ValueError(f"{len(replies)} replies for {self.recipients} recipients")
        self._closed(ev.EndOfData)
        if not self._whole:  # a chunk that isn't the last has failed: it gets one reply
            self._conclude(replies[:1] if final is None else [final])
        else:
            self._conclude(replies if final is None else [no.PRDR, *replies, final])

    def take_back(self) -> None:
        """The positive reply to MAIL, RCPT or DATA that `Replying` asks about won't be said: undo what it moved."""
        self._unfix()
        if self.state is _RCPT:
            self.recipients -= 1
            if not self.recipients:
                self.state = State.NOBODY
        elif self.state in (_MAIL, _DATA):
            self._end_transaction()
        else:
            raise RuntimeError("there is nothing to take back")

    # Steps: what the present state makes of the input

    def _parse(self, line: bytes) -> None:
        self._heard = line

    def _read_command(self) -> Event | NeedData | None:
        if self._heard is None:
            if self._first and self._input.peek(2) == b"\x16\x03":  # a TLS ClientHello has no line end to wait for
                return self._turn_away(self._input.peek(2), no.NOT_SMTP)
            line = self._line(self._longest, no.TOO_LONG)
            if line is NEED_DATA:
                return line
            if not isinstance(line, bytes):
                if self._first and isinstance(line, ev.Refused) and isinstance(grammar.decode(line.line), Reply):
                    self._close(clean=False)
                return line
            if self.profile.ask_lines:
                return self._ask(ev.Line(line), self._settles(line))
        else:
            line, self._heard = self._heard, None
        text, length = grammar.decode(line), len(line) + 2  # with CRLF
        first, self._first = self._first, False
        if isinstance(text, Reply):
            return self._turn_away(line, no.NOT_SMTP) if first else self._refuse(line, text)
        verb, word, argument = grammar.split(text)
        if verb is _UNKNOWN and word.upper() in _HTTP:
            return self._turn_away(line, no.NOT_HTTP)
        if verb is _AUTH:
            line = b"AUTH"  # what follows may be a password
        outcome = self._command(verb, word, argument, length)
        if isinstance(outcome, Reply):
            return self._refuse(line, outcome, counted=outcome not in no.UNCOUNTED)
        return outcome

    def _command(self, verb: Verb, word: str, argument: str, length: int) -> Event | Reply | None:
        profile = self.profile
        if length > profile.command_line and length > self._room(verb):
            return no.TOO_LONG
        if verb in _JUNK:
            self._junk += 1
            if self._junk > profile.junk:
                return no.TOO_MUCH_JUNK
        decision = self._legal[self.state][verb]
        if not isinstance(decision, Reply):
            return decision(self, verb, word, argument)
        return decision if verb is not _BDAT else self._bdat(verb, word, argument, decision)

    def _room(self, verb: Verb) -> int:
        """The longest line of this verb."""
        if verb is Verb.MAIL:
            return self.profile.mail_line
        if verb is Verb.RCPT:
            return self.profile.rcpt_line
        return AUTH_LINE if verb is Verb.AUTH and self.profile.auth else self.profile.command_line

    def _read_content(self) -> Event | NeedData | None:
        data = self._input.everything()
        if not data:
            return self._starved()
        assert self._content is not None
        text, rest = self._content.dotted(data)
        if rest is not None:
            if rest:
                self._input.give_back(rest)
            self._whole = True
            self.state = _END
        return ev.Chunk(text) if text else None

    def _read_chunk(self) -> Event | NeedData | None:
        chunk, content = self._chunk, self._content
        assert chunk is not None and content is not None
        if chunk.left:
            data = self._input.octets(chunk.left)
            if not data:
                return self._starved()
            chunk.left -= len(data)
            text = content.counted(data, last=chunk.last and not chunk.left)
            return ev.Chunk(text) if text else None
        if self._data_asked:
            self._chunk_done()
            return None
        self._data_asked = True
        return self._ask(_ASK_CHUNK, self._first_chunk_answered)

    def _swallow_chunk(self) -> Event | NeedData | None:
        chunk = self._chunk
        assert chunk is not None and chunk.refusal is not None
        if chunk.left:
            data = self._input.octets(chunk.left)
            chunk.left -= len(data)
            return None if data else self._starved()
        self.state, self._chunk = chunk.resume, None
        if chunk.is_answered:
            self._say(chunk.refusal)
            return None
        return self._refuse(b"BDAT", chunk.refusal, counted=not self._failing)

    def _chunk_done(self) -> None:
        chunk, content = self._chunk, self._content
        assert chunk is not None and content is not None
        self._whole = chunk.last
        if chunk.last or content.failure:
            self._failing = not chunk.last
            self.state = State.END
        else:
            self.state = State.BDAT
            self._say(Reply(250, "2.0.0", f"{chunk.size} octets received"))

    def _judge_content(self) -> Event:
        assert self._content is not None
        return self._ask(ev.EndOfData(self._content.size, self._content.failure), self._content_answered)

    # Commands: what each asks, or why it is refused after all

    def _mail_from(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        profile = self.profile
        if (profile.require_tls or profile.require_auth) and (refusal := self._guard(verb)):
            return refusal
        if self._transactions >= profile.transactions:
            return no.TOO_MANY_TRANSACTIONS
        mail = grammar.mail(argument, profile.mail_parameters)
        if isinstance(mail, Reply):
            return mail
        if mail.parameters:
            if not self.extended:
                return no.NO_PARAMETERS
            if "REQUIRETLS" in mail.parameters and not self.tls:
                return no.NEEDS_TLS
        if mail.size is not None and 0 < profile.message_size < mail.size:
            return no.TOO_BIG
        self._transactions += 1
        return self._ask(mail, self._mail_answered)

    def _rcpt_to(self, _verb: Verb, _: str, argument: str) -> Event | Reply:
        if self.recipients >= self.profile.recipients:
            return no.TOO_MANY_RECIPIENTS
        rcpt = grammar.rcpt(argument, smtputf8=self.smtputf8, allowed=self.profile.rcpt_parameters)
        if isinstance(rcpt, Reply):
            return rcpt
        if rcpt.parameters and not self.extended:
            return no.NO_PARAMETERS
        return self._ask(rcpt, self._rcpt_answered)

    def _data(self, _verb: Verb, _: str, argument: str) -> Event | Reply:
        if argument:
            return no.NO_ARGUMENT
        if self._mail is not None and self._mail.body is _BINARY:
            return no.ONLY_BDAT
        return self._ask(_ASK_DATA, self._data_answered)

    def _bdat(self, verb: Verb, _: str, argument: str, refusal: Reply | None = None) -> Event | None:
        """A chunk that is refused is read all the same: its octets are no commands."""
        parsed = grammar.chunk(argument)
        if isinstance(parsed, Reply):  # nobody knows where the next command begins
            return self._turn_away(b"BDAT", parsed)
        size, last = parsed
        refusal = refusal or self._guard(verb)
        if refusal is not None:
            self._swallow(_Chunk(size, size, last, refusal=refusal))
            return None
        self._chunk = _Chunk(size, size, last)
        self.state = State.CHUNK
        if self._content is None:
            self._content = Content(self.profile, binary=self.body is Body.BINARY_MIME)
        text = self._content.counted(b"", last=True) if last and not size else b""
        return ev.Chunk(text) if text else None

    def _swallow(self, chunk: _Chunk) -> None:
        """Its octets are read, and then its reply is said. What the transaction is without it nobody wants."""
        self._failing = self._failing or self.state in TRANSACTION_STATES
        self._end_transaction()
        chunk.resume = self.state
        self._chunk = chunk
        self.state = State.SWALLOW

    def _settles(self, line: bytes) -> Callable[[Reply], None]:
        """Where a plugin's own answer to a line goes to."""
        verb = line[:5].upper()
        if verb in (b"BDAT ", b"BDAT"):
            return self._chunk_answered
        return self._say_plainly if verb[:4] in _HELLOS else self._say

    def _chunk_answered(self, reply: Reply) -> None:
        """A plugin has answered BDAT: the chunk's octets are no commands all the same."""
        assert isinstance(self._question, ev.Line)
        parsed = grammar.chunk(self._question.line[5:].decode("ascii", "replace").strip(" "))
        if isinstance(parsed, Reply) or reply.code == 421:  # nobody knows where the next command begins, or wants to
            self._say(reply)
            self._close(clean=False)
        else:
            size, last = parsed
            self._swallow(_Chunk(size, size, last, refusal=reply, is_answered=True))

    def end(self) -> None:
        """Listen no more: the session closes when what was said has left."""
        if self.state is State.SWALLOW and self._chunk is not None and self._chunk.refusal is not None:
            self._say(self._chunk.refusal)
        super().end()

    def _plain(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        """The commands without a meaning beyond their reply."""
        match verb:
            case Verb.NOOP:
                return self._ask(ev.Noop(), self._say)
            case Verb.HELP:
                return self._ask(ev.Help(argument), self._say)
        if not argument:
            return no.NO_NAME
        if not argument.isascii():
            if not (self.profile.smtputf8 and self.extended and argument.upper().endswith(" SMTPUTF8")):
                return no.NEEDS_SMTPUTF8  # rfc6531#3.7.4.2
            argument = argument[: -len(" SMTPUTF8")].rstrip(" ")
        return self._ask(ev.Verify(argument) if verb is Verb.VRFY else ev.Expand(argument), self._say)

    def _reset(self, _verb: Verb, _: str, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Reset(), self._reset_answered)

    def _quit(self, _verb: Verb, _: str, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Quit(), self._quit_answered)

    def _unknown(self, _verb: Verb, word: str, argument: str) -> Event | Reply:
        return self._ask(ev.Unknown(word, argument), self._say)

    # Answers: the only place where the state moves on

    def _mail_answered(self, reply: Reply) -> None:
        mail = self._question
        assert isinstance(mail, ev.Mail)
        if reply.code < 300:
            self._mail = mail
            self._failing = False
            self.smtputf8 = mail.smtputf8
            self.state = _MAIL
        self._say(reply, "2.1.0")

    def _rcpt_answered(self, reply: Reply) -> None:
        if reply.code < 300:
            self.recipients += 1
            self.state = _RCPT
        elif self.state is _MAIL:
            self.state = State.NOBODY
        self._say(reply, "2.1.5")

    def _data_answered(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._end_transaction()
            self._say(reply)
        elif self._input:
            self._told += (self._turn_away(b"DATA", no.NOT_SYNCHRONISED),)
        else:
            self._data_asked = True
            self._content = Content(self.profile)
            self.state = _DATA
            self._say(reply if reply.code == 354 else Reply(354, "", reply.text))

    def _first_chunk_answered(self, reply: Reply) -> None:
        if reply.is_positive:
            self._chunk_done()
        else:
            self._failing = True
            self._end_transaction()
            self._say(reply)

    def _content_answered(self, reply: Reply) -> None:
        each = self.profile.protocol is _LMTP and self._whole  # rfc2033#4.2
        self._conclude((reply,) * self.recipients if each else (reply,))

    def _conclude(self, replies: Sequence[Reply]) -> None:
        assert self._content is not None
        failure = self._content.failure
        smtputf8 = self.smtputf8
        self._end_transaction()
        self.smtputf8 = smtputf8
        for reply in replies:
            said = failure if failure and reply.code < 300 else reply
            if said.code < 300:
                self._junk = 0
            self._say(said)
            if said.code == 421:
                break
        self.smtputf8 = False

    def _reset_answered(self, reply: Reply) -> None:
        self._end_transaction()
        self._failing = False
        self._say(reply if reply.code in (250, 421) else Reply(250, "", reply.text))

    def _quit_answered(self, reply: Reply) -> None:
        self._close(clean=True)
        self._say(reply if reply.code == 421 else Reply(221, "", reply.text))

    def _end_transaction(self) -> None:
        if self.state in TRANSACTION_STATES:
            self.state = _READY
        self._mail = self._content = self._chunk = None
        self.recipients = 0
        self.smtputf8 = self._data_asked = False


Handler = Callable[[ServerSession, Verb, str, str], Event | Reply | None]

_HANDLERS: Mapping[Ask, Handler] = {
    Ask.HELLO: ServerSession._hello,
    Ask.START_TLS: ServerSession._start_tls,
    Ask.AUTH: ServerSession._auth,
    Ask.MAIL: ServerSession._mail_from,
    Ask.RCPT: ServerSession._rcpt_to,
    Ask.DATA: ServerSession._data,
    Ask.BDAT: ServerSession._bdat,
    Ask.RESET: ServerSession._reset,
    Ask.NOOP: ServerSession._plain,
    Ask.VERIFY: ServerSession._plain,
    Ask.EXPAND: ServerSession._plain,
    Ask.HELP: ServerSession._plain,
    Ask.QUIT: ServerSession._quit,
    Ask.CLIENT: ServerSession._client,
    Ask.FORWARDED: ServerSession._forwarded,
    Ask.UNKNOWN: ServerSession._unknown,
}


def _decisions(protocol: Protocol) -> Mapping[State, Mapping[Verb, Handler | Reply]]:
    """The legality table as commands are looked up in it: by state, then by verb; a question by what asks it."""
    found: dict[State, dict[Verb, Handler | Reply]] = {state: {} for state in COMMAND_STATES}
    for (state, verb), decision in LEGAL[protocol].items():
        found[state][verb] = decision if isinstance(decision, Reply) else _HANDLERS[decision]
    return found


_DECISIONS = {protocol: _decisions(protocol) for protocol in Protocol}

ServerSession._steps = {
    State.CONNECT: ServerSession._connect,
    **dict.fromkeys(COMMAND_STATES, ServerSession._read_command),
    State.DATA: ServerSession._read_content,
    State.CHUNK: ServerSession._read_chunk,
    State.SWALLOW: ServerSession._swallow_chunk,
    State.END: ServerSession._judge_content,
    State.AUTH: ServerSession._read_response,
    State.BLOB: ServerSession._read_blob,
    State.TLS: ServerSession._starved,
    State.CLOSED: ServerSession._end,
}
