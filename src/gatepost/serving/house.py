"""The house's own policy, at its place in every chain: who may send to whom.

A gate is one route as reception sees it: which recipients it takes, from whom, and how to find out whether a recipient
exists. The first gate that matches decides; a recipient without a gate is refused, so nothing is relayed by accident.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from gatepost.hooks import stages
from gatepost.hooks.questions import Question
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import PROCEED, Refuse, Verdict
from gatepost.model import NULL_PATH, Blob, Envelope, Path, Recipient, Reply, glob_matches
from gatepost.model.senders import Senders
from gatepost.serving.returning import Returning


class OpenTo(Enum):
    """Who may send through a gate."""

    ANYONE = "anyone"
    AUTHENTICATED = "authenticated"


Existence = Callable[[Question], Awaitable[Reply | None]]
"""Finds out whether the recipient of a question exists: None if it does (or nobody knows), else the refusal."""

HandOver = Callable[[Session, Transaction, Envelope, Blob], Awaitable[Reply]]
"""Gives a message to the next server while the sender waits; its answer is ours."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One route, seen from reception."""

    match: str
    """A pattern of addresses: `*@example.org`."""
    open_to: OpenTo = OpenTo.AUTHENTICATED
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers that may use it besides."""
    exists: Existence | None = None
    hand_over: HandOver | None = None
    """Set where the next server is asked while the sender waits (`handover = "before-reply"`)."""
    to: str = ""
    """Who that next server is, for the record."""
    senders: Senders | None = None
    """Whose mail alone goes through it; None: everybody's."""
    covers: Callable[[Path], bool] | None = None
    """Who it is for, where a pattern doesn't say it."""

    _local: str = field(init=False, repr=False, compare=False, default="*")
    _domain: str = field(init=False, repr=False, compare=False, default="*")

    def __post_init__(self) -> None:
        local, at, domain = self.match.lower().rpartition("@")
        object.__setattr__(self, "_local", local if at else self.match.lower())
        object.__setattr__(self, "_domain", domain if at else "*")

    def takes(self, recipient: Recipient) -> bool:
        """Whether the pattern fits; as Path.matches, which reads the pattern anew each time."""
        if self.covers is not None:
            return self.covers(recipient.path)
        domain = self._domain
        if domain not in ("*", recipient.domain) and not glob_matches(domain, recipient.domain):
            return False
        return self._local == "*" or glob_matches(self._local, recipient.local.lower())

    def is_open_for(self, session: Session) -> bool:
        """Whether this session may send through it."""
        if self.open_to is OpenTo.ANYONE or session.user is not None:
            return True
        return any(session.peer.address in network for network in self.networks)


NO_RELAY = Reply(550, "5.7.1", "we do not relay")
NO_ROOM = Reply(452, "4.3.1", "no room for mail now, try again later")
NOT_YOURS = Reply(553, "5.7.1", "this isn't one of your addresses")


class GateHouse:
    """The gates of one generation, in order."""

    stages = frozenset({stages.Sender, stages.Recipient})

    def __init__(
        self,
        gates: Sequence[Gate],
        *,
        may_send_as: Callable[[str, str], bool] | None = None,
        own_addresses_at: frozenset[str] = frozenset(),
        has_room: Callable[[int], bool] | None = None,
        returning: Returning | None = None,
    ) -> None:
        self.gates = tuple(gates)
        self.hands_over = any(gate.hand_over is not None for gate in self.gates)
        self._may_send_as = may_send_as
        """Whether a user may use a sender's address; None where nobody can tell."""
        self._own_addresses_at = own_addresses_at
        """The listeners at which a user may send only as his own addresses."""
        self._has_room = has_room
        """Whether a message of so many octets (0: not announced) can be stored."""
        self.returning = returning
        """What is known of return paths that we have made; None where we make none."""

    def gate_for(self, recipient: Recipient, sender: Path = NULL_PATH, user: str | None = None) -> Gate | None:
        """The first gate that takes the recipient of this sender's and authenticated user's mail."""
        for gate in self.gates:
            if gate.takes(recipient) and (gate.senders is None or gate.senders.fit(sender, user)):
                return gate
        return None

    def ask(self, question: Question, *, may_relay: bool) -> Verdict | Awaitable[Verdict]:
        """The house's verdict at a stage; it has an opinion on senders and recipients."""
        if question.stage is stages.Recipient:
            return self._recipient(question, may_relay)
        if question.stage is stages.Sender:
            return self._sender(question)
        return PROCEED

    def admits(self, session: Session, recipient: Recipient) -> str | None:
        """Why a plugin can't add this recipient for this session; None if it can."""
        for gate in self.gates:
            if not gate.takes(recipient):
                continue
            if not gate.is_open_for(session):
                return "its route isn't open to this client"
            if gate.senders is None:  # a plugin may change the sender yet: each gate it could be has to be open
                return None
        return "it has no route"

    def _recipient(self, question: Question, may_relay: bool) -> Verdict | Awaitable[Verdict]:
        sender = NULL_PATH if question.transaction is None else question.transaction.sender
        recipient: Recipient = question.facts["recipient"]
        if self.returning is not None:
            said = self.returning.judge(recipient.path, sender)
            if isinstance(said, Reply):
                return Refuse(said)
            may_relay = may_relay or said
        gate = self.gate_for(recipient, sender, question.session.user)
        if gate is None or not (may_relay or gate.is_open_for(question.session)):
            return Refuse(NO_RELAY)
        if gate.exists is None:
            return PROCEED
        return _checked(gate.exists, question)

    def _sender(self, question: Question) -> Verdict:
        session, transaction = question.session, question.transaction
        if self._has_room is not None and not self._has_room(question.size or 0):
            return Refuse(NO_ROOM)
        if (
            self._may_send_as is not None
            and session.user is not None
            and session.listener in self._own_addresses_at
            and transaction is not None
            and transaction.sender
            and not self._may_send_as(session.user, transaction.sender.address)
        ):
            return Refuse(NOT_YOURS)  # rfc6409#6.1
        return PROCEED


async def _checked(exists: Existence, question: Question) -> Verdict:
    refusal = await exists(question)
    return PROCEED if refusal is None else Refuse(refusal)
