"""The moments plugins are asked about. A stage's class is its documentation: `docs/stages.md` is generated from here.

The stages of a session that sends to us, and those after its 250; what is asked on the way out is in `hooks.outbound`,
what is asked in a POP3 session in `hooks.pop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import ClassVar

from gatepost.hooks.events import E, Event, EventClosed, Recipients, Transaction, Turn, WithContent
from gatepost.hooks.outbound import (
    OutCommand,
    OutData,
    OutMessage,
    OutQuit,
    OutRecipient,
    OutReply,
    OutSession,
)
from gatepost.hooks.pop import PopDelete, PopLogin, PopRetrieve
from gatepost.model import Path
from gatepost.model import Recipient as Rcpt


@dataclass(eq=False)
class Connect(Event):
    """A client has connected; the banner hasn't been said. A refusal is 554, and all but QUIT then gets 503."""

    name: ClassVar[str] = "connect"


@dataclass(eq=False)
class Hello(Event):
    """EHLO, HELO or LHLO."""

    name: ClassVar[str] = "hello"
    helo: str = ""
    """The name the client gives itself; not verified."""
    capabilities: list[str] = field(default_factory=list)
    """The extensions that will be offered, a line each; may be changed. Empty for HELO."""


@dataclass(eq=False)
class Auth(Event):
    """The client wants to be a user. Identity and Deny decide; Credentials lets the house check; None leaves it to the
    house's own users."""

    name: ClassVar[str] = "auth"
    mechanism: str = ""
    """PLAIN, LOGIN or SCRAM-SHA-256."""
    user: str = ""
    """The name the client gives."""
    password: str | None = None
    """The password; None where the mechanism doesn't send one."""


@dataclass(eq=False)
class Sender(Transaction):
    """MAIL: the reverse-path is known. A refusal leaves the session as it was."""

    name: ClassVar[str] = "sender"
    parameters: Mapping[str, str] = field(default_factory=dict)
    """MAIL's parameters, keywords upper-case: SIZE, BODY, SMTPUTF8, AUTH …"""


@dataclass(eq=False)
class Recipient(Transaction):
    """RCPT: one recipient more. A refusal concerns this recipient only."""

    name: ClassVar[str] = "recipient"
    recipient: Rcpt = field(default_factory=lambda: Rcpt(Path()))
    """The recipient asked about; not among `recipients` yet."""


@dataclass(eq=False)
class Data(Transaction):
    """DATA, before the 354; for BDAT at the first chunk, after its octets are read."""

    name: ClassVar[str] = "data"


@dataclass(eq=False)
class Headers(WithContent):
    """The header section has arrived; `message` ends with it. A refusal is remembered and said at end-of-data."""

    name: ClassVar[str] = "headers"


@dataclass(eq=False)
class Message(WithContent):
    """End-of-data, before the 250: the last moment at which the sender hears a refusal. Asked about each recipient."""

    name: ClassVar[str] = "message"
    can_split: ClassVar[bool] = True


@dataclass(eq=False)
class Command(Event):
    """A command line, before it is parsed; or, after Converse, the next lines or octets for the plugin."""

    name: ClassVar[str] = "command"
    line: str = ""
    """Without CRLF; AUTH's arguments are hidden from bindings that don't say `secrets = true`."""
    blob: bytes | None = None
    """What Converse asked for; None for an ordinary line."""
    number: int = 0
    """Which line of the session it is, from 1; of what Converse asked for, that of the line which began it."""

    @property
    def verb(self) -> str:
        """The first word, upper-case."""
        return self.line.partition(" ")[0].upper()

    @property
    def argument(self) -> str:
        """What follows the verb, without blanks around it."""
        return self.line.partition(" ")[2].strip()


@dataclass(eq=False)
class Replying(Event):
    """A reply, just before it leaves. Its text may be replaced; its class of code only where nothing hangs on it: a
    refusal may become a later or a final one, and the reply to a command that moves nothing any of the three.
    """

    name: ClassVar[str] = "reply"
    line: str = ""
    """The line it answers, passwords hidden; "." at end-of-data, "" for the banner."""
    number: int = 0
    """Which line of the session that is, from 1; 0 for the banner."""

    @property
    def verb(self) -> str:
        """The line's first word, upper-case."""
        return self.line.partition(" ")[0].upper()


@dataclass(eq=False)
class Submitted(WithContent):
    """A message was accepted, its 250 said; aliases and lists aren't expanded yet. Asked once for each message, when
    delivery first takes it up, and once more after a crash or a failure. A refusal is reported to the sender.
    """

    name: ClassVar[str] = "submitted"
    can_split: ClassVar[bool] = True


