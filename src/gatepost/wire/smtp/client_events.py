"""What the client machine tells and is told: events, outcomes, capabilities, all frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gatepost.model import Body, Path, Recipient, Reply

MAX_KEYWORDS = 100  # of an EHLO reply; the rest is ignored


class Needs(Enum):
    """No event: `NEED_DATA` says that the machine waits for the server or for its caller."""

    DATA = "data"


NEED_DATA: Final = Needs.DATA


class State(Enum):
    """Where the session stands."""

    GREETING = auto()
    HELLO = auto()
    IDLE = auto()
    STARTTLS = auto()
    HANDSHAKE = auto()
    AUTH = auto()
    INTRODUCTION = auto()
    TRANSACTION = auto()
    CONTENT = auto()
    END_OF_DATA = auto()
    QUIT = auto()
    CLOSED = auto()


class Protocol(Enum):
    """SMTP (RFC 5321) or LMTP (RFC 2033)."""

    SMTP = "smtp"
    LMTP = "lmtp"


class Introduction(Enum):
    """How a server is told for whom we speak. The values are the commands (Postfix's XFORWARD_README, XCLIENT_README).

    XFORWARD is for its log; after XCLIENT it takes us for that client, and begins anew.
    """

    XFORWARD = "XFORWARD"
    XCLIENT = "XCLIENT"


class Phase(Enum):
    """What a client waits for, or failed at. The values are the words shown to people."""

    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    TLS = "tls"
    AUTH = "auth"
    INTRODUCTION = "introduction"
    RESET = "reset"
    SENDER = "sender"
    RECIPIENT = "recipient"
    DATA = "data"
    CONTENT = "content"
    END_OF_DATA = "end of data"
    QUIT = "quit"
    EXTRA = "extra line"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password for AUTH; never shown."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r}, password=…)"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server offers: EHLO keywords (upper-case) with their parameters; empty after HELO."""

    keywords: Mapping[str, str]

    @classmethod
    def of(cls, reply: Reply) -> Capabilities:
        """The keywords of an EHLO or LHLO reply (RFC 5321 §4.1.1.1); its first line is the greeting."""
        keywords: dict[str, str] = {}
        for line in reply.lines[1 : MAX_KEYWORDS + 1]:
            keyword, _, parameters = line.replace("AUTH=", "AUTH ", 1).partition(" ")  # AUTH=: older than rfc2554
            if keyword:
                keyword = keyword.upper()
                earlier = keywords.get(keyword)
                keywords[keyword] = parameters.strip() if earlier is None else f"{earlier} {parameters.strip()}"
        return cls(keywords)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def message_size(self) -> int | None:
        """The largest message in octets (RFC 1870 §4); None where it isn't said."""
        return _number(self.keywords.get("SIZE", "")) or None

    @property
    def mechanisms(self) -> frozenset[str]:
        """SASL mechanisms, upper-case (RFC 4954 §3)."""
        return frozenset(self.keywords.get("AUTH", "").upper().split())

    @property
    def recipients_max(self) -> int | None:
        """RCPTMAX: recipients in one transaction (RFC 9422 §4)."""
        return self._limit("RCPTMAX")

    @property
    def transactions_max(self) -> int | None:
        """MAILMAX: transactions on one connection (RFC 9422 §4)."""
        return self._limit("MAILMAX")

    @property
    def domains_max(self) -> int | None:
        """RCPTDOMAINMAX: recipients' domains in one transaction (RFC 9422 §4)."""
        return self._limit("RCPTDOMAINMAX")

    def _limit(self, name: str) -> int | None:
        for item in self.keywords.get("LIMITS", "").upper().split():
            key, _, value = item.partition("=")
            if key == name:
                return _number(value) or None  # rfc9422#3: a limit of 0, or no number, isn't one
        return None


NO_CAPABILITIES = Capabilities({})


class Purpose(Enum):
    """What a transaction is for, and so who gets content."""

    MESSAGE = "message"  # whoever is taken
    MESSAGE_TO_ALL = "message to all"  # everybody, or nobody if one is refused
    PROBE = "probe"  # nobody: what is said to MAIL and RCPT is the outcome


@dataclass(frozen=True, slots=True)
class Transaction:
    """One message to be sent, or asked about. At least one recipient; `size` in octets, with CRLF and without
    dot-stuffing, 0 where a probe doesn't know it.

    `smtputf8` says that the content needs RFC 6531; addresses that do are found by the machine. `ret` and `envid` are
    values as MAIL has them (RFC 3461 §4.3, §4.4: FULL or HDRS, and xtext), "" where there is none; NOTIFY and ORCPT are
    among the parameters of each recipient. What isn't well formed of them is left out. `requiretls` (RFC 8689): rather
    not at all than to a server that doesn't offer it.
    """

    sender: Path
    recipients: tuple[Recipient, ...]
    size: int
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    purpose: Purpose = Purpose.MESSAGE
    ret: str = ""
    envid: str = ""
    requiretls: bool = False


NOT_SENT: Final = Reply(451, "4.3.0", "not sent, since the next server didn't take every recipient")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient: the reply that decided it, and when. 2xx only after end-of-data, or for a probe.

    Where no reply decided it (connection lost, protocol broken, an extension missing, a step of the caller), the reply
    is the machine's own and `is_ours` holds. `is_relayed_blind`: taken by a next server that won't tell the sender of a
    delivery, since it doesn't offer DSN (RFC 3461 §5.2.2). An LMTP server's word is about the delivery itself.
    """

    recipient: Recipient
    reply: Reply
    phase: Phase
    is_ours: bool = False
    is_relayed_blind: bool = False

    @property
    def is_left_out(self) -> bool:
        """Whether this recipient was taken, and yet sent nothing because another one wasn't."""
        return self.reply is NOT_SENT


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server has said 220; EHLO is under way."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Ready:
    """EHLO, LHLO or HELO is answered: STARTTLS, AUTH, a transaction or QUIT may follow."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Unwelcome:
    """The server refused the connection or every hello. QUIT is under way; nothing can be sent."""

    reply: Reply
    phase: Phase


@dataclass(frozen=True, slots=True)
class TlsWanted:
    """The server awaits the handshake: do it, then call `tls_started()`."""


@dataclass(frozen=True, slots=True)
class TlsRefused:
    """STARTTLS was refused; the session goes on in the clear."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Authenticated:
    """AUTH succeeded."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class AuthRefused:
    """AUTH failed; the session goes on without it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Introduced:
    """What `introduce()` told is answered; after a refusal the session goes on without it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class SenderAnswered:
    """The reply to MAIL."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class RecipientAnswered:
    """The reply to one RCPT."""

    recipient: Recipient
    reply: Reply


@dataclass(frozen=True, slots=True)
class DataAnswered:
    """The reply to DATA, 354 or a refusal; not raised with BDAT."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """Feed the content: `send_content()` for each chunk, then `end_content()`."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The end of a transaction, once for each: every recipient exactly once, in the order they were given."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over; `reply` is what the server said last (221 or 421), None where it just hung up."""

    reply: Reply | None


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """The server broke the protocol; the session is over, and the connection must be dropped without a word."""

    text: str


@dataclass(frozen=True, slots=True)
class Asks:
    """What the machine stands still for. Nothing by default, and that costs nothing.

    `commands` are the phases whose command is shown before it leaves; who asks for DATA sees DATA, or "BDAT" at
    CONTENT before the first chunk of binary content. `replies`: each reply is shown before it counts. Without
    `may_pipeline` one command is under way at a time; with it a step that goes back (AskAgain, SendOctets at a reply)
    counts as Go while others are. DATA waits for every reply before it where replies are asked about.
    """

    commands: frozenset[Phase] = frozenset()
    replies: bool = False
    may_pipeline: bool = True


NO_QUESTIONS: Final = Asks()


@dataclass(frozen=True, slots=True)
class CommandDue:
    """A question: this command is next. `line` has no CRLF, and no secrets in AUTH. Answer it with `go()`."""

    phase: Phase
    line: str
    recipient: Recipient | None = None


@dataclass(frozen=True, slots=True)
class ReplyHeard:
    """A question: the server said this to that line ("" for its greeting). Answer it with `go()`. `is_pipelined`: other
    commands are under way behind it, so that nothing that goes back counts.
    """

    phase: Phase
    line: str
    recipient: Recipient | None
    reply: Reply
    is_pipelined: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """As it is; or, of a command, this line (without CRLF) instead."""

    line: str | None = None


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """The command isn't sent. Recipients it leaves without an outcome get LEFT_OUT."""


@dataclass(frozen=True, slots=True)
class SendOctets:
    """These octets instead of the command, or in answer to the reply; the next reply counts as the command's."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The command goes once more: at once after this reply, or after the reply to the command now due.

    With a line (without CRLF), that is said first, and then the command is due again, whatever was answered but 421 and
    3xx, which end the session. The question about that answer names the phase EXTRA.
    """

    line: str | None = None


@dataclass(frozen=True, slots=True)
class JumpTo:
    """Go on elsewhere: DATA (no more recipients), SENDER (no more of this message) or QUIT (no more of the session).

    A jump to DATA counts as Go while no recipient is taken, or told and not answered: there is nobody to send it to.
    """

    phase: Phase


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The outcome of the recipient concerned, or of all who have none; outside a transaction the session's end."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class EndSession:
    """The outcome of all who have none, and the session's end."""

    reply: Reply


Question = CommandDue | ReplyHeard
Step = Go | LeaveOut | SendOctets | AskAgain | JumpTo | GiveUp | EndSession

LEFT_OUT: Final = Reply(451, "4.3.0", "left out of this attempt")

Event = (
    Greeting
    | Ready
    | Unwelcome
    | TlsWanted
    | TlsRefused
    | Authenticated
    | AuthRefused
    | Introduced
    | SenderAnswered
    | RecipientAnswered
    | DataAnswered
    | ContentWanted
    | Outcomes
    | Closed
    | ProtocolError
    | CommandDue
    | ReplyHeard
)


def _number(text: str) -> int:
    """A non-negative decimal number of sane length, else 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
