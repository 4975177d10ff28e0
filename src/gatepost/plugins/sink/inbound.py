"""OnSmtpInboundCommand: every command line of a session past its sinks, before the house's handling and after it.

A sink with a priority below the house's is asked at `command`, others at `reply`, where the house's answer is known as
the native response. All sinks of a session share one context for each command: what one sets, the next one sees. What
they come to is said where the chain for it ends: instead of the house's handling where a sink has consumed the command
or failed it, else in the place of the house's reply. Contract: Ambiguities 1-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gatepost.hooks import stages
from gatepost.hooks.bindings import DEFAULT_PRIORITY, HOUSE_PRIORITY, Binding
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.events import Event
from gatepost.hooks.rules import When
from gatepost.hooks.session import Session
from gatepost.hooks.verdicts import PROCEED, Converse, Hangup, Proceed, Respond
from gatepost.model import Reply
from gatepost.plugins.loaded import Wish, make_binding
from gatepost.plugins.sink.asking import Asker, SinkFailed
from gatepost.plugins.sink.constants import (
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_TRANSIENT_FAILURE,
    EXPE_UNHANDLED,
    S_OK,
)
from gatepost.plugins.sink.message import message_of
from gatepost.plugins.sink.message_changes import apply
from gatepost.plugins.sink.responses import reply_of, text_of_reply
from gatepost.plugins.sink.states import InCallback, InCommand

METHOD = "OnSmtpInCommand"
CALLBACK = "OnSmtpInCallback"
MOST_LINES = 10_000
"""Lines that a sink takes between two of its replies."""
MOST_OCTETS = 1024 * 1024
"""Their octets."""

_DIALOGUE = "a session's dialogue with sinks"
_FAILED = EXPE_TRANSIENT_FAILURE | EXPE_COMPLETE_FAILURE
_DECIDING = EXPE_DROP_SESSION | _FAILED | EXPE_BLOB_READY
_END_OF_DATA = "."
_GOING = 421


@dataclass(slots=True)
class Dialogue:
    """What the sinks of a session say to one command; lives in the session's holder."""

    number: int = -1
    """Which line it is."""
    state: InCommand = field(default_factory=InCommand)
    by: Asker | None = None
    """Whose sink has changed it last."""
    is_decided: bool = False
    """Its response was given, or a sink has ended the chain: nobody else is asked."""
    is_said: bool = False
    """What sinks below the house wanted said has been."""
    callback: object | None = None
    """Who takes the lines that come now."""

    def at(self, number: int) -> InCommand:
        """The state for this line, a new one if it is another line than before."""
        if number != self.number:
            self.number = number
            self.state = InCommand()
            self.by = None
            self.is_decided = self.is_said = False
        return self.state


def dialogue_of(event: Event) -> Dialogue:
    """The session's; one of its own for a shadow, whom nobody obeys."""
    return Dialogue() if event.turn.is_shadow else event.session.holder.get(_DIALOGUE, Dialogue)


def bindings(asker: Asker, wish: Wish, breaker: Breaker, *, ehlo_matches_helo: bool) -> Iterator[Binding]:
    """The bindings of a sink to OnInboundCommand. PluginError."""
    inbound = _Inbound(asker)
    name = asker.loaded.name
    words = {"ehlo_is_helo": ehlo_matches_helo}
    priority = DEFAULT_PRIORITY if wish.priority is None else wish.priority
    if priority > HOUSE_PRIORITY:
        yield make_binding(name, stages.Replying, inbound.replying, words, wish, breaker)
        return
    yield make_binding(name, stages.Command, inbound.command, words, wish, breaker)
    if wish.shadow:
        return
    quiet = {"always": True, "quiet": True, "last": True}
    ours = Wish(secrets=wish.secrets)
    decide = make_binding(name, stages.Command, inbound.decide, {**quiet, "priority": DEFAULT_PRIORITY}, ours, breaker)
    yield replace(decide, when=_IfDeciding(asker=asker))
    say = make_binding(name, stages.Replying, inbound.say, {**quiet, "priority": 0, "last": False}, ours, breaker)
    yield replace(say, when=_IfSaying(asker=asker))


@dataclass(frozen=True)
class _IfDeciding(When):
    """The last change of the session's dialogue is this sink's, and decides: so that nobody else costs a turn."""

    asker: Asker | None = None

    def holds(self, session: Session, size: int | None) -> bool:
        dialogue = _known(session)
        is_wanted = dialogue.by is self.asker and bool(_flags(dialogue.state) & _DECIDING)
        return is_wanted and super().holds(session, size)


@dataclass(frozen=True)
class _IfSaying(When):
    """The session's dialogue has something that isn't said, and this sink has changed it last."""

    asker: Asker | None = None

    def holds(self, session: Session, size: int | None) -> bool:
        dialogue = _known(session)
        state = dialogue.state
        is_wanted = (
            dialogue.by is self.asker
            and not dialogue.is_said
            and (
                dialogue.is_decided
                or state.command_status != EXPE_UNHANDLED
                or state.protocol_error
                or bool(state.response or state.native_response or state.smtp_status_code)
            )
        )
        return is_wanted and super().holds(session, size)


def _known(session: Session) -> Dialogue:
    try:
        return session.holder.get(_DIALOGUE, Dialogue)
    except LookupError:  # the session is over
        return Dialogue()


