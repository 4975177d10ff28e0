"""What one binding sees of one question: the parts that events of several stages have in common.

An event is made anew for each binding and sealed when the binding has answered or its time is over; what a sealed event
is asked to change raises EventClosed. Changes are recorded as edits and count only if the answer does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.transaction import Transaction as TransactionState
from gatepost.model import (
    AddHeader,
    AddRecipient,
    AddressError,
    ChangeSender,
    ContentEdit,
    DeleteHeader,
    Edit,
    Keep,
    Path,
    RemoveRecipient,
    Reply,
    Split,
)
from gatepost.model import Message as MessageView
from gatepost.model import Recipient as Rcpt

E = TypeVar("E", bound="Event")
NOTE_LIMIT = 200  # characters of one note


class EventClosed(RuntimeError):
    """The hook has answered, or its time is over: the event takes no more changes."""


@dataclass(slots=True, eq=False)
class Turn:
    """One binding's turn at one question: what it may use, and what it has said besides its verdict."""

    properties: Any
    deadline: float
    """On the monotonic clock, in seconds."""
    monotonic: Callable[[], float]
    edits: list[Edit] = field(default_factory=list)
    notes: dict[str, str] | None = None
    said: str | None = None
    is_open: bool = True
    prepared: Awaitable[Any] | None = None
    is_shadow: bool = False
    """Nobody obeys this binding: what it shares with others must stay as it is."""

    def record(self, edit: Edit) -> None:
        """Remember an edit; EventClosed once the turn is over."""
        if not self.is_open:
            raise EventClosed("this event is closed: its hook has answered, or its time was over")
        self.edits.append(edit)


@dataclass(eq=False)
class Event:
    """What every stage has."""

    name: ClassVar[str] = ""
    session: Session
    """The connection."""
    server: ServerView
    """The server: its name, clock, ledger and resolver."""
    reply: Reply
    """What would be said now, if nobody objected; from priority 24576 on, after the house."""
    turn: Turn = field(repr=False)
    transaction: TransactionState | None = field(default=None, repr=False)

    @property
    def properties(self) -> Any:
        """The binding's properties: a mapping, or the dataclass its plugin declares."""
        return self.turn.properties

    @property
    def remaining_s(self) -> float:
        """Seconds left to answer."""
        return max(0.0, self.turn.deadline - self.turn.monotonic())

    @property
    def prepared(self) -> Awaitable[Any]:
        """What the hook's own `prepare` function is finding out; awaiting it gives its result."""
        if self.turn.prepared is None:
            raise LookupError("this hook has no prepare function")
        return self.turn.prepared

    def note(self, **facts: object) -> None:
        """Facts for the trace; shown by `explain`."""
        self._check_open()
        said = {key: str(value)[:NOTE_LIMIT] for key, value in facts.items()}
        if self.turn.notes is None:
            self.turn.notes = said
        else:
            self.turn.notes.update(said)

    def say(self, text: str) -> None:
        """The text of the positive reply. Code and status stay."""
        self._check_open()
        if not isinstance(text, str):
            raise TypeError(f"a reply's text is a str, not {type(text).__name__}")
        self.turn.said = text

    def _check_open(self) -> None:
        if not self.turn.is_open:
            raise EventClosed("this event is closed: its hook has answered, or its time was over")


@dataclass(eq=False)
class Transaction(Event):
    """What every stage within a transaction has."""

    @property
    def sender(self) -> Path:
        """The reverse-path; falsy for the null sender."""
        return self._state.sender

    @property
    def recipients(self) -> Recipients:
        """The recipients accepted so far; at `message` those this binding is asked about."""
        return Recipients(self)

    def add_header(self, name: str, value: str, at: int | None = None) -> None:
        """Add a header field at the end, or before the field at index `at` (0: the very top); kept until the content
        is there, dropped with the transaction.
        """
        self.turn.record(AddHeader(name, value, at))

    def delete_header(self, name: str) -> None:
        """Delete every header field of that name that the client sends or an earlier plugin added."""
        self.turn.record(DeleteHeader(name))

    def change_sender(self, address: str) -> None:
        """Another reverse-path; "" is the null sender. AddressError if it isn't an address."""
        self.turn.record(ChangeSender(Path.parse(address)))

    @property
    def kept(self) -> Mapping[str, str]:
        """The texts that plugins have kept with the message, by name, this binding's own among them."""
        own = {edit.name: edit.text for edit in self.turn.edits if isinstance(edit, Keep)}
        return {**self._state.kept, **own}

    def keep(self, name: str, text: str) -> None:
        """Keep a text with the message, durable with it: every later stage sees it, after the 250 and on the way out
        too. Nobody it is sent to does. At most 64 KiB a message. TypeError.
        """
        if not (isinstance(name, str) and isinstance(text, str)):
            raise TypeError("what is kept is a text, under a name")
        self.turn.record(Keep(name, text))

    @property
    def _state(self) -> TransactionState:
        if self.transaction is None:
            raise LookupError(f"{type(self).__name__} was asked without a transaction")
        return self.transaction


