"""What plugins see of a connection and of the server, and what the dispatcher remembers about a connection.

Objects made by plugins (`per_session`, `per_transaction`) live in a `Holder`, made on first use and closed exactly
once, so that idle sessions hold none.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gatepost.hooks.ports import Clock, Facts, Patience
from gatepost.model import Peer, Tls

if TYPE_CHECKING:
    from gatepost.hooks.events import Event

T = TypeVar("T")


@dataclass(slots=True)
class Standing:
    """What sticks to a session, a transaction or a recipient until its end: silence from Accept, and gravity."""

    silenced: bool = False
    quarantine: str | None = None
    discard: str | None = None
    may_relay: bool = False
    """An Accept of a binding that may was said."""


class Holder:
    """Objects that plugins keep for a while. Each is closed exactly once, by `close`, last made first."""

    __slots__ = ("_is_closed", "_things")

    def __init__(self) -> None:
        self._is_closed = False
        self._things: dict[object, Any] | None = None

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The object under `key`, made now if there is none yet. LookupError once everything was closed."""
        if self._is_closed:
            raise LookupError("what this object would belong to is over")
        if self._things is None:
            self._things = {}
        if key not in self._things:
            self._things[key] = make()
        found: T = self._things[key]
        return found

    def seal(self) -> bool:
        """Give out nothing any more; whether anything was made that has to be closed."""
        self._is_closed = True
        return self._things is not None

    async def close(self) -> list[BaseException]:
        """Close what was made; the errors of those that couldn't."""
        self._is_closed = True
        things, self._things = self._things, None
        errors: list[BaseException] = []
        ending: BaseException | None = None
        for thing in reversed((things or {}).values()):
            try:
                if (aclose := getattr(thing, "aclose", None)) is not None:
                    await aclose()
                elif (close := getattr(thing, "close", None)) is not None:
                    close()
            except (Exception, SystemExit) as error:  # noqa: BLE001  an object may fail in any way; the others close too
                errors.append(error)
            except BaseException as error:  # noqa: BLE001  what ends a task waits until the others are closed
                ending = ending or error
        if ending is not None:
            raise ending
        return errors


@dataclass(slots=True, eq=False)
class Session:
    """One connection, as plugins see it. Facts change only between questions."""

    id: str
    """The token: what refusals carry and `explain` takes."""
    listener: str
    protocol: str
    """smtp, submission, lmtp or pop3."""
    peer: Peer
    local: tuple[str, int]
    started: datetime
    patience: Patience = field(repr=False)
    tls: Tls | None = None
    helo: str = ""
    user: str | None = None
    """Who has authenticated, if anybody."""
    mechanism: str = ""
    """How: the SASL mechanism."""
    standing: Standing = field(default_factory=Standing, repr=False)
    holder: Holder = field(default_factory=Holder, repr=False)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run work beside the session, in a task of its own; its failure is logged, its result is the task's."""
        return self.patience.spawn(work)


@dataclass(slots=True, eq=False)
class OutgoingSession(Session):
    """One connection to a next server, as plugins see it. `peer` is that server, `listener` empty; `helo` is its name,
    so that rules and conditions find it under the word they have for the other side.
    """

    host: str = ""
    """The next server's name; its address where it has none."""
    capabilities: Mapping[str, str] = field(default_factory=dict)
    """What it offers: EHLO keywords, upper-case, with their parameters."""


@dataclass(frozen=True, slots=True)
class ServerView:
    """What plugins may use of the server."""

    hostname: str
    clock: Clock = field(repr=False)
    facts: Facts | None = field(default=None, repr=False)
    """The ledger: facts and counters with expiry, shared by all workers."""
    resolver: Any = field(default=None, repr=False)
    """DNS look-ups, cached and shared."""
    holder: Holder = field(default_factory=Holder, repr=False)
    """Objects that live as long as the worker, whatever is reloaded."""

    def now(self) -> datetime:
        """The wall clock, with its zone."""
        return self.clock.now()


class _Kept(Generic[T]):
    """A callable that gives an event's own object of one kind."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make


class PerSession(_Kept[T]):
    def __call__(self, event: Event) -> T:
        return event.session.holder.get(self, self._make)


class PerTransaction(_Kept[T]):
    def __call__(self, event: Event) -> T:
        transaction = event.transaction
        if transaction is None:
            raise LookupError(f"there is no transaction at {type(event).__name__}; use per_session")
        return transaction.holder.get(self, self._make)


def per_session(make: Callable[[], T]) -> PerSession[T]:
    """One object per session: `karma = per_session(Karma)`, then `karma(event).points -= 1`.

    Made on first use; its `aclose()` or `close()` is called once, when the session has ended.
    """
    return PerSession(make)


def per_transaction(make: Callable[[], T]) -> PerTransaction[T]:
    """One object per transaction; closed when the transaction has ended. LookupError before MAIL."""
    return PerTransaction(make)
