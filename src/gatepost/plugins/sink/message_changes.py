"""What a sink has changed about a message, as edits of its event.

The lists of recipients before and after are compared, so that whoever stays stays in place, with the parameters of his
RCPT. Edits count only if the sink's answer does, as every plugin's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from gatepost.content.difference import changed
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.events import Event
from gatepost.model import (
    AddRecipient,
    AddressError,
    Blob,
    ChangeSender,
    ContentEdit,
    Path,
    Recipient,
    RemoveRecipient,
    ReplaceMessage,
    Split,
)
from gatepost.plugins.host.keeping import keep
from gatepost.plugins.sink.constants import IMMPID_MP, IMMPID_RP
from gatepost.plugins.sink.message import NOTIFY_FLAGS, EventMessage, notify_flags, notify_words
from gatepost.plugins.sink.message_kept import Put, remember
from gatepost.plugins.sink.properties import dword_in, string_in
from gatepost.plugins.sink.states import Bag

_AT_ONCE = 64 * 1024  # octets that are compared in the loop
_OF_LIST = (IMMPID_RP.ADDRESS_SMTP, IMMPID_RP.RECIPIENT_FLAGS, IMMPID_RP.DSN_ORCPT_VALUE)


class TooLarge(Exception):
    """The content has become larger than a message may be."""


def apply(event: Event, message: EventMessage) -> None:
    """What the sink has changed of the envelope and put on the message: edits of the event. AnswerError.

    Before MAIL there is nothing to edit: what was put then is put on every message of the session.
    """
    if not (message.put or message.put_for or message.written_list is not None or message.forks):
        return
    if event.transaction is not None:
        if IMMPID_MP.SENDER_ADDRESS_SMTP in message.put:
            sender = _path(string_in(message.properties, IMMPID_MP.SENDER_ADDRESS_SMTP))
            if sender != event.transaction.sender:
                event.turn.record(ChangeSender(sender))
        if _lists_differ(message):
            _change_recipients(event, message)
    remember(event, _what_was_put(message))


async def apply_content(event: Event, message: EventMessage, most: int = 0) -> None:
    """The content that the sink has written, and that of its forks: edits of the event. To be called after `apply`.

    `most`: octets that a message may have; 0 for no limit. TooLarge; AnswerError.
    """
    before = message.content
    if before is None:
        return
    shared = before
    if message.rewritten is not None and (edit := await _replacing(event, before, message.rewritten, most)) is not None:
        event.turn.record(edit)
        shared = message.rewritten
    for fork in message.forks:
        group = tuple(dict.fromkeys(recipient_of(bag) for bag in fork.recipients))
        if not group:
            continue
        own = await _replacing(event, shared, fork.content, most)
        edits: tuple[ContentEdit, ...] = () if own is None else (own,)
        event.turn.record(Split(group, edits))


def recipients_of(message: EventMessage) -> list[tuple[Recipient, Bag]]:
    """The message's own recipients as the sink has left them, with their properties; AnswerError."""
    if message.written_list is not None:
        return [(recipient_of(bag), bag) for bag in message.written_list]
    if not message.put_for:
        return [(one, {}) for one in message.people]
    found: list[tuple[Recipient, Bag]] = []
    for index, (one, bag) in enumerate(zip(message.people, message.recipients, strict=True)):
        is_other = not message.put_for.get(index, set()).isdisjoint(_OF_LIST)
        found.append((recipient_of(bag) if is_other else one, bag))
    return found


async def _replacing(event: Event, before: Blob, after: Blob, most: int) -> ReplaceMessage | None:
    if after is before:
        return None
    if not after.size:
        raise AnswerError("the message's content is empty, and a success was returned")
    if 0 < most < after.size:
        raise TooLarge
    if max(before.size, after.size) <= _AT_ONCE:
        changes = changed(before, after)
    else:
        changes = await asyncio.get_running_loop().run_in_executor(None, changed, before, after)
    if changes is None:
        return None
    keep(after, event.transaction)
    return ReplaceMessage(after, changes)


def _lists_differ(message: EventMessage) -> bool:
    if message.written_list is not None or message.forks:
        return True
    return any(not put.isdisjoint(_OF_LIST) for put in message.put_for.values())


def _change_recipients(event: Event, message: EventMessage) -> None:
    wanted = dict.fromkeys(one for one, _ in recipients_of(message))
    for fork in message.forks:
        for bag in fork.recipients:
            wanted.setdefault(recipient_of(bag))
    there = {one: one for one in message.people}
    record = event.turn.record
    for one in message.people:
        if one not in wanted:
            record(RemoveRecipient(one))
    for one in wanted:
        known = there.get(one)
        if known is not None and one is not known and _asks_otherwise(known, one):
            record(RemoveRecipient(known))
            known = None
        if known is None:
            record(AddRecipient(one))


def _asks_otherwise(known: Recipient, one: Recipient) -> bool:
    """Whether what is to be reported of a recipient has changed."""
    if not one.parameters:  # the list's author has said nothing about it
        return False
    before = (notify_flags(known), known.parameters.get("ORCPT"))
    return (notify_flags(one), one.parameters.get("ORCPT")) != before


def recipient_of(bag: Bag) -> Recipient:
    """The recipient that a bag of properties is; AnswerError where it has no address."""
    address = string_in(bag, IMMPID_RP.ADDRESS_SMTP)
    path = _path(address)
    if not path:
        raise AnswerError("a sink has left a recipient without an SMTP address")
    parameters = {}
    if words := notify_words(dword_in(bag, IMMPID_RP.RECIPIENT_FLAGS) & NOTIFY_FLAGS):
        parameters["NOTIFY"] = words
    if original := string_in(bag, IMMPID_RP.DSN_ORCPT_VALUE):
        parameters["ORCPT"] = original
    return Recipient(path, parameters)


def _path(address: str) -> Path:
    try:
        return Path.parse(address.strip("<> "), bare_postmaster=True)
    except AddressError as error:
        raise AnswerError(f"a sink has put {address[:80]!r}, which is no address: {error}") from error


def _what_was_put(message: EventMessage) -> Put:
    properties = message.properties if message.put else {}
    of: dict[str, Bag] = {}
    if message.written_list is not None:
        before = {string_in(bag, IMMPID_RP.ADDRESS_SMTP): bag for bag in message.recipients}
        of = _differing(message.written_list, before)
    elif message.put_for:
        for index, ids in message.put_for.items():
            bag = message.recipients[index]
            if ids:
                of[recipient_of(bag).address] = {id: bag[id] for id in ids}
    for fork in message.forks:
        of.update(_differing(fork.recipients, {}))
    return Put({id: properties[id] for id in message.put if id in properties}, of)


def _differing(bags: Iterable[Bag], before: dict[str, Bag]) -> dict[str, Bag]:
    """What recipients of a new list have that they hadn't before."""
    named: Sequence[int] = (IMMPID_RP.ADDRESS_SMTP, IMMPID_RP.DOMAIN, IMMPID_RP.DSN_ORCPT_VALUE)
    found: dict[str, Bag] = {}
    for bag in bags:
        address = recipient_of(bag).address
        old = before.get(address, {})
        if new := {id: value for id, value in bag.items() if id not in named and old.get(id) != value}:
            found[address] = new
    return found
