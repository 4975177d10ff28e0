"""One message of a client session: the command lines of its envelope, and what became of each recipient.

Strategy: recipients are known by their place, so that one named twice has two outcomes. An outcome, once there, stays;
whatever ends the transaction early is the outcome of those who have none yet.
"""

from __future__ import annotations

from enum import Enum

from gatepost.model import Body, Recipient, Reply
from gatepost.wire.smtp.client_content import Chunking, DotStuffing
from gatepost.wire.smtp.client_events import NOT_SENT, Capabilities, Outcome, Phase, Purpose, Transaction


class Asked(Enum):
    """What a reply is the answer to. The values are the phases people are told."""

    GREETING = Phase.GREETING
    HELLO = Phase.HELLO
    STARTTLS = Phase.TLS
    AUTH = Phase.AUTH
    RESET = "reset"
    SENDER = Phase.SENDER
    RECIPIENT = Phase.RECIPIENT
    DATA = Phase.DATA
    CHUNK = Phase.CONTENT
    END = Phase.END_OF_DATA
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


Command = tuple[bytes, Asked, int]
"""A command line, what it asks, and which recipient it concerns (-1: none)."""

_TOO_LARGE = Reply(552, "5.3.4", "the next server doesn't take a message of this size")
_NO_SMTPUTF8 = Reply(550, "5.6.7", "the next server doesn't take internationalised mail")
_NO_SMTPUTF8_RECIPIENT = Reply(553, "5.6.7", "the next server doesn't take internationalised addresses")
_NO_BINARYMIME = Reply(550, "5.6.3", "the next server doesn't take binary content")


class OpenTransaction:
    """A transaction under way. `accepted` holds the places of the recipients the server took, in order."""

    __slots__ = ("_outcomes", "_purpose", "_recipients", "accepted", "content", "lines", "sender_reply", "uses_data")

    def __init__(self, transaction: Transaction, offered: Capabilities) -> None:
        """Raises ValueError for an envelope that can't be written as command lines."""
        self._recipients = transaction.recipients
        self._purpose = transaction.purpose
        self._outcomes: list[Outcome | None] = [None] * len(transaction.recipients)
        self.accepted: list[int] = []
        self.sender_reply: Reply | None = None
        binary = transaction.body is Body.BINARY_MIME
        # BDAT without PIPELINING would wait a round trip for every chunk
        self.uses_data = not ("CHUNKING" in offered and "PIPELINING" in offered)
        self.content: DotStuffing | Chunking = DotStuffing() if self.uses_data else Chunking(binary=binary)
        excluded = self._excluded(transaction, offered)
        if excluded is not None:
            self.settle(excluded, Phase.SENDER, is_ours=True)
        self.lines = [] if excluded is not None else self._lines(transaction, offered)

    def _excluded(self, transaction: Transaction, offered: Capabilities) -> Reply | None:
        """Why the server can't take the message at all, going by what it offers."""
        limit = offered.message_size
        if limit is not None and transaction.size > limit:  # rfc1870#6.1
            return _TOO_LARGE
        if transaction.body is Body.BINARY_MIME and (self.uses_data or "BINARYMIME" not in offered):  # rfc3030#3
            return _NO_BINARYMIME
        if (transaction.smtputf8 or transaction.sender.needs_smtputf8) and "SMTPUTF8" not in offered:  # rfc6531#3.5
            return _NO_SMTPUTF8
        return None

    def _lines(self, transaction: Transaction, offered: Capabilities) -> list[Command]:
        recipients: list[Command] = []
        needs_utf8 = transaction.smtputf8 or transaction.sender.needs_smtputf8
        for at, recipient in enumerate(transaction.recipients):
            if recipient.path.needs_smtputf8:
                if "SMTPUTF8" not in offered:
                    self._outcomes[at] = Outcome(recipient, _NO_SMTPUTF8_RECIPIENT, Phase.RECIPIENT, is_ours=True)
                    continue
                needs_utf8 = True
            recipients.append((command(f"RCPT TO:<{recipient.address}>"), Asked.RECIPIENT, at))
        if not recipients:
            return []
        line = f"MAIL FROM:<{transaction.sender.address}>"
        if "SIZE" in offered and (transaction.size or self._purpose is not Purpose.PROBE):
            line += f" SIZE={transaction.size}"  # rfc1870#3
        # 8-bit content goes to a server without 8BITMIME as it is: rfc6152#3 would have it converted or returned, but
        # servers of that kind take it, and a conversion would break signatures
        if transaction.body is Body.BINARY_MIME or (transaction.body is Body.EIGHT_BIT_MIME and "8BITMIME" in offered):
            line += f" BODY={transaction.body.value}"  # rfc6152#3, rfc3030#3
        if needs_utf8:
            line += " SMTPUTF8"  # rfc6531#3.4
        lines = [(command(line), Asked.SENDER, -1), *recipients]
        if self.uses_data and self._purpose is not Purpose.PROBE:
            lines.append((b"DATA\r\n", Asked.DATA, -1))
        return lines

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

    def answer_sender(self, reply: Reply) -> None:
        """The reply to MAIL; a refusal is every recipient's outcome."""
        self.sender_reply = reply
        if not reply.is_positive:
            self.settle(reply, Phase.SENDER)

    def answer_recipient(self, at: int, reply: Reply) -> None:
        """The reply to one RCPT. After a refused sender it changes nothing but is remembered if it accepts."""
        if reply.is_positive:
            self.accepted.append(at)
        if not reply.is_positive or self._purpose is Purpose.PROBE:
            self.settle_one(at, reply, Phase.RECIPIENT)

    def settle_one(self, at: int, reply: Reply, phase: Phase) -> None:
        """The outcome of one recipient, unless it has one."""
        if self._outcomes[at] is None:
            self._outcomes[at] = Outcome(self._recipients[at], reply, phase)

    def settle(self, reply: Reply, phase: Phase, *, is_ours: bool = False) -> None:
        """The outcome of everybody who has none."""
        for at, outcome in enumerate(self._outcomes):
            if outcome is None:
                self._outcomes[at] = Outcome(self._recipients[at], reply, phase, is_ours)


def command(text: str) -> bytes:
    """A command line. Raises ValueError where it would be more than one line."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError("a command line can't hold CR, LF or NUL")
    return text.encode() + b"\r\n"
