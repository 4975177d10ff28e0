"""What an entry looks like at rest: the deposit's facts as they were, and its progress beside them.

Both are MessagePack arrays with a leading version. A row never changes after its commit; what changes is its progress,
a small row of its own, so that a deferral doesn't rewrite the content. Decoding checks every type: whatever isn't an
entry raises Damaged and is set aside.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from gatepost.model import Blob, Body, Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store.spool import Deposit, Entry

_VERSION = 1
_NOTHING: Mapping[str, str] = MappingProxyType({})
_BODIES = frozenset(body.value for body in Body)
_PathRow = tuple[str, str, str]


class Damaged(Exception):
    """What was read isn't what was written."""


class Progress(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How far an entry has come: what changes between its commit and its end.

    `due` (s, Unix time) is meaningless while it is held. `finished` are the addresses that left the entry, done or
    failed; `said` what was last heard about those still waiting, `notes` what delivery wants to remember besides.
    """

    due: float
    since: float
    attempts: int = 0
    held: str | None = None
    finished: tuple[str, ...] = ()
    said: dict[str, str] | None = None
    notes: dict[str, str] | None = None

    @classmethod
    def at_first(cls, deposit: Deposit) -> Progress:
        """Of what has just been committed."""
        return cls.begun(deposit.received_at, deposit.held)

    @classmethod
    def begun(cls, at: float, held: str | None) -> Progress:
        """Of an entry that was received at `at` (s, Unix time) and not touched since."""
        return cls(at, at, 0, held)


class _Row(msgspec.Struct, array_like=True, frozen=True):
    version: int
    token: str
    number: int
    part: int
    received_at: float
    held: str | None
    authenticated: str | None
    sender: _PathRow
    recipients: list[tuple[str, str, str, dict[str, str]]]
    body: str
    smtputf8: bool
    parameters: dict[str, str]
    routes: dict[str, str]
    facts: dict[str, str]
    size: int
    checksum: int | None  # of content in the row; None: the content is in a file


_encoder = msgspec.msgpack.Encoder()
_rows = msgspec.msgpack.Decoder(_Row)
_progresses = msgspec.msgpack.Decoder(Progress)


def encode_deposit(deposit: Deposit, content: Blob) -> tuple[bytes, bytes | None]:
    """A deposit as the two columns of its row: facts, and the content if it rests in the row."""
    envelope = deposit.envelope
    sender = envelope.sender
    data = content.data if isinstance(content, Bytes) else None
    facts = _encoder.encode(
        (
            _VERSION,
            deposit.ticket.token,
            deposit.ticket.number,
            deposit.part,
            deposit.received_at,
            deposit.held,
            deposit.authenticated,
            (sender.local, sender.domain, sender.raw),
            [(r.path.local, r.path.domain, r.path.raw, dict(r.parameters)) for r in envelope.recipients],
            envelope.body.value,
            envelope.smtputf8,
            dict(envelope.parameters),
            dict(deposit.routes),
            dict(deposit.facts),
            content.size,
            None if data is None else zlib.crc32(data),
        )
    )
    return facts, data


class Filed(msgspec.Struct, frozen=True):
    """A decoded row: the deposit with a content of nothing, the content's size and where it rests."""

    deposit: Deposit
    size: int
    checksum: int | None


def decode_deposit(facts: bytes) -> Filed:
    """The deposit of a row; raises Damaged."""
    try:
        row = _rows.decode(facts)
        if row.version != _VERSION:
            raise Damaged(f"the row has version {row.version}, this program knows {_VERSION}")
        deposit = Deposit(
            Ticket(row.token, row.number),
            Envelope(
                Path(*row.sender),
                tuple(Recipient(Path(local, domain, raw), more) for local, domain, raw, more in row.recipients),
                Body(row.body),
                row.smtputf8,
                MappingProxyType(row.parameters),
            ),
            Bytes(b""),
            row.received_at,
            row.held,
            row.authenticated,
            row.part,
            row.routes,
            row.facts,
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise Damaged(f"the row can't be read: {error}") from error
    return Filed(deposit, row.size, row.checksum)


class Whose(NamedTuple):
    """Whose an entry is: the domain of its first recipient still waiting, and its sender (user, domain, or "").
    `is_mixed`: it has recipients in other domains too.
    """

    domain: str
    sender: str
    is_mixed: bool = False


class Brief(msgspec.Struct, frozen=True, gc=False):
    """What opening a spool needs of a row: its entry's id, how it began, whose it is, and where its content rests."""

    id: str
    received_at: float
    held: str | None
    whose: Whose
    size: int
    is_filed: bool


class Correspondents(msgspec.Struct, frozen=True, gc=False):
    """Whom an entry is from and for, to search in: the sender's address, the user's name, the recipients' addresses."""

    sender: str
    user: str
    recipients: tuple[str, ...]


def correspondents_of(facts: bytes) -> Correspondents:
    """Those of a row, without making the deposit; raises Damaged."""
    try:
        row = _rows.decode(facts)
    except msgspec.MsgspecError as error:
        raise Damaged(f"the row can't be read: {error}") from error
    recipients = tuple([_address(local, domain) for local, domain, _, _ in row.recipients])
    return Correspondents(_address(*row.sender[:2]), row.authenticated or "", recipients)


def correspondents(deposit: Deposit) -> Correspondents:
    """Those of a deposit."""
    envelope = deposit.envelope
    recipients = tuple([recipient.address for recipient in envelope.recipients])
    return Correspondents(envelope.sender.address, deposit.authenticated or "", recipients)


def _address(local: str, domain: str) -> str:
    # only a local part that must be quoted needs the longer way
    return f"{local}@{domain}" if domain and local.isalnum() else Path(local, domain, "").address


def whose(deposit: Deposit, recipients: Sequence[Recipient]) -> Whose:
    """Whose a deposit is as long as these recipients wait."""
    domain = recipients[0].path.domain if recipients else ""
    is_mixed = len(recipients) > 1 and any(recipient.path.domain != domain for recipient in recipients)
    return Whose(domain, deposit.authenticated or deposit.envelope.sender.domain, is_mixed)


def brief_of(facts: bytes) -> Brief:
    """A row, checked like the whole deposit but without making it: there may be a hundred thousand; raises Damaged."""
    try:
        row = _rows.decode(facts)
    except msgspec.MsgspecError as error:
        raise Damaged(f"the row can't be read: {error}") from error
    if row.version != _VERSION:
        raise Damaged(f"the row has version {row.version}, this program knows {_VERSION}")
    if row.body not in _BODIES:
        raise Damaged(f"the row can't be read: there is no body {row.body!r}")
    domain = row.recipients[0][1] if row.recipients else ""
    is_mixed = len(row.recipients) > 1 and any(recipient[1] != domain for recipient in row.recipients)
    return Brief(
        f"{row.token}-{row.number}.{row.part}" if row.part else f"{row.token}-{row.number}",
        row.received_at,
        row.held,
        Whose(domain, row.authenticated or row.sender[1], is_mixed),
        row.size,
        row.checksum is None,
    )


def check_content(filed: Filed, data: bytes | None) -> Blob:
    """The content that rested in the row; raises Damaged if it isn't what was written."""
    if data is None or len(data) != filed.size or zlib.crc32(data) != filed.checksum:
        raise Damaged("the content in the row isn't what was written")
    return Bytes(data)


def encode_progress(progress: Progress) -> bytes:
    return _encoder.encode(progress)


def decode_progress(data: bytes) -> Progress:
    """The progress of a row; raises Damaged."""
    try:
        return _progresses.decode(data)
    except msgspec.MsgspecError as error:
        raise Damaged(f"the progress can't be read: {error}") from error


def to_entry(id: str, deposit: Deposit, content: Blob, progress: Progress, *, fresh: bool = False) -> Entry:
    """A deposit at rest as delivery and operators see it: with the recipients still waiting."""
    envelope = deposit.envelope
    if progress.finished:
        finished = frozenset(progress.finished)
        waiting = tuple(r for r in envelope.recipients if r.address not in finished)
        envelope = replace(envelope, recipients=waiting)
    return Entry(
        id,
        deposit.ticket,
        deposit.part,
        envelope,
        content,
        deposit.received_at,
        progress.since,
        progress.attempts,
        None if progress.held is not None else progress.due,
        progress.held,
        deposit.authenticated,
        deposit.routes,
        deposit.facts,
        progress.said or _NOTHING,
        fresh,
        progress.notes or _NOTHING,
    )
