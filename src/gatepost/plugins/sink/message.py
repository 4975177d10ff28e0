"""A message as pMsg, made from an event: what is known of it so far, as properties. Contract: MailMsg property ids.

Strategy: nothing is made before somebody looks, since most protocol sinks don't look at the message at all; what is
the same for a whole session is made once. Values are as on the wire: addresses without brackets, ORCPT and ENVID in
xtext.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from gatepost.content.addresses import parse_list
from gatepost.hooks import stages
from gatepost.hooks.events import Event, WithContent
from gatepost.hooks.session import OutgoingSession, Session
from gatepost.model import Blob, Headers, Recipient
from gatepost.plugins.sink.constants import IMMPID_MP, IMMPID_RP, MESSAGE_STATUS, MSGCLASS, RECIPIENT_FLAGS
from gatepost.plugins.sink.message_kept import Put, put_on
from gatepost.plugins.sink.properties import boolean, dword, string
from gatepost.plugins.sink.states import Bag, Message

LONGEST_HEADER = 4096
"""Characters of a header field in a property; the whole is in the content."""

_VERSION: str = sys.modules["gatepost"].__version__  # not imported: nothing below the house may
_FILETIME = 116_444_736_000_000_000  # 1970, in 100 ns since 1601
_CONNECTION = "a sink's view of the connection"
_ARRIVAL = "when a sink saw the message first"
_HEADERS = "a message's header for sinks"
_NOTIFY = {
    "SUCCESS": RECIPIENT_FLAGS.DSN_NOTIFY_SUCCESS,
    "FAILURE": RECIPIENT_FLAGS.DSN_NOTIFY_FAILURE,
    "DELAY": RECIPIENT_FLAGS.DSN_NOTIFY_DELAY,
    "NEVER": RECIPIENT_FLAGS.DSN_NOTIFY_NEVER,
}
NOTIFY_FLAGS = sum(_NOTIFY.values())
_STATUS: Mapping[type[Event], MESSAGE_STATUS] = {
    stages.Submitted: MESSAGE_STATUS.SUBMITTED,
    stages.Expanded: MESSAGE_STATUS.CATEGORIZED,
}
_FROM_HEADER = (
    (IMMPID_MP.RFC822_MSG_ID, "Message-ID"),
    (IMMPID_MP.RFC822_MSG_SUBJECT, "Subject"),
    (IMMPID_MP.RFC822_FROM_ADDRESS, "From"),
    (IMMPID_MP.RFC822_TO_ADDRESS, "To"),
    (IMMPID_MP.RFC822_CC_ADDRESS, "Cc"),
    (IMMPID_MP.RFC822_BCC_ADDRESS, "Bcc"),
    (IMMPID_MP.CONTENT_TYPE, "Content-Type"),
)
_NUMBER = re.compile(r"\s*([0-9]{1,9})(?![0-9])", re.ASCII)
_REPORT = re.compile(r"\s*multipart/report\s*;.*\breport-type\s*=\s*\"?delivery-status\b", re.IGNORECASE | re.DOTALL)
_ACTION = re.compile(rb"^action:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)
_LONGEST_REPORT = 64 * 1024  # octets in which a report says what has become of the message
_ADDRESSES = ((IMMPID_MP.FROM_ADDRESS, "From"), (IMMPID_MP.SENDER_ADDRESS, "Sender"))


class EventMessage(Message):
    """The message that an event is about. Its properties, recipients and content are made when they are looked at."""

    __slots__ = ("_event", "_put_before", "people")

    people: tuple[Recipient, ...]
    """Who the recipients are, by their index."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self.put = set()
        self.put_for = {}
        self.written_list = None
        self.rewritten = None
        self.forks = []

    def __getattr__(self, name: str) -> Any:
        make = _MADE.get(name)
        if make is None:
            raise AttributeError(name)
        made = make(self._event, self)
        setattr(self, name, made)
        return made


def message_of(event: Event) -> EventMessage:
    """pMsg at this event: whatever is known already, at least the connection's properties."""
    return EventMessage(event)


