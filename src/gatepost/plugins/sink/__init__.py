"""Microsoft SMTP event sinks: classes in Python, and COM classes in a library, asked as IIS asked them.

For authors: `from gatepost.plugins.sink import ISmtpInCommandSink, EXPE_DROP_SESSION, S_FALSE`. The names are those of
Microsoft's documents. Nothing is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatepost.plugins.sink.cdo import CdoMessage
    from gatepost.plugins.sink.classes import (
        IEventIsCacheable,
        IMailTransportOnPostCategorize,
        IMailTransportOnPreCategorize,
        IMailTransportSubmission,
        IPersistPropertyBag,
        ISmtpInCallbackSink,
        ISmtpInCommandSink,
        ISMTPOnArrival,
        ISmtpOutCommandSink,
        ISmtpServerResponseSink,
    )
    from gatepost.plugins.sink.constants import (
        CDO_RUN_NEXT_SINK,
        CDO_SKIP_REMAINING_SINKS,
        E_ABORT,
        E_ACCESSDENIED,
        E_FAIL,
        E_INVALIDARG,
        E_NOTIMPL,
        E_POINTER,
        E_UNEXPECTED,
        ERROR_INSUFFICIENT_BUFFER,
        EXPE_BLOB_DONE,
        EXPE_BLOB_READY,
        EXPE_CHANGE_STATE,
        EXPE_COMPLETE_FAILURE,
        EXPE_DROP_SESSION,
        EXPE_NOT_PIPELINED,
        EXPE_PIPELINED,
        EXPE_REPEAT_COMMAND,
        EXPE_S_CONSUMED,
        EXPE_SUCCESS,
        EXPE_TRANSIENT_FAILURE,
        EXPE_UNHANDLED,
        FIRST_CUSTOM_PROPERTY,
        IMMPID_MP,
        IMMPID_MPV,
        IMMPID_RP,
        MAILMSG_E_PROPNOTFOUND,
        MAILTRANSPORT_S_PENDING,
        MESSAGE_STATUS,
        MSGCLASS,
        PE_STATE,
        RECIPIENT_FLAGS,
        S_FALSE,
        S_OK,
        ServerProperty,
    )
    from gatepost.plugins.sink.contexts import (
        MailTransportNotify,
        SmtpInCallbackContext,
        SmtpInCommandContext,
        SmtpOutCommandContext,
        SmtpServerResponseContext,
    )
    from gatepost.plugins.sink.loading import LoadedSink, load_sink
    from gatepost.plugins.sink.mailmsg import MailMsgProperties
    from gatepost.plugins.sink.mailmsg_bag import MailMsgPropertyBag, PropertyNotFound
    from gatepost.plugins.sink.making import PropertyBag
    from gatepost.plugins.sink.options import SinkOptions
    from gatepost.plugins.sink.recipients import MailMsgRecipients, MailMsgRecipientsAdd

_PLACES = (
    "constants",
    "classes",
    "contexts",
    "making",
    "mailmsg",
    "mailmsg_bag",
    "recipients",
    "cdo",
    "options",
    "loading",
)

__all__ = [
    "CDO_RUN_NEXT_SINK",
    "CDO_SKIP_REMAINING_SINKS",
    "ERROR_INSUFFICIENT_BUFFER",
    "EXPE_BLOB_DONE",
    "EXPE_BLOB_READY",
    "EXPE_CHANGE_STATE",
    "EXPE_COMPLETE_FAILURE",
    "EXPE_DROP_SESSION",
    "EXPE_NOT_PIPELINED",
    "EXPE_PIPELINED",
    "EXPE_REPEAT_COMMAND",
    "EXPE_SUCCESS",
    "EXPE_S_CONSUMED",
    "EXPE_TRANSIENT_FAILURE",
    "EXPE_UNHANDLED",
    "E_ABORT",
    "E_ACCESSDENIED",
    "E_FAIL",
    "E_INVALIDARG",
    "E_NOTIMPL",
    "E_POINTER",
    "E_UNEXPECTED",
    "FIRST_CUSTOM_PROPERTY",
    "IMMPID_MP",
    "IMMPID_MPV",
    "IMMPID_RP",
    "MAILMSG_E_PROPNOTFOUND",
    "MAILTRANSPORT_S_PENDING",
    "MESSAGE_STATUS",
    "MSGCLASS",
    "PE_STATE",
    "RECIPIENT_FLAGS",
    "S_FALSE",
    "S_OK",
    "CdoMessage",
    "IEventIsCacheable",
    "IMailTransportOnPostCategorize",
    "IMailTransportOnPreCategorize",
    "IMailTransportSubmission",
    "IPersistPropertyBag",
    "ISMTPOnArrival",
    "ISmtpInCallbackSink",
    "ISmtpInCommandSink",
    "ISmtpOutCommandSink",
    "ISmtpServerResponseSink",
    "LoadedSink",
    "MailMsgProperties",
    "MailMsgPropertyBag",
    "MailMsgRecipients",
    "MailMsgRecipientsAdd",
    "MailTransportNotify",
    "PropertyBag",
    "PropertyNotFound",
    "ServerProperty",
    "SinkOptions",
    "SmtpInCallbackContext",
    "SmtpInCommandContext",
    "SmtpOutCommandContext",
    "SmtpServerResponseContext",
    "load_sink",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for place in _PLACES:
            module = import_module(f"{__name__}.{place}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
