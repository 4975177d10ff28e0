"""Transport events: OnTransportSubmission or CDO's OnArrival before the 250, pre- and post-categorize after it.

A sink is asked about the message, and what it leaves there is its answer: MESSAGE_STATUS for all of it, RECIPIENT_FLAGS
and ERROR_CODE for one recipient. That a sender hears a refusal at OnTransportSubmission is an extension of this server.
Contract: Object model, MailMsg property ids, Ambiguities 1 and 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.events import Event, WithContent
from gatepost.hooks.verdicts import Discard, Quarantine, Refuse, Take, Verdict
from gatepost.model import Recipient, Reply
from gatepost.plugins.sink.asking import Asker
from gatepost.plugins.sink.constants import (
    IMMPID_MP,
    IMMPID_RP,
    MESSAGE_STATUS,
    RECIPIENT_FLAGS,
    S_OK,
    is_failure,
)
from gatepost.plugins.sink.message import EventMessage, message_of
from gatepost.plugins.sink.message_changes import TooLarge, apply, apply_content, recipient_of, recipients_of
from gatepost.plugins.sink.message_kept import Put, remember
from gatepost.plugins.sink.properties import dword_in, string_in
from gatepost.plugins.sink.states import Bag, Submission

METHODS: Mapping[type[Event], tuple[str, ...]] = {
    stages.Message: ("OnMessageSubmission", "OnArrival"),
    stages.Submitted: ("OnSyncMessagePreCategorize",),
    stages.Expanded: ("OnMessagePostCategorize",),
}
"""Which method of a sink is called at a stage: the first that it has."""

TOO_LARGE = Reply(552, "5.3.4", "the message is too large as a plugin has changed it")
BAD_MAIL = "bad mail"

_CONSUMED = "sinks needn't be asked any more"
_LATER = Reply(451, "4.3.0", "try again later")
_ABANDONED = Reply(554, "5.7.1", "delivery was abandoned")
_FAILED = Reply(550, "5.7.1", "refused")
_UNRESOLVED = Reply(550, "5.1.1", "no such recipient")
_HANDLED_BIT, _DELIVERED_BIT, _FAILED_BIT, _UNRESOLVED_BIT = 0x10, 0x100, 0x800, 0x1000
_REPLY = re.compile(r"([45]\d\d)[ \t-]*(?:([45]\.\d{1,3}\.\d{1,3})(?!\S))?[ \t]*(.*)", re.DOTALL | re.ASCII)
_OF_CONNECTION = (
    IMMPID_MP.CONNECTION_IP_ADDRESS,
    IMMPID_MP.HELO_DOMAIN,
    IMMPID_MP.CONNECTION_SERVER_IP_ADDRESS,
    IMMPID_MP.CONNECTION_SERVER_PORT,
    IMMPID_MP.ARRIVAL_TIME,
    IMMPID_MP.ARRIVAL_FILETIME,
)

Answer = Verdict | Mapping[Recipient, Verdict] | None
Hook = Callable[[Any], Any]


def transport_hooks(asker: Asker, *, message_size: int = 0) -> Mapping[type[Event], Hook]:
    """The hook of each transport event that the sink has a method for. `message_size`: the most octets of a message
    it rewrites; 0 for no limit.
    """
    found: dict[type[Event], Hook] = {}
    methods = asker.sink.methods
    keeps_connection = not methods.isdisjoint(METHODS[stages.Submitted] + METHODS[stages.Expanded])
    for stage, names in METHODS.items():
        method = next((name for name in names if name in methods), None)
        if method is not None:
            keeps = keeps_connection and stage is stages.Message
            found[stage] = _Transport(asker, method, message_size, keeps_connection=keeps)
    return found


class _Transport:
    """One event method of one sink."""

    def __init__(self, asker: Asker, method: str, message_size: int, *, keeps_connection: bool) -> None:
        """`keeps_connection`: what is known of the connection is kept for the same sink's methods after the 250."""
        self._asker = asker
        self._method = method
        self._message_size = message_size
        self._keeps_connection = keeps_connection

    async def __call__(self, event: WithContent) -> Answer:
        if _is_consumed(event):
            event.note(skipped="an earlier sink has ended the chain")
            return None
        message = message_of(event)
        if isinstance(event, stages.Message):
            remember(event, Put(self._kept(message)))
        hresult = await self._asker.ask(self._method, event, Submission(), message)
        answer = answer_of(message)
        apply(event, message)
        try:
            await apply_content(event, message, self._message_size)
        except TooLarge:
            return Refuse(TOO_LARGE)
        if hresult != S_OK and not event.turn.is_shadow:
            _consume(event)
        return answer

    def _kept(self, message: EventMessage) -> Bag:
        if not self._keeps_connection:
            return {}
        return {int(id): message.properties[id] for id in _OF_CONNECTION if id in message.properties}