def _properties(event: Event, message: EventMessage) -> Bag:
    bag = dict(_of_connection(event))
    transaction = event.transaction
    if transaction is not None:
        bag[IMMPID_MP.SENDER_ADDRESS_SMTP] = string(transaction.sender.address)
        bag[IMMPID_MP.NUM_RECIPIENTS] = dword(len(message.people))
        bag[IMMPID_MP.MESSAGE_STATUS] = dword(_STATUS.get(type(event), MESSAGE_STATUS.SUCCESS))
        if transaction.parameters:
            _add_parameters(bag, transaction.parameters)
        bag[IMMPID_MP.ARRIVAL_TIME] = bag[IMMPID_MP.ARRIVAL_FILETIME] = _arrival(event)
        if message.content is not None:
            bag[IMMPID_MP.MSG_SIZE_HINT] = dword(min(message.content.size, 0xFFFFFFFF))
            bag.update(_of_header(event))
    bag.update(message._put_before.message)
    return bag


def _recipients(event: Event, message: EventMessage) -> list[Bag]:
    put = message._put_before.recipients
    found = [_recipient_bag(one) for one in message.people]
    if put:
        for one, bag in zip(message.people, found, strict=True):
            bag.update(put.get(one.address, {}))
    return found


def _people(event: Event, message: EventMessage) -> tuple[Recipient, ...]:
    if event.transaction is None:
        return ()
    subjects = event.recipients if isinstance(event, WithContent) else event.transaction.recipients
    return tuple(subjects)


def _content(event: Event, message: EventMessage) -> Any:
    if event.transaction is None or event.transaction.content is None:
        return None
    return _view(event).blob


def _put(event: Event, message: EventMessage) -> Put:
    return put_on(event)


_MADE = {
    "properties": _properties,
    "recipients": _recipients,
    "people": _people,
    "content": _content,
    "_put_before": _put,
}


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Connection:
    """What a connection's properties were made from, and they."""

    __slots__ = ("bag", "known")

    def __init__(self) -> None:
        self.known: object = None
        self.bag: Bag = {}


def _of_connection(event: Event) -> Bag:
    session = event.session
    if isinstance(session, OutgoingSession) or not session.listener:  # not the one that the message came by
        return _of_client(event, session, is_here=False)
    try:
        cached = session.holder.get(_CONNECTION, _Connection)
    except LookupError:  # a shadow, asked when it is over
        cached = _Connection()
    known = (session.helo, session.user, session.peer)
    if cached.known != known:
        cached.known, cached.bag = known, _of_client(event, session, is_here=True)
    return cached.bag


def _of_client(event: Event, session: Session, *, is_here: bool) -> Bag:
    bag: Bag = {
        IMMPID_MP.SERVER_NAME: string(event.server.hostname),
        IMMPID_MP.SERVER_VERSION: string(f"Gatepost {_VERSION}"),
    }
    if is_here:
        bag[IMMPID_MP.CONNECTION_IP_ADDRESS] = string(str(session.peer.address))
        bag[IMMPID_MP.CONNECTION_SERVER_IP_ADDRESS] = string(session.local[0])
        bag[IMMPID_MP.CONNECTION_SERVER_PORT] = dword(session.local[1])
        if session.helo:
            bag[IMMPID_MP.HELO_DOMAIN] = string(session.helo)
    if session.user is not None:
        bag[IMMPID_MP.AUTHENTICATED_USER_NAME] = bag[IMMPID_MP.CLIENT_AUTH_USER] = string(session.user)
        if session.mechanism:
            bag[IMMPID_MP.CLIENT_AUTH_TYPE] = string(session.mechanism)
    return bag


def _add_parameters(bag: Bag, parameters: Any) -> None:
    """MAIL's: rfc1870, rfc3461, rfc4954, rfc6152, rfc3030."""
    for id, name in (
        (IMMPID_MP.DSN_ENVID_VALUE, "ENVID"),
        (IMMPID_MP.DSN_RET_VALUE, "RET"),
        (IMMPID_MP.INBOUND_MAIL_FROM_AUTH, "AUTH"),
    ):
        if value := parameters.get(name):
            bag[id] = string(value)
    body = str(parameters.get("BODY", "")).upper()
    bag[IMMPID_MP.EIGHTBIT_MIME_OPTION] = boolean(body == "8BITMIME")
    bag[IMMPID_MP.BINARYMIME_OPTION] = boolean(body == "BINARYMIME")
    size = str(parameters.get("SIZE", ""))
    if size.isdecimal() and len(size) <= 20:  # rfc1870#3
        bag[IMMPID_MP.MSG_SIZE_HINT] = dword(min(int(size), 0xFFFFFFFF))