@dataclass(eq=False)
class WithContent(Transaction):
    """What every stage has that knows the content."""

    can_split: ClassVar[bool] = False
    """Whether recipients may be given content of their own here."""

    subjects: tuple[Rcpt, ...] = ()

    @property
    def message(self) -> MessageView:
        """The content as this binding sees it: with the edits of the bindings before it, and its own."""
        if self._view is None:
            content = self._state.content
            if content is None:
                raise LookupError("there is no content yet")
            self._view = content.view(self._earlier_edits(), self.turn.record)
        return self._view

    def _earlier_edits(self) -> list[ContentEdit]:
        return list(self._state.edits)

    _view: MessageView | None = field(default=None, repr=False)


class Recipients:
    """The recipients as one binding sees them. Changes are edits: they count if the binding's answer does."""

    __slots__ = ("_event",)

    def __init__(self, event: Transaction) -> None:
        self._event = event

    def _all(self) -> list[Rcpt]:
        event = self._event
        found = list(event.subjects) if isinstance(event, WithContent) else list(event._state.recipients)
        for edit in event.turn.edits:
            match edit:
                case AddRecipient(recipient):
                    if recipient not in found:
                        found.append(recipient)
                case RemoveRecipient(recipient):
                    if recipient in found:
                        found.remove(recipient)
                case _:
                    pass
        return found

    def __iter__(self) -> Iterator[Rcpt]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, recipient: object) -> bool:
        return recipient in self._all()

    def add(self, address: str) -> Rcpt:
        """One more recipient, who must have a route open to this client, unless the binding `may_relay`.

        AddressError if it isn't an address.
        """
        path = Path.parse(address, bare_postmaster=True)
        if not path:
            raise AddressError("nobody can't be a recipient")
        recipient = Rcpt(path)
        self._event.turn.record(AddRecipient(recipient))
        return recipient

    def remove(self, recipient: Rcpt) -> None:
        """One recipient less; the sender isn't told."""
        self._event.turn.record(RemoveRecipient(recipient))

    def replace(self, recipient: Rcpt, *addresses: str) -> None:
        """These instead of that one."""
        self.remove(recipient)
        for address in addresses:
            self.add(address)

    def split(self, group: Iterable[Rcpt]) -> MessageView:
        """A message of their own for these recipients: what is changed on it concerns only them. At `message`,
        `submitted` and `expanded`.
        """
        event = self._event
        if not isinstance(event, WithContent) or not event.can_split or event._state.content is None:
            raise LookupError(f"recipients can't be split at {event.name}; bind to message, submitted or expanded")
        members = tuple(group)
        own: list[ContentEdit] = []
        split_edits = _SplitEdits(event.turn, members, own)
        return event._state.content.view(event._earlier_edits(), split_edits.record)


class _SplitEdits:
    """Keeps one Split in the turn up to date with the edits made on the group's own message."""

    def __init__(self, turn: Turn, members: tuple[Rcpt, ...], own: list[ContentEdit]) -> None:
        self._turn, self._members, self._own = turn, members, own
        self._at = len(turn.edits)
        turn.record(Split(members, ()))

    def record(self, edit: Edit) -> None:
        if not self._turn.is_open:
            raise EventClosed("this event is closed: its hook has answered, or its time was over")
        if not isinstance(edit, ContentEdit):
            raise TypeError("only the content can differ within one message")
        self._own.append(edit)
        self._turn.edits[self._at] = Split(self._members, tuple(self._own))
