"""What one call of a sink is about: what it sees, and what it may change, as plain values.

The adapters (`inbound`, `outbound`, `transport`) make a `Call` from an event, ask a `Sink`, and read what it left here
and the HRESULT. How a sink is asked is its maker's business: `creating` wraps these states into context objects for a
class in Python, `native` sends them to the plugin host and takes back what was changed. Contract: Interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from gatepost.hooks.events import Event
from gatepost.model import Blob
from gatepost.plugins.sink.constants import EXPE_UNHANDLED, NO_RECIPIENT

Bag = dict[int, bytes]
"""A property bag: octets by id. A DWORD is 4 octets, little-endian, a BOOL a DWORD of 0 or 1; a StringA is its octets
with the terminating NUL, a StringW is UTF-16, little-endian, with its NUL."""


@dataclass(slots=True)
class InCommand:
    """ISmtpInCommandContext. Texts are as they would stand on the wire, CRLF included; a command has none."""

    command: str = ""
    keyword: str = ""
    native_response: str = ""
    """What the house says, with what sinks did to it; before the house was asked, what they would have added."""
    response: str = ""
    """The sinks' own; where there is none, the native one is said."""
    command_status: int = EXPE_UNHANDLED
    smtp_status_code: int = 0
    protocol_error: bool = False
    callback: object | None = None
    """Who takes the next lines, if a sink has said so: a Python sink, or True for one that its host keeps."""

    def copy(self) -> InCommand:
        """As it is now; dataclasses.replace would take seven times as long, at every command."""
        return InCommand(
            self.command,
            self.keyword,
            self.native_response,
            self.response,
            self.command_status,
            self.smtp_status_code,
            self.protocol_error,
            self.callback,
        )


@dataclass(slots=True)
class InCallback:
    """ISmtpInCallbackContext."""

    blob: bytes = b""
    response: str = ""
    command_status: int = EXPE_UNHANDLED
    smtp_status_code: int = 0
    callback: object | None = None
    """As it was set in the command's context."""


@dataclass(slots=True)
class OutCommand:
    """ISmtpOutCommandContext."""

    command: str = ""
    """As it would go now."""
    keyword: str = ""
    native_command: str = ""
    """As the house would send it."""
    recipient_index: int = NO_RECIPIENT
    """Which of the message's recipients RCPT names, from 0."""
    command_status: int = EXPE_UNHANDLED
    blob: bytes | None = None


@dataclass(slots=True)
class ServerResponse:
    """ISmtpServerResponseContext."""

    command: str = ""
    keyword: str = ""
    response: str = ""
    smtp_status_code: int = 0
    response_status: int = EXPE_UNHANDLED
    pipelined: bool = False
    next_event_state: int = 0


@dataclass(slots=True)
class Submission:
    """A transport event: there is nothing but the message."""


Context = InCommand | InCallback | OutCommand | ServerResponse | Submission


@dataclass(slots=True)
class Fork:
    """Recipients with content of their own (ForkForRecipients)."""

    recipients: list[Bag]
    content: Blob
    status: int | None = None
    """The MESSAGE_STATUS that a sink has put on it: what becomes of these recipients."""


@dataclass(slots=True)
class Message:
    """pMsg: IMailMsgProperties and the interfaces beside it. Fills up as commands arrive."""

    properties: Bag = field(default_factory=dict)
    recipients: list[Bag] = field(default_factory=list)
    content: Blob | None = None
    """Un-stuffed, with CRLF; None before it has arrived."""
    put: set[int] = field(default_factory=set)
    """The properties that a sink has put."""
    put_for: dict[int, set[int]] = field(default_factory=dict)
    """The same for recipients, by their index."""
    written_list: list[Bag] | None = None
    """The list of recipients that WriteList has made the message's."""
    rewritten: Blob | None = None
    """The content that a sink has written."""
    forks: list[Fork] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """One call of a sink."""

    server: Bag
    """The virtual server's properties; lives as long as the worker."""
    session: Bag
    """The connection's properties; lives as long as it."""
    message: Message | None
    context: Context
    instance: int = 1
    """The virtual server's number."""


class Sink(Protocol):
    """A sink class, ready to be asked: each call is made on an object of it, a new one unless it is cacheable."""

    methods: frozenset[str]
    """The event methods that it has: OnSmtpInCommand, OnMessageSubmission …"""

    async def call(self, method: str, event: Event, call: Call) -> int:
        """The HRESULT, unsigned; after MAILTRANSPORT_S_PENDING the one that came later.

        What the sink changed is in `call` afterwards. Raises whatever its failure is.
        """

    async def open(self, server: Any) -> None:
        """Before the first connection."""

    async def close(self) -> None:
        """After the last session; nothing of it is left."""
