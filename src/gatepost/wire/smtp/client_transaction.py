"""One message of a client session: the command lines of its envelope, and what became of each recipient.

Strategy: recipients are known by their place, so that one named twice has two outcomes. An outcome, once there, stays;
whatever ends the transaction early is the outcome of those who have none yet.
"""

from __future__ import annotations

from enum import Enum

from gatepost.model import Body, Recipient, Reply
from gatepost.wire.smtp.client_content import Chunking, DotStuffing
from gatepost.wire.smtp.client_envelope import command, mail, rcpt
from gatepost.wire.smtp.client_events import (
    LEFT_OUT,
    NOT_SENT,
    Capabilities,
    Outcome,
    Phase,
    Protocol,
    Purpose,
    Transaction,
)


class Asked(Enum):
    """What a reply is the answer to. The values are the phases people are told."""

    GREETING = Phase.GREETING
    HELLO = Phase.HELLO
    STARTTLS = Phase.TLS
    AUTH = Phase.AUTH
    INTRODUCTION = Phase.INTRODUCTION
    RESET = "reset"
    SENDER = Phase.SENDER
    RECIPIENT = Phase.RECIPIENT
    DATA = Phase.DATA
    CHUNK = Phase.CONTENT
    END = Phase.END_OF_DATA
    EXTRA = Phase.EXTRA
    NOTHING = "nothing"  # a lone dot after a 354 that should have been a refusal
    QUIT = Phase.QUIT

    @property
    def phase(self) -> Phase:
        """The phase a client is in that waits for it."""
        match self.value:
            case Phase() as phase:
                return phase
            case "reset":
                return Phase.SENDER
            case _:
                return Phase.END_OF_DATA

    @property
    def question(self) -> Phase:
        """The phase that questions about it name."""
        return Phase.RESET if self is Asked.RESET else self.phase


Command = tuple[bytes, Asked, int]
"""A command line, what it asks, and which recipient it concerns (-1: none)."""

_TOO_LARGE = Reply(552, "5.3.4", "the next server doesn't take a message of this size")
_NO_SMTPUTF8 = Reply(550, "5.6.7", "the next server doesn't take internationalised mail")
_NO_SMTPUTF8_RECIPIENT = Reply(553, "5.6.7", "the next server doesn't take internationalised addresses")
_NO_BINARYMIME = Reply(550, "5.6.3", "the next server doesn't take binary content")
_NO_REQUIRETLS = Reply(550, "5.7.30", "the next server doesn't promise to pass mail on by TLS only")
MAX_RESTARTS = 3  # of one transaction, to be rid of recipients that were given up after the server had taken them