class _Inbound:
    """One sink's part in it."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def command(self, event: stages.Command) -> Proceed | Respond | Converse:
        """Below the house: the sink is asked. What it has consumed the house doesn't see."""
        if event.blob is not None:
            return await self._blob(event, event.blob)
        dialogue = dialogue_of(event)
        state = dialogue.at(event.number)
        hresult = await self._ask(event, event.line, dialogue, state)
        return PROCEED if hresult == S_OK else self._decided(dialogue)

    async def decide(self, event: stages.Command) -> Proceed | Respond | Converse:
        """After all sinks below the house: a failed command isn't the house's any more."""
        if event.blob is not None:
            return await self._blob(event, event.blob)
        dialogue = dialogue_of(event)
        if dialogue.number != event.number or dialogue.is_decided:
            return PROCEED
        return self._decided(dialogue)

    async def say(self, event: stages.Replying) -> Proceed | Respond | Hangup:
        """The house has answered: what sinks below it wanted said comes into its place."""
        dialogue = dialogue_of(event)
        if dialogue.number != event.number or dialogue.is_said:
            return PROCEED
        dialogue.is_said = True
        state = dialogue.state
        state.native_response = _with_native(event.reply, state.native_response)
        return self._instead(event.reply, state)

    async def replying(self, event: stages.Replying) -> Proceed | Respond | Hangup:
        """Above the house: the sink is asked, and sees what the house says."""
        if event.line in ("", _END_OF_DATA):
            return PROCEED
        dialogue = dialogue_of(event)
        state = dialogue.at(event.number)
        if dialogue.is_decided:
            return PROCEED
        if not dialogue.is_said or not state.native_response:
            dialogue.is_said = True
            state.native_response = text_of_reply(event.reply)
        before = state.copy()
        hresult = await self._ask(event, event.line, dialogue, state)
        dialogue.is_decided = hresult != S_OK
        if _flags(state) & EXPE_BLOB_READY:
            raise SinkFailed("only a sink below 24576 can take the lines that follow: the house has answered already")
        before.command, before.keyword, before.protocol_error = state.command, state.keyword, state.protocol_error
        return _counting(event.reply, state) if state == before else self._instead(event.reply, state)

    async def _ask(
        self, event: stages.Command | stages.Replying, line: str, dialogue: Dialogue, state: InCommand
    ) -> int:
        state.command = line
        state.keyword = line.partition(" ")[0]
        message = message_of(event)
        before = state.copy()
        try:
            hresult = await self._asker.ask(METHOD, event, state, message)
            apply(event, message)
        except BaseException:  # what a failing sink has changed doesn't count
            dialogue.state = before
            raise
        if state != before or hresult != S_OK:
            dialogue.by = self._asker
        return hresult

    def _decided(self, dialogue: Dialogue) -> Respond | Converse:
        state = dialogue.state
        dialogue.is_decided = dialogue.is_said = True
        flags = _flags(state)
        reply = reply_of(_words(state, ""), state.smtp_status_code, flags)
        if flags & EXPE_BLOB_READY:
            if state.callback is None:
                raise SinkFailed("EXPE_BLOB_READY without SetCallback: nobody would take the lines that follow")
            dialogue.callback = state.callback
            return Converse(reply, MOST_LINES, MOST_OCTETS)
        return Respond(reply, closes=bool(flags & EXPE_DROP_SESSION), counts=state.protocol_error)

    def _instead(self, reply: Reply, state: InCommand) -> Proceed | Respond | Hangup:
        """What is said instead of the house's reply, if anything."""
        flags = _flags(state)
        words = _words(state, text_of_reply(reply))
        if words or flags & _FAILED:
            other = reply_of(words, state.smtp_status_code, flags)
        elif 200 <= state.smtp_status_code <= 599:
            other = Reply(state.smtp_status_code, "", reply.text)
        elif flags & EXPE_DROP_SESSION:
            other = reply
        else:
            return _counting(reply, state)
        if other.code == _GOING and reply.code != _GOING and flags & EXPE_DROP_SESSION:
            return Hangup(other)  # which may be said whatever the house has said
        return Respond(other, closes=bool(flags & EXPE_DROP_SESSION), counts=state.protocol_error)

    async def _blob(self, event: stages.Command, blob: bytes) -> Proceed | Respond | Converse:
        """A line for the callback sink. Without a response, and ready for more, it goes on in silence."""
        dialogue = dialogue_of(event)
        state = InCallback(blob, callback=dialogue.callback)
        message = message_of(event)
        await self._asker.ask(CALLBACK, event, state, message)
        apply(event, message)
        flags = 0 if state.command_status == EXPE_UNHANDLED else state.command_status
        if flags & EXPE_BLOB_READY and not flags & EXPE_DROP_SESSION:
            if not state.response and not state.smtp_status_code:
                return PROCEED
            return Converse(reply_of(state.response, state.smtp_status_code, flags), MOST_LINES, MOST_OCTETS)
        dialogue.callback = None
        reply = reply_of(state.response, state.smtp_status_code, flags)
        return Respond(reply, closes=bool(flags & EXPE_DROP_SESSION))


def _flags(state: InCommand) -> int:
    """The flags of a status; none as long as nobody has decided."""
    return 0 if state.command_status == EXPE_UNHANDLED else state.command_status


def _words(state: InCommand, house: str) -> str:
    """What sinks want said, where the house would say `house`: the response, or what they have made of the native one.

    A success among the native response's own lines isn't said of a command that was failed.
    """
    native = state.native_response
    if state.response or native == house:
        return state.response
    return "" if _flags(state) & _FAILED and native[:1] in "23" else native


def _counting(reply: Reply, state: InCommand) -> Proceed | Respond:
    return Respond(reply, counts=True) if state.protocol_error else PROCEED


def _with_native(reply: Reply, added: str) -> str:
    """The house's words, and behind them what sinks had added before it spoke."""
    if not added:
        return text_of_reply(reply)
    more = reply_of(added, reply.code, 0).text
    return text_of_reply(reply.with_text(f"{reply.text}\n{more}"))
