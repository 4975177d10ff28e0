"""What a sink in Python may derive from, so that a type checker knows the interfaces. Contract: Interfaces.

Deriving isn't needed: a class is a sink by the methods it has. A method returns an HRESULT (`S_OK`, `S_FALSE`,
`EXPE_S_CONSUMED`, `MAILTRANSPORT_S_PENDING`, a failure), or None for S_OK; what it raises is its failure. It may be
`async`. Each may also be spelled as Python spells names: `on_smtp_in_command`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from gatepost.plugins.sink.cdo import CdoMessage, EventStatus
from gatepost.plugins.sink.contexts import (
    MailTransportNotify,
    SmtpInCallbackContext,
    SmtpInCommandContext,
    SmtpOutCommandContext,
    SmtpServerResponseContext,
)
from gatepost.plugins.sink.mailmsg import MailMsgProperties
from gatepost.plugins.sink.mailmsg_bag import MailMsgPropertyBag
from gatepost.plugins.sink.making import PropertyBag

Result = int | None | Awaitable[int | None]


class ISmtpInCommandSink(ABC):
    """OnSmtpInboundCommand."""

    @abstractmethod
    def OnSmtpInCommand(
        self,
        server: MailMsgPropertyBag,
        session: MailMsgPropertyBag,
        message: MailMsgProperties,
        context: SmtpInCommandContext,
    ) -> Result:
        """A command has arrived."""


class ISmtpInCallbackSink(ABC):
    """Who takes the lines after a command, by SetCallback."""

    @abstractmethod
    def OnSmtpInCallback(
        self,
        server: MailMsgPropertyBag,
        session: MailMsgPropertyBag,
        message: MailMsgProperties,
        context: SmtpInCallbackContext,
    ) -> Result:
        """A line has arrived."""


class ISmtpOutCommandSink(ABC):
    """OnSmtpOutboundCommand, OnSmtpSessionStart, …MessageStart, …PerRecipient, …BeforeData, …SessionEnd."""

    @abstractmethod
    def OnSmtpOutCommand(
        self,
        server: MailMsgPropertyBag,
        session: MailMsgPropertyBag,
        message: MailMsgProperties,
        context: SmtpOutCommandContext,
    ) -> Result:
        """A command is about to go to a next server."""


class ISmtpServerResponseSink(ABC):
    """OnSmtpServerResponse."""

    @abstractmethod
    def OnSmtpServerResponse(
        self,
        server: MailMsgPropertyBag,
        session: MailMsgPropertyBag,
        message: MailMsgProperties,
        context: SmtpServerResponseContext,
    ) -> Result:
        """A next server has answered."""


class IMailTransportSubmission(ABC):
    """OnTransportSubmission: the whole message is here, its 250 isn't said."""

    @abstractmethod
    def OnMessageSubmission(self, message: MailMsgProperties, notify: MailTransportNotify, context: object) -> Result:
        """A message is to be accepted."""


class IMailTransportOnPreCategorize(ABC):
    """OnPreCategorize: accepted; aliases and lists aren't expanded."""

    @abstractmethod
    def OnSyncMessagePreCategorize(
        self, message: MailMsgProperties, notify: MailTransportNotify, context: object
    ) -> Result:
        """A message was accepted."""


class IMailTransportOnPostCategorize(ABC):
    """OnPostCategorize: these recipients are whom it is delivered to."""

    @abstractmethod
    def OnMessagePostCategorize(
        self, message: MailMsgProperties, notify: MailTransportNotify, context: object
    ) -> Result:
        """A message's recipients are known."""


class ISMTPOnArrival(ABC):
    """CDO's OnArrival, at the moment of OnTransportSubmission."""

    @abstractmethod
    def OnArrival(self, msg: CdoMessage, event_status: EventStatus) -> Result:
        """A message is to be accepted; CDO_SKIP_REMAINING_SINKS ends the chain."""


class IEventIsCacheable(ABC):
    """Without it an object is used for one event."""

    @abstractmethod
    def IsCacheable(self) -> int | bool | None:
        """S_OK or True: keep this object for later events."""


class IPersistPropertyBag(ABC):
    """How an object gets its binding's sink properties."""

    @abstractmethod
    def Load(self, bag: PropertyBag) -> None:
        """Before the first event: `bag.read("name")`, or as a mapping."""
