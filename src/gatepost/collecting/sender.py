"""Whom a fetched message is from and for: what its header still says of the envelope it once had.

The sender is Return-Path's, else nobody: no notice goes to who may be invented. The recipient is the account's, or, in
a maildrop for several people, those that the other server names in a header field. What stands above its Received field
was written by that server; what stands below came with the message, and counts only where there is nothing above.
"""

from __future__ import annotations

import logging

from gatepost.collecting.accounts import Account, MultiDrop
from gatepost.collecting.origin import believed_hops, hops
from gatepost.content.addresses import MAX_MAILBOXES, parse_list
from gatepost.content.headers import Section
from gatepost.content.values import unfold
from gatepost.model import AddressError, Path, Recipient
from gatepost.model.path import NULL_PATH

log = logging.getLogger("gatepost.collecting")

_RECEIVED = "received"
_MAX_VALUES = 200


def sender_of(section: Section) -> Path:
    """The return path that the other server noted; the null path where there is none, or none that can be."""
    for raw in section.raw_values("return-path")[:1]:
        text = unfold(raw).strip().removeprefix("<").removesuffix(">").strip()
        try:
            return Path.parse(text)
        except AddressError:
            return NULL_PATH
    return NULL_PATH


def recipients_of(section: Section, account: Account) -> tuple[Recipient, ...]:
    """At least one: the account's own where nobody else is named."""
    if account.envelope is None:
        return (Recipient(account.to),)
    named, is_all = _named(section, account.envelope, account)
    most = account.most_recipients
    if not is_all or len(named) > most:  # nobody's mail is lost: somebody sees that there were more
        log.warning("%s: more than %d recipients; %s gets it for the others", account.name, most, account.to)
        named = (*named[: most - 1], account.to)
    return tuple(Recipient(path) for path in dict.fromkeys(named or (account.to,)))


def _named(section: Section, envelope: MultiDrop, account: Account) -> tuple[tuple[Path, ...], bool]:
    """Those whom the field names, and whether that is all of them."""
    if envelope.header.lower() == _RECEIVED:
        values = [hop.whom for hop in believed_hops(hops(section), account.believed) if hop.whom]
    else:
        above, values = _values(section, envelope.header.lower())
        values = above or values
    found: dict[Path, None] = {}
    is_all = len(values) <= _MAX_VALUES
    for value in values[:_MAX_VALUES]:
        several = parse_list(value).mailboxes
        is_all = is_all and len(several) < MAX_MAILBOXES
        for mailbox in several:
            address = mailbox.address
            if envelope.prefix and address.lower().startswith(envelope.prefix.lower()):
                address = address[len(envelope.prefix) :]
            try:
                path = Path.parse(address)
            except AddressError:
                continue
            if path and envelope.counts(path):
                found.setdefault(path)
    return tuple(found), is_all


def _values(section: Section, name: str) -> tuple[list[str], list[str]]:
    """What the field says above the first Received field, and what it says anywhere."""
    above: list[str] = []
    anywhere: list[str] = []
    is_above = True
    wanted = name.encode("ascii", "replace")
    for field, known in zip(section.fields, section.names, strict=True):
        is_above = is_above and known != b"received"
        if known == wanted:
            value = unfold(field.partition(b":")[2])
            anywhere.append(value)
            if is_above:
                above.append(value)
    return above, anywhere