class OpenTransaction:
    """A transaction under way. `accepted` holds the places of the recipients the server took, in order; `lines` the
    commands of its envelope.
    """

    __slots__ = (
        "_is_blind",
        "_offered",
        "_outcomes",
        "_purpose",
        "_recipients",
        "_restarts",
        "_taken",
        "_transaction",
        "accepted",
        "content",
        "is_tainted",
        "lines",
        "sender_line",
        "sender_reply",
        "uses_data",
    )

    def __init__(
        self,
        transaction: Transaction,
        offered: Capabilities,
        *,
        protocol: Protocol = Protocol.SMTP,
        mail_line: str | None = None,
        prefers_data: bool = False,
    ) -> None:
        """`mail_line` is said instead of the MAIL command that would be made; with `prefers_data` content goes by DATA
        where it can. Raises ValueError for an envelope that can't be written as command lines.
        """
        self._transaction = transaction
        self._offered = offered
        self._recipients = transaction.recipients
        self._purpose = transaction.purpose
        self._outcomes: list[Outcome | None] = [None] * len(transaction.recipients)
        self._is_blind = "DSN" not in offered.keywords and protocol is Protocol.SMTP
        self._restarts = 0
        self._taken: set[int] | None = None
        self.accepted: list[int] = []
        self.sender_reply: Reply | None = None
        self.sender_line = b""
        """The MAIL command that was answered."""
        self.is_tainted = False
        """Whether something else than the envelope's commands was said, so that nobody knows what the server holds."""
        binary = transaction.body is Body.BINARY_MIME
        # BDAT without PIPELINING would wait a round trip for every chunk
        can_chunk = "CHUNKING" in offered.keywords and "PIPELINING" in offered.keywords
        self.uses_data = not can_chunk or (prefers_data and not binary)
        self.content: DotStuffing | Chunking = DotStuffing() if self.uses_data else Chunking(binary=binary)
        excluded = self._excluded(transaction, offered)
        if excluded is not None:
            self.settle(excluded, Phase.SENDER, is_ours=True)
        self.lines = [] if excluded is not None else self._lines(transaction, offered, protocol, mail_line)

    def _excluded(self, transaction: Transaction, offered: Capabilities) -> Reply | None:
        """Why the server can't take the message at all, going by what it offers."""
        limit = offered.message_size
        if limit is not None and transaction.size > limit:  # rfc1870#6.1
            return _TOO_LARGE
        if transaction.body is Body.BINARY_MIME and (self.uses_data or "BINARYMIME" not in offered):  # rfc3030#3
            return _NO_BINARYMIME
        if (transaction.smtputf8 or transaction.sender.needs_smtputf8) and "SMTPUTF8" not in offered:  # rfc6531#3.5
            return _NO_SMTPUTF8
        if transaction.requiretls and "REQUIRETLS" not in offered:  # rfc8689#4.2.1
            return _NO_REQUIRETLS
        return None

    def _lines(
        self, transaction: Transaction, offered: Capabilities, protocol: Protocol, mail_line: str | None
    ) -> list[Command]:
        recipients: list[Command] = []
        for at, recipient in enumerate(transaction.recipients):
            if recipient.path.needs_smtputf8 and "SMTPUTF8" not in offered:
                self._outcomes[at] = Outcome(recipient, _NO_SMTPUTF8_RECIPIENT, Phase.RECIPIENT, is_ours=True)
                continue
            recipients.append((command(rcpt(recipient, offered)), Asked.RECIPIENT, at))
        if not recipients:
            return []
        line = mail_line
        if line is None:
            line = mail_command(transaction, offered, protocol)
        lines = [(command(line), Asked.SENDER, -1), *recipients]
        if self.uses_data and self._purpose is not Purpose.PROBE:
            lines.append((b"DATA\r\n", Asked.DATA, -1))
        return lines

    def mark_taken(self, at: int) -> None:
        """The server has said yes to this recipient, whatever becomes of that."""
        if self._taken is None:
            self._taken = set()
        self._taken.add(at)

    @property
    def has_stowaways(self) -> bool:
        """Whether the server would give the message to somebody whose outcome says otherwise."""
        if not self._taken or self._purpose is not Purpose.MESSAGE:
            return False
        return any(self._outcomes[at] is not None for at in self._taken)

    def restart(self) -> list[Command]:
        """The envelope once more, without recipients that have their outcome. Empty, and everybody left out, when that
        has been tried too often.
        """
        self._taken = None
        self.accepted.clear()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            self.settle(LEFT_OUT, Phase.RECIPIENT, is_ours=True)
            return []
        return [line for line in self.lines if line[2] < 0 or self._outcomes[line[2]] is None]

    def has_outcome(self, at: int) -> bool:
        """Whether the recipient at a place has one."""
        return self._outcomes[at] is not None

    @property
    def is_settled(self) -> bool:
        """Whether every recipient has its outcome."""
        return None not in self._outcomes

    @property
    def has_takers(self) -> bool:
        """Whether content may be sent: somebody is taken so far; everybody, where it is for all or for nobody."""
        if self._purpose is Purpose.MESSAGE_TO_ALL:
            return len(self.accepted) == len(self._recipients)
        return bool(self.accepted)

    @property
    def waits_for_all(self) -> bool:
        """Whether DATA may only be said when every RCPT is answered."""
        return self._purpose is Purpose.MESSAGE_TO_ALL

    @property
    def has_sender(self) -> bool:
        """Whether the server took the sender."""
        return self.sender_reply is not None and self.sender_reply.is_positive

    @property
    def awaits_each(self) -> bool:
        """Whether the server may begin to answer the content for each recipient: it was asked to, and hasn't begun."""
        return b"PRDR" in self.sender_line.upper().split()

    def begin_each(self) -> list[int]:
        """The server does begin: the places of the recipients it is going to answer for, in order."""
        self.sender_line = b""
        return self.accepted

    def recipient(self, at: int) -> Recipient:
        """The recipient at a place."""
        return self._recipients[at]

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Every recipient's outcome; to be asked at the end."""
        return tuple(
            Outcome(recipient, NOT_SENT, Phase.RECIPIENT, is_ours=True) if outcome is None else outcome
            for recipient, outcome in zip(self._recipients, self._outcomes, strict=True)
        )

    def answer_sender(self, reply: Reply, line: bytes) -> None:
        """The reply to MAIL, and how that was said; a refusal is every recipient's outcome."""
        self.sender_reply = reply
        self.sender_line = line
        if not reply.is_positive:
            self.settle(reply, Phase.SENDER)

    def answer_recipient(self, at: int, reply: Reply) -> None:
        """The reply to one RCPT. After a refused sender it changes nothing but is remembered if it accepts."""
        if reply.is_positive:
            self.accepted.append(at)
        if not reply.is_positive or self._purpose is Purpose.PROBE:
            self.settle_one(at, reply, Phase.RECIPIENT)

    def settle_one(self, at: int, reply: Reply, phase: Phase, *, is_ours: bool = False) -> None:
        """The outcome of one recipient, unless it has one."""
        if self._outcomes[at] is None:
            is_blind = self._is_blind and phase is Phase.END_OF_DATA and reply.is_positive
            self._outcomes[at] = Outcome(self._recipients[at], reply, phase, is_ours, is_blind)

    def settle(self, reply: Reply, phase: Phase, *, is_ours: bool = False) -> None:
        """The outcome of everybody who has none."""
        is_blind = self._is_blind and phase is Phase.END_OF_DATA and reply.is_positive
        for at, outcome in enumerate(self._outcomes):
            if outcome is None:
                self._outcomes[at] = Outcome(self._recipients[at], reply, phase, is_ours, is_blind)


def mail_command(transaction: Transaction, offered: Capabilities, protocol: Protocol) -> str:
    """The MAIL command, without CRLF, as it is said where nobody says it otherwise."""
    wants_each = (
        len(transaction.recipients) > 1
        and "PRDR" in offered.keywords
        and transaction.purpose is Purpose.MESSAGE
        and protocol is Protocol.SMTP  # LMTP answers for each anyway
    )
    return mail(transaction, offered, needs_utf8=needs_utf8(transaction, offered), wants_each=wants_each)


def needs_utf8(transaction: Transaction, offered: Capabilities) -> bool:
    """Whether MAIL says SMTPUTF8: for the content, the sender, or a recipient that isn't excluded."""
    if transaction.smtputf8 or transaction.sender.needs_smtputf8:
        return True
    return "SMTPUTF8" in offered.keywords and any(r.path.needs_smtputf8 for r in transaction.recipients)
