"""What became of mail, told on: to the trace, to the journal, and to plugins that want to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatepost.app.generation import Generation
from gatepost.app.recording import TraceRecorder
from gatepost.app.sending import Listeners, SentTo
from gatepost.app.submission import LISTENER
from gatepost.delivery.carrying import LIST
from gatepost.delivery.route import Host
from gatepost.hooks.notices import Bounced, Deferred, Delivered
from gatepost.model import Recipient, Reply
from gatepost.serving.connected import Connected
from gatepost.serving.reception import Reception
from gatepost.store import Deposit, Entry

_DELIVERED = Reply(250, "2.0.0", "delivered")
_NOTICES = {"delivered": Delivered, "deferred": Deferred, "bounced": Bounced}
Say = Callable[[str, Mapping[str, object]], None]
"""Takes an event and its facts, for the log."""


class Observer:
    """delivery's Observer. The generation is asked for anew each time: delivery outlives reloads."""

    def __init__(
        self,
        recorder: TraceRecorder,
        generation: Callable[[], Generation],
        say: Callable[[], Say | None],
        following: Listeners | None = None,
    ) -> None:
        """`following` knows the programs that want to hear of their own messages."""
        self._recorder = recorder
        self._generation = generation
        self._say = say
        self._following = following

    def delivered(self, entry: Entry, recipient: Recipient, reply: Reply | None, host: Host | None) -> None:
        self._tell("delivered", entry, recipient, reply, _at(host))
        self._is_done(entry, recipient, reply or _DELIVERED, host)

    def deferred(
        self, entry: Entry, recipient: Recipient, reply: Reply, next_attempt: float, host: Host | None
    ) -> None:
        self._tell("deferred", entry, recipient, reply, {"next_attempt": int(next_attempt), **_at(host)})

    def bounced(self, entry: Entry, recipient: Recipient, reply: Reply, told: str, host: Host | None) -> None:
        self._tell("bounced", entry, recipient, reply, {"told": told, **_at(host)})
        self._is_done(entry, recipient, reply, host)

    def written(self, entry: Entry, deposit: Deposit) -> None:
        if LIST in deposit.facts:
            self._copied(entry, deposit)
            return
        token, transaction = deposit.ticket.token, {"transaction": deposit.ticket.number}
        record = self._recorder.record
        record(token, "session", {"peer": LISTENER, "port": 0, "listener": LISTENER})
        record(token, "sender", {**transaction, "sender": deposit.envelope.sender.address})
        for recipient in deposit.envelope.recipients:
            record(token, "recipient", {**transaction, "recipient": recipient.address})
        held = {} if deposit.held is None else {"held": deposit.held}
        record(token, "message", {**transaction, "size": deposit.content.size, "about": str(entry.ticket), **held})
        record(token, "end", {"how": "written here", "messages": 1})

    def _copied(self, entry: Entry, deposit: Deposit) -> None:
        """A post's copies have one ticket, in however many entries; who gets one is told as it is delivered."""
        name, ticket, record = deposit.facts[LIST], deposit.ticket, self._recorder.record
        count = len(deposit.envelope.recipients)
        facts = {"transaction": entry.ticket.number, "list": name, "as": str(ticket), "recipients": count}
        record(entry.ticket.token, "copied", facts)
        if deposit.part:
            return
        transaction = {"transaction": ticket.number}
        record(ticket.token, "session", {"peer": LISTENER, "port": 0, "listener": LISTENER})
        record(ticket.token, "sender", {**transaction, "sender": deposit.envelope.sender.address})
        about = {"size": deposit.content.size, "about": str(entry.ticket), "list": name}
        record(ticket.token, "message", {**transaction, **about})
        record(ticket.token, "end", {"how": "written here", "messages": 1})

    def _is_done(self, entry: Entry, recipient: Recipient, reply: Reply, host: Host | None) -> None:
        if self._following is not None:
            name = "" if host is None else str(host)
            self._following.done(entry.ticket, SentTo(recipient.address, reply, name))

    def _tell(
        self, kind: str, entry: Entry, recipient: Recipient, reply: Reply | None, more: Mapping[str, object]
    ) -> None:
        said = str(reply or "")
        facts = {"transaction": entry.ticket.number, "recipient": recipient.address, "reply": said, **more}
        self._recorder.record(entry.ticket.token, kind, facts)
        if (say := self._say()) is not None:
            say(kind, {"ticket": str(entry.ticket), "to": recipient.address, "reply": said, **more})
        generation, told = self._generation(), _NOTICES[kind]
        if told in generation.notices:
            generation.tell(told(generation.dispatcher.server, entry.ticket, recipient, reply))


def _at(host: Host | None) -> Mapping[str, object]:
    return {} if host is None else {"host": str(host)}


def session_facts(ended: Connected[Any]) -> dict[str, object]:
    """A session that has ended, for its line in the journal."""
    session = ended.session
    facts = {"token": session.id, "listener": session.listener, "peer": str(session.peer), "ended": ended.ending}
    if isinstance(ended, Reception):
        return {**facts, "begun": ended.mailing.begun, "accepted": ended.mailing.accepted}
    return {**facts, **ended.told()}