def _arrival(event: Event) -> bytes:
    """As a FILETIME, the same at every stage before the 250."""
    if not event.session.listener:
        unix = event.session.started.timestamp()
        return _filetime(unix)
    transaction = event.transaction
    assert transaction is not None
    try:
        return transaction.holder.get(_ARRIVAL, lambda: _filetime(event.server.clock.unix()[0]))
    except LookupError:
        return _filetime(event.server.clock.unix()[0])


def _filetime(unix: float) -> bytes:
    return (int(unix * 10_000_000) + _FILETIME).to_bytes(8, "little")


def _of_header(event: Event) -> Bag:
    """What the header says; read once for all sinks, as long as nobody changes the content."""
    transaction = event.transaction
    assert transaction is not None
    view = _view(event)
    headers = view.headers
    try:
        known: dict[int, Bag] = transaction.holder.get(_HEADERS, dict)
    except LookupError:
        known = {}
    edits = len(transaction.edits)
    if edits not in known:
        known.clear()
        known[edits] = bag = _header_bag(headers)
        if (kind := _class_of(headers, view.blob)) is not None:
            bag[IMMPID_MP.MSGCLASS] = dword(kind)
    return known[edits]


def _header_bag(headers: Headers) -> Bag:
    bag: Bag = {}
    for id, name in _FROM_HEADER:
        if (value := headers.get(name)) is not None:
            bag[id] = string(value[:LONGEST_HEADER])
    for id, name in _ADDRESSES:
        if (value := headers.get(name)) is not None and (mailboxes := parse_list(value).mailboxes):
            bag[id] = string(mailboxes[0].address)
    if (found := _NUMBER.match(headers.get("X-Priority") or "")) is not None:
        bag[IMMPID_MP.X_PRIORITY] = dword(int(found[1]))
    return bag


def _class_of(headers: Headers, content: Blob) -> MSGCLASS | None:
    """What kind of report the message is (rfc3464#2.3.3), if it is one: of failures, or of anything else."""
    kind = headers.get("Content-Type") or ""
    if not _REPORT.match(kind):
        return None
    actions = {found[1].lower() for found in _ACTION.finditer(content.read(0, _LONGEST_REPORT))}
    return MSGCLASS.NONDELIVERY_REPORT if b"failed" in actions or not actions else MSGCLASS.DELIVERY_REPORT


def _view(event: Event) -> Any:
    if isinstance(event, WithContent):
        return event.message
    transaction = event.transaction
    assert transaction is not None
    assert transaction.content is not None
    return transaction.content.view(transaction.edits, _refuse_edits)


def _refuse_edits(edit: object) -> None:
    raise TypeError("the content can't be changed here")


def _recipient_bag(recipient: Recipient) -> Bag:
    bag: Bag = {
        IMMPID_RP.ADDRESS_SMTP: string(recipient.address),
        IMMPID_RP.DOMAIN: string(recipient.domain),
        IMMPID_RP.RECIPIENT_FLAGS: dword(notify_flags(recipient)),
    }
    if original := recipient.parameters.get("ORCPT"):
        bag[IMMPID_RP.DSN_ORCPT_VALUE] = string(original)
    return bag


def notify_flags(recipient: Recipient) -> int:
    """The flags that say what the sender wants to hear (rfc3461#4.1)."""
    if not recipient.parameters:
        return 0
    words = str(recipient.parameters.get("NOTIFY", "")).upper().split(",")
    return sum({_NOTIFY[word] for word in words if word in _NOTIFY})


def notify_words(flags: int) -> str:
    """The value of NOTIFY that these flags mean; "" for none."""
    return ",".join(word for word, flag in _NOTIFY.items() if flags & flag)