@dataclass(eq=False)
class Expanded(WithContent):
    """As `submitted`, after aliases and lists are expanded: these recipients are whom it is delivered to."""

    name: ClassVar[str] = "expanded"
    can_split: ClassVar[bool] = True


STAGES: dict[str, type[Event]] = {
    stage.name: stage
    for stage in (
        *(Connect, Hello, Auth, Sender, Recipient, Data, Headers, Message, Command, Replying),
        *(Submitted, Expanded),
        *(OutSession, OutMessage, OutRecipient, OutData, OutQuit, OutCommand, OutReply),
        *(PopLogin, PopRetrieve, PopDelete),
    )
}
"""Every stage there is, by the name that settings use, in the order of a session."""

PER_RECIPIENT: frozenset[type[Event]] = frozenset({Message, Submitted, Expanded})
"""Where the chain runs for each recipient."""
AFTERWARDS: frozenset[type[Event]] = frozenset({Submitted, Expanded})
"""What is asked after the 250, of a message that is in the spool."""
OUTBOUND: frozenset[type[Event]] = frozenset(
    {OutSession, OutMessage, OutRecipient, OutData, OutQuit, OutCommand, OutReply}
)
"""What is asked in sessions with next servers."""
POP: frozenset[type[Event]] = frozenset({PopLogin, PopRetrieve, PopDelete})
"""What is asked in POP3 sessions."""

BY_OTHER_NAMES = {
    "connection": "connect",
    "helo": "hello",
    "ehlo": "hello",
    "lhlo": "hello",
    "mail": "sender",
    "mailfrom": "sender",
    "from": "sender",
    "envfrom": "sender",
    "rcpt": "recipient",
    "rcptto": "recipient",
    "to": "recipient",
    "envrcpt": "recipient",
    "header": "headers",
    "eoh": "headers",
    "dataend": "message",
    "eod": "message",
    "eom": "message",
    "endofmessage": "message",
    "end-of-data": "message",
    "body": "message",
    "content": "message",
    "oninboundcommand": "command",
    "onsmtpinboundcommand": "command",
    "onarrival": "message",
    "ontransportsubmission": "message",
    "onprecategorize": "submitted",
    "onpostcategorize": "expanded",
    "onsessionstart": "out-session",
    "onmessagestart": "out-message",
    "onperrecipient": "out-recipient",
    "onbeforedata": "out-data",
    "onsessionend": "out-quit",
    "onserverresponse": "out-reply",
    "onsmtpserverresponse": "out-reply",
    "onoutboundcommand": "out-command",
    "onsmtpoutboundcommand": "out-command",
    "actionpoplogin": "pop-login",
    "poplogin": "pop-login",
    "actionpopgetmsg": "pop-retrieve",
    "popgetmsg": "pop-retrieve",
    "actionpopdelmsg": "pop-delete",
    "popdelmsg": "pop-delete",
}
"""What other servers call our stages."""


def stage_named(name: str) -> type[Event]:
    """The stage of that name; LookupError that says what the stage is called here, if the name is another server's."""
    if found := STAGES.get(name):
        return found
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if ours := BY_OTHER_NAMES.get(name.lower()) or BY_OTHER_NAMES.get(plain):
        raise LookupError(f'there is no stage "{name}"; it is called "{ours}" here')
    if near := get_close_matches(plain, by_plain := {one.replace("-", ""): one for one in STAGES}, 1):
        raise LookupError(f'there is no stage "{name}"; did you mean "{by_plain[near[0]]}"?')
    raise LookupError(f'there is no stage "{name}"; there are: {", ".join(STAGES)}')


__all__ = [
    "AFTERWARDS",
    "BY_OTHER_NAMES",
    "OUTBOUND",
    "PER_RECIPIENT",
    "POP",
    "STAGES",
    "Auth",
    "Command",
    "Connect",
    "Data",
    "E",
    "Event",
    "EventClosed",
    "Expanded",
    "Headers",
    "Hello",
    "Message",
    "OutCommand",
    "OutData",
    "OutMessage",
    "OutQuit",
    "OutRecipient",
    "OutReply",
    "OutSession",
    "PopDelete",
    "PopLogin",
    "PopRetrieve",
    "Recipient",
    "Recipients",
    "Replying",
    "Sender",
    "Submitted",
    "Transaction",
    "Turn",
    "WithContent",
    "stage_named",
]
