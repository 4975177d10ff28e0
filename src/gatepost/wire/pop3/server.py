"""The POP3 server as a value: octets in, events out, answers in, octets out.

Strategy: three layers. `conversation` keeps the manners, `authorization` knows who is talking, this file reads commands
and asks about the maildrop, of which it knows nothing. A command is looked up in the legality table, guarded by the
profile and parsed; then its question is open, and only its answer moves the state. What the machine refuses by itself
it says at once and tells as `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3 import grammar
from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.authorization import Authorization
from gatepost.wire.pop3.conversation import Shape
from gatepost.wire.pop3.events import NEED_DATA, Event, NeedData
from gatepost.wire.pop3.profile import Profile
from gatepost.wire.pop3.replies import Reply
from gatepost.wire.pop3.states import COMMAND_STATES, LEGAL, Ask, State, Verb

__all__ = ["NEED_DATA", "Profile", "Reply", "ServerSession", "State", "Verb"]

_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "TRACE", "PATCH", "PRI"})
_CLIENT_HELLO = b"\x16\x03"


class ServerSession(Authorization):
    """Invariant: the maildrop is open exactly in TRANSACTION and UPDATE; one reply to each command, in their order.

    Drive it so: `next_event` until NEED_DATA, answering each question; then send `data_to_send`; then close if
    `wants_close`, shake hands and call `tls_started` if `state` is TLS, else `receive`. Between two `feed`s send
    `data_to_send` too.
    """

    __slots__ = ("_commands", "_first")

    def __init__(self, profile: Profile, *, tls: bool = False, timestamp: str = "") -> None:
        super().__init__(profile, tls=tls, timestamp=timestamp)
        self._first = True  # no line was read yet
        self._commands = 0  # before the login

    # Steps: what the present state makes of the input

    def _read_command(self) -> Event | NeedData | None:
        if self._first and self._input.peek(2) == _CLIENT_HELLO:  # which has no line end to wait for
            return self._turn_away(_CLIENT_HELLO, no.NOT_POP3)
        profile, state = self.profile, self.state
        is_known = state is State.TRANSACTION
        line = self._line(profile.command_line if is_known else profile.longest_line)
        if not isinstance(line, bytes):
            if self._first and isinstance(line, ev.Refused) and line.reply is no.TOO_LONG:
                self._close(clean=False)  # nobody's first command
            return line
        text = grammar.decode(line)
        first, self._first = self._first, False
        if isinstance(text, Reply):
            return self._turn_away(line, no.NOT_POP3) if first and text is no.NOT_TEXT else self._refuse(line, text)
        verb, argument = grammar.split(text)
        if verb is Verb.UNKNOWN:
            if text.partition(" ")[0].upper() in _HTTP:
                return self._turn_away(line, no.NOT_HTTP)
        else:
            self._hides = verb is Verb.AUTH  # what a client sends behind one that was refused may be a response
        if not is_known:
            self._commands += 1
            if self._commands > profile.commands:
                return self._turn_away(line, no.TOO_MANY_COMMANDS)
        outcome = self._command(verb, argument, len(line) + 2)
        return self._refuse(line, outcome) if isinstance(outcome, Reply) else outcome

    def _command(self, verb: Verb, argument: str, length: int) -> Event | Reply:
        """`length` is that of the line, with CRLF."""
        if length > self.profile.command_line and verb is not Verb.AUTH:
            return no.TOO_LONG
        decision = LEGAL[self.state, verb]
        if isinstance(decision, Reply):
            return decision
        if verb is not Verb.PASS:
            argument = argument.strip(" ")
        return self._guard(verb) or _HANDLERS[decision](self, argument)

    # Commands: what each asks, or why it is refused after all

    def _stat(self, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Stat())

    def _reset(self, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Reset())

    def _noop(self, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Noop())

    def _list(self, argument: str) -> Event | Reply:
        return self._listed(ev.List, argument)

    def _uidl(self, argument: str) -> Event | Reply:
        return self._listed(ev.Uidl, argument)

    def _listed(self, kind: type[ev.List | ev.Uidl], argument: str) -> Event | Reply:
        if not argument:
            return self._ask(kind(), shape=Shape.LISTING)
        number = grammar.number(argument)
        return number if isinstance(number, Reply) else self._ask(kind(number))

    def _retrieve(self, argument: str) -> Event | Reply:
        number = grammar.number(argument)
        return number if isinstance(number, Reply) else self._ask(ev.Retrieve(number), shape=Shape.CONTENT)

    def _top(self, argument: str) -> Event | Reply:
        wanted = grammar.top(argument)
        return wanted if isinstance(wanted, Reply) else self._ask(ev.Top(*wanted), shape=Shape.CONTENT)

    def _delete(self, argument: str) -> Event | Reply:
        number = grammar.number(argument)
        return number if isinstance(number, Reply) else self._ask(ev.Delete(number))

    def _quit(self, argument: str) -> Event | Reply:
        if argument:
            return no.NO_ARGUMENT
        update = self.state is State.TRANSACTION
        if update:
            self.state = State.UPDATE  # rfc1939#6
        return self._ask(ev.Quit(update), self._quit_answered)

    def _quit_answered(self, reply: Reply) -> None:
        self._close(clean=True)
        self._say(reply)


Handler = Callable[[ServerSession, str], Event | Reply]

_HANDLERS: Mapping[Ask, Handler] = {
    Ask.USER: ServerSession._user,
    Ask.LOGIN: ServerSession._pass,
    Ask.APOP: ServerSession._apop,
    Ask.AUTH: ServerSession._auth,
    Ask.START_TLS: ServerSession._start_tls,
    Ask.UTF8: ServerSession._utf8,
    Ask.LANG: ServerSession._lang,
    Ask.CAPA: ServerSession._capa,
    Ask.STAT: ServerSession._stat,
    Ask.LIST: ServerSession._list,
    Ask.UIDL: ServerSession._uidl,
    Ask.RETRIEVE: ServerSession._retrieve,
    Ask.TOP: ServerSession._top,
    Ask.DELETE: ServerSession._delete,
    Ask.RESET: ServerSession._reset,
    Ask.NOOP: ServerSession._noop,
    Ask.QUIT: ServerSession._quit,
}

ServerSession._steps = {
    State.CONNECT: ServerSession._connect,
    **dict.fromkeys(COMMAND_STATES, ServerSession._read_command),
    State.SASL: ServerSession._read_response,
    State.TLS: ServerSession._starved,
    State.CLOSED: ServerSession._end,
}
