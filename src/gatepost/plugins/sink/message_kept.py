"""The properties that sinks put on a message: how long they stay, and how they are kept with it.

Those that this server acts on, and volatile ones (0x3000, 0x4000), last until the transaction is over. All others are
kept with the message in the spool, and seen by every later sink, also after a restart. What is put before MAIL is put
on every message of the session. Contract: MailMsg property ids.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from gatepost.hooks import stages
from gatepost.hooks.events import Event
from gatepost.hooks.session import Holder
from gatepost.model import Keep
from gatepost.plugins.sink.constants import IMMPID_MP, IMMPID_RP
from gatepost.plugins.sink.states import Bag

NAME = "sink"
"""Under which they are kept."""

_VOLATILE = range(0x3000, 0x5000)
_OBEYED = frozenset({IMMPID_MP.SENDER_ADDRESS_SMTP, IMMPID_MP.MESSAGE_STATUS})
_OBEYED_FOR = frozenset(
    {IMMPID_RP.ADDRESS_SMTP, IMMPID_RP.RECIPIENT_FLAGS, IMMPID_RP.ERROR_CODE, IMMPID_RP.SMTP_STATUS_STRING}
)
_PASSING = "what sinks put on the message"


class Put(msgspec.Struct):
    """Properties of a message, and of its recipients by their addresses."""

    message: Bag = {}
    recipients: dict[str, Bag] = {}

    def __bool__(self) -> bool:
        return bool(self.message or self.recipients)

    def over(self, other: Put) -> Put:
        """These, and the other's where these have none."""
        if not other:
            return self
        recipients = dict(other.recipients)
        for address, bag in self.recipients.items():
            recipients[address] = {**recipients.get(address, {}), **bag}
        return Put({**other.message, **self.message}, recipients)


NOTHING = Put()


def put_on(event: Event) -> Put:
    """What earlier sinks have put, and is there still."""
    transaction = event.transaction
    found = _passing(event.session.holder)
    if transaction is not None:
        texts = transaction.kept
        if NAME in texts:
            found = read(texts[NAME]).over(found)
        found = _passing(transaction.holder).over(found)
    return found


def remember(event: Event, put: Put) -> None:
    """What this sink has put is seen by later ones: the passing of it now, the rest if its answer counts."""
    transaction = event.transaction
    if event.turn.is_shadow:  # nothing of it is seen by anybody
        return
    if transaction is None:
        _let_pass(event.session.holder, put)
        return
    if type(event) in stages.OUTBOUND:  # where a message in the queue isn't changed any more
        _let_pass(transaction.holder, put)
        return
    _let_pass(transaction.holder, _part(put, lasting=False))
    lasting = _part(put, lasting=True).over(_part(_passing(event.session.holder), lasting=True))
    if not lasting:
        return
    before = transaction.kept.get(NAME)
    for edit in event.turn.edits:
        if isinstance(edit, Keep) and edit.name == NAME:
            before = edit.text
    text = write(lasting if before is None else lasting.over(read(before)))
    if text != before:
        event.turn.record(Keep(NAME, text))


def write(put: Put) -> str:
    """As a text."""
    return msgspec.json.encode(put).decode()


def read(text: str) -> Put:
    """What `write` has written; nothing where the text is something else."""
    try:
        return msgspec.json.decode(text, type=Put)
    except msgspec.DecodeError:
        return NOTHING


def _part(put: Put, *, lasting: bool) -> Put:
    message = {id: value for id, value in put.message.items() if (id not in _VOLATILE and id not in _OBEYED) == lasting}
    recipients: dict[str, Bag] = {}
    for address, bag in put.recipients.items():
        part = {id: value for id, value in bag.items() if (id not in _VOLATILE and id not in _OBEYED_FOR) == lasting}
        if part:
            recipients[address] = part
    return Put(message, recipients)


def _let_pass(holder: Holder, put: Put) -> None:
    if put:
        with suppress(LookupError):  # a shadow, asked when it is over
            there = holder.get(_PASSING, lambda: Put({}, {}))
            merged = put.over(there)
            there.message, there.recipients = merged.message, merged.recipients


def _passing(holder: Holder) -> Put:
    """What lasts as long as the transaction, or the session, that has this holder."""
    try:
        return holder.get(_PASSING, _nothing)
    except LookupError:
        return NOTHING


def _nothing() -> Put:
    """Nothing is made where nothing was put."""
    raise LookupError