def answer_of(message: EventMessage) -> Answer:
    """What the message's status, and its recipients' flags, come to."""
    if IMMPID_MP.MESSAGE_STATUS in message.put:
        of_all = _of_status(dword_in(message.properties, IMMPID_MP.MESSAGE_STATUS))
        if of_all is not None:
            return of_all
    if not message.put_for and message.written_list is None and not message.forks:
        return None
    everybody = dict(recipients_of(message))
    each = {one: verdict for one, bag in everybody.items() if (verdict := _of_recipient(bag)) is not None}
    for fork in message.forks:
        of_all = _of_status(fork.status)
        for bag in fork.recipients:
            one = recipient_of(bag)
            everybody[one] = bag
            if (verdict := of_all or _of_recipient(bag)) is not None:
                each[one] = verdict
            else:
                each.pop(one, None)
    if each and len(each) == len(everybody) and len(set(map(repr, each.values()))) == 1:
        return next(iter(each.values()))  # all of them alike: the message
    return each or None


def _of_status(status: int | None) -> Verdict | None:
    match status:
        case MESSAGE_STATUS.RETRY:
            return Refuse(_LATER)
        case MESSAGE_STATUS.ABORT_DELIVERY:
            return Discard("a sink has put MESSAGE_STATUS ABORT_DELIVERY")
        case MESSAGE_STATUS.BAD_MAIL:
            return Quarantine(BAD_MAIL)
        case MESSAGE_STATUS.ABANDON_DELIVERY:
            return Refuse(_ABANDONED)
        case _:
            return None


def _of_recipient(bag: Bag) -> Verdict | None:
    flags = dword_in(bag, IMMPID_RP.RECIPIENT_FLAGS)
    if flags & _FAILED_BIT:
        return Refuse(_reply(bag, _FAILED))
    if flags & _UNRESOLVED_BIT:
        return Refuse(_reply(bag, _UNRESOLVED))
    if flags & RECIPIENT_FLAGS.GENERAL_FAILURE or is_failure(dword_in(bag, IMMPID_RP.ERROR_CODE)):
        return Refuse(_reply(bag, _FAILED))
    if flags & (_DELIVERED_BIT | _HANDLED_BIT):
        return Take("a sink has handled it")
    if dword_in(bag, IMMPID_RP.DONT_DELIVER):
        return Discard("a sink has put DONT_DELIVER")
    return None


def _reply(bag: Bag, otherwise: Reply) -> Reply:
    """The SMTP_STATUS_STRING as a reply: "550 5.7.1 why", or a text alone."""
    said = string_in(bag, IMMPID_RP.SMTP_STATUS_STRING).strip()
    if not said:
        return otherwise
    found = _REPLY.match(said)
    if found is None:
        return otherwise.with_text(said)
    code, status, text = found.groups()
    return Reply(int(code), status if status and status[0] == code[0] else "", text)


def _is_consumed(event: Event) -> bool:
    transaction = event.transaction
    assert transaction is not None
    try:
        return bool(transaction.holder.get(_CONSUMED, _never))
    except LookupError:
        return False


def _consume(event: Event) -> None:
    """No sink after this one is asked about the message at this stage."""
    transaction = event.transaction
    assert transaction is not None
    transaction.holder.get(_CONSUMED, lambda: True)


def _never() -> bool:
    raise LookupError


__all__ = ["BAD_MAIL", "METHODS", "TOO_LARGE", "answer_of", "transport_hooks"]
