"""The lists inside SMTP: the built-in plugin that answers for their addresses while the sender is still on the line.

At `recipient` it says what the envelope alone decides: whether there is such an address, who may write to it at all,
how often. At `message` it judges posts, and keeps what it found with them, so that nobody is asked again at expansion.
What is refused here was never accepted: nobody gets a bounce for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from ipaddress import IPv6Address, ip_network
from typing import Any

from gatepost.hooks.stages import Message, Recipient, Transaction
from gatepost.hooks.verdicts import Refuse, Verdict
from gatepost.lists.addressing import Purpose, bounced_member, decided_ticket, purpose_of
from gatepost.lists.posting import Allowed, Judgement, Moderate, Refused, examine, judge_envelope
from gatepost.model import Address, Path, Reply
from gatepost.model import Recipient as Rcpt
from gatepost.store.lists import ListStore, MailingList
from gatepost.store.users import folded

NAME = "lists"
PRIORITY = 24600
"""Behind the house: it has said whether mail for the address is taken from this client."""
HOUR_S = 3600.0
PER_SENDER = 10
"""Requests to a list by one sender within an hour."""
PER_PEER = 60
"""Requests to all lists by one client within an hour: subscriptions are asked for under other people's names too."""

NO_SUCH_ADDRESS = Reply(550, "5.1.1", "the list has no such address")
NOT_READY = Reply(451, "4.3.5", "this list isn't set up yet, try again later")
NOT_FOR_REPORTS = Reply(550, "5.7.1", "this address takes requests from people, not reports")
NOT_BY_MAIL = Reply(550, "5.7.1", "nobody can subscribe to this list by mail")
TOO_OFTEN = Reply(450, "4.7.1", "too many requests, try again later")

_REQUESTS = frozenset({Purpose.REQUEST, Purpose.SUBSCRIBE, Purpose.UNSUBSCRIBE})
_FROM_PEOPLE = _REQUESTS | {Purpose.CONFIRM, Purpose.APPROVE, Purpose.REFUSE}
_TOKEN = 16

Listed = Callable[[Path, Path, str | None], str | None]
"""The name of the list whose route takes a recipient's mail, from this sender and authenticated user; None: none."""


def fact_name(name: str) -> str:
    """Under which name it is kept with a message what was found about it for a list."""
    return f"list:{name}"


def fact_of(judgement: Judgement) -> str:
    """What is kept of a judgement: "allowed", or "moderate: " and why."""
    match judgement:
        case Allowed():
            return "allowed"
        case Moderate(reason):
            return f"moderate: {reason}"
        case Refused(reply):
            return f"refused: {reply}"


def judgement_of(kept: Mapping[str, str], name: str) -> Allowed | Moderate | None:
    """What was found in the session about a post to a list; None where there was none, so that it is judged now."""
    found = kept.get(fact_name(name), "")
    if found == "allowed":
        return Allowed()
    word, colon, reason = found.partition(": ")
    return Moderate(reason) if word == "moderate" and colon else None


class ListGate:
    """Answers for the lists' addresses. Immutable; a failing database is a 451 by the binding's `on_failure`."""

    def __init__(self, store: ListStore, listed: Listed) -> None:
        self._store = store
        self._listed = listed

    def recipient(self, event: Recipient) -> Coroutine[Any, Any, Verdict | None] | None:
        """What the envelope alone decides about one recipient; who is no list's costs a look-up."""
        name = self._listed(event.recipient.path, event.sender, event.session.user)
        return None if name is None else self._recipient(event, name)

    async def _recipient(self, event: Recipient, name: str) -> Verdict | None:
        found = await self._find(event, event.recipient, name)
        if isinstance(found, Reply):
            return Refuse(found)
        mailing_list, purpose, extension = found
        event.note(list=mailing_list.name, purpose=purpose.name.lower())
        refusal = self._by_envelope(event, mailing_list, purpose, extension)
        if refusal is None and purpose in _REQUESTS and await self._is_too_often(event, mailing_list):
            refusal = TOO_OFTEN
        return None if refusal is None else Refuse(refusal)

    async def message(self, event: Message) -> Mapping[Rcpt, Verdict] | None:
        """What becomes of a post, for each list that is among its recipients."""
        answer: dict[Rcpt, Verdict] = {}
        for recipient in event.recipients:
            name = self._listed(recipient.path, event.sender, event.session.user)
            if name is None:
                continue
            found = await self._find(event, recipient, name)
            if isinstance(found, Reply):  # the list was removed between RCPT and now
                answer[recipient] = Refuse(found)
                continue
            if found[1] is not Purpose.POST:
                continue
            mailing_list = found[0]
            judgement = await examine(
                self._store,
                mailing_list,
                event.message.blob,
                sender=event.sender,
                user=event.session.user,
                is_forged=event.kept.get("dmarc", "").startswith("fail"),
            )
            event.note(**{f"list {mailing_list.name}": fact_of(judgement)})
            if isinstance(judgement, Refused):
                answer[recipient] = Refuse(judgement.reply)
            else:
                event.keep(fact_name(mailing_list.name), fact_of(judgement))
        return answer or None

    async def _find(self, event: Transaction, recipient: Rcpt, name: str) -> tuple[MailingList, Purpose, str] | Reply:
        """The list of that name, and what the recipient is for; a refusal where one of them is unknown."""
        mailing_list = await self._store.find(name)
        if mailing_list is None:
            event.note(list=f'there is no list "{name}": gatepost list create {name} ADDRESS')
            return NOT_READY
        found = purpose_of(mailing_list.address, recipient.path)
        return NO_SUCH_ADDRESS if found is None else (mailing_list, *found)

    def _by_envelope(
        self, event: Recipient, mailing_list: MailingList, purpose: Purpose, extension: str
    ) -> Reply | None:
        secret = self._store.secret
        if purpose in _FROM_PEOPLE and not event.sender:
            return NOT_FOR_REPORTS
        match purpose:
            case Purpose.POST:
                return judge_envelope(mailing_list, event.sender, _announced(event))
            case Purpose.SUBSCRIBE if mailing_list.options.subscribe == "closed":
                return NOT_BY_MAIL
            case Purpose.CONFIRM | Purpose.PROBE:
                is_one = len(extension) == _TOKEN and extension.isalnum()
            case Purpose.BOUNCES if extension:
                is_one = bounced_member(mailing_list, extension, secret) is not None
            case Purpose.APPROVE | Purpose.REFUSE:
                is_one = decided_ticket(mailing_list, purpose, extension, secret) is not None
            case _:
                is_one = True
        return None if is_one else NO_SUCH_ADDRESS

    async def _is_too_often(self, event: Recipient, mailing_list: MailingList) -> bool:
        facts = event.server.facts
        if facts is None:
            return False
        by_sender = await facts.count("list-requests", f"{mailing_list.name} {folded(str(event.sender))}", HOUR_S)
        by_peer = await facts.count("list-requests", f"from {_near(event.session.peer.address)}", HOUR_S)
        return by_sender > PER_SENDER or by_peer > PER_PEER


def _announced(event: Recipient) -> int:
    """The size that the client has announced (RFC 1870), 0 for none."""
    said = "" if event.transaction is None else event.transaction.parameters.get("SIZE", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 20 else 0


def _near(address: Address) -> str:
    """One client: an IPv4 address, or the /64 that an IPv6 address is chosen from."""
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)
