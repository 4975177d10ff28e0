"""The interfaces as Microsoft's documents have them: each method is there, in the original spelling and in Python's."""

from __future__ import annotations

import re

import pytest

import gatepost.plugins.sink as sink
from gatepost.plugins.sink.constants import ERROR_INSUFFICIENT_BUFFER, NO_RECIPIENT, unsigned
from gatepost.plugins.sink.contexts import (
    MailTransportNotify,
    SmtpInCallbackContext,
    SmtpInCommandContext,
    SmtpOutCommandContext,
    SmtpServerResponseContext,
)
from gatepost.plugins.sink.mailmsg import (
    BadArgument,
    MailMsgLoggingPropertyBag,
    MailMsgProperties,
    MailMsgPropertyBag,
    MailMsgPropertyManagement,
    MailMsgRecipients,
    MailMsgRecipientsAdd,
    Seal,
)
from gatepost.plugins.sink.making import PropertyBag
from gatepost.plugins.sink.recipients import MailMsgRecipientsBase
from gatepost.plugins.sink.spelling import ARGUMENTS, SPELLED
from gatepost.plugins.sink.states import InCallback, InCommand, OutCommand, ServerResponse

BAG = "PutProperty GetProperty PutStringA GetStringA PutStringW GetStringW PutDWORD GetDWORD PutBool GetBool"
BASE = f"Count Item {BAG}"
TABLE = {
    SmtpInCommandContext: "QueryCommand QueryCommandKeyword QueryNativeResponse QueryResponse QueryCommandSize"
    " QueryCommandKeywordSize QueryNativeResponseSize QueryResponseSize QueryCommandStatus QuerySmtpStatusCode"
    " QueryProtocolErrorFlag SetResponse AppendResponse SetNativeResponse AppendNativeResponse SetCommandStatus"
    " SetSmtpStatusCode SetProtocolErrorFlag NotifyAsyncCompletion SetCallback",
    SmtpInCallbackContext: "QueryBlob QueryBlobSize SetResponse AppendResponse SetCommandStatus SetSmtpStatusCode",
    SmtpOutCommandContext: "QueryCommand QueryCommandKeyword QueryNativeCommand QueryCommandSize"
    " QueryCommandKeywordSize QueryNativeCommandSize QueryCurrentRecipientIndex QueryCommandStatus SetCommand"
    " AppendCommand SetCommandStatus NotifyAsyncCompletion SetBlob",
    SmtpServerResponseContext: "QueryCommand QueryCommandKeyword QueryResponse QueryCommandSize"
    " QueryCommandKeywordSize QueryResponseSize QuerySmtpStatusCode QueryResponseStatus QueryPipelinedFlag"
    " QueryNextEventState SetResponseStatus SetNextEventState NotifyAsyncCompletion",
    MailMsgPropertyBag: BAG,
    MailMsgLoggingPropertyBag: f"{BAG} WriteToLog",
    MailMsgProperties: "PutProperty GetProperty Commit PutStringA GetStringA PutStringW GetStringW PutDWORD GetDWORD"
    " PutBool GetBool GetContentSize ReadContent WriteContent CopyContentToFile CopyContentToFileEx ForkForRecipients"
    " CopyContentToFileAtOffset RebindAfterFork SetContentSize MapContent UnmapContent",
    MailMsgRecipientsBase: BASE,
    MailMsgRecipients: f"{BASE} Commit DomainCount DomainItem AllocNewList WriteList SetNextDomain"
    " InitializeRecipientFilterContext TerminateRecipientFilterContext GetNextRecipient",
    MailMsgRecipientsAdd: f"{BASE} AddPrimary AddSecondary",
    MailMsgPropertyManagement: "AllocPropIDRange",
    MailTransportNotify: "Notify",
    PropertyBag: "Read Write",
}
SINKS = {
    "OnSmtpInCommand": ("ISmtpInCommandSink", 4),
    "OnSmtpInCallback": ("ISmtpInCallbackSink", 4),
    "OnSmtpOutCommand": ("ISmtpOutCommandSink", 4),
    "OnSmtpServerResponse": ("ISmtpServerResponseSink", 4),
    "OnMessageSubmission": ("IMailTransportSubmission", 3),
    "OnSyncMessagePreCategorize": ("IMailTransportOnPreCategorize", 3),
    "OnMessagePostCategorize": ("IMailTransportOnPostCategorize", 3),
    "OnArrival": ("ISMTPOnArrival", 2),
}
IN_PYTHON = {
    "PutStringA": "put_string",
    "GetStringA": "get_string",
    "PutStringW": "put_wide_string",
    "GetStringW": "get_wide_string",
    "AllocPropIDRange": "alloc_prop_id_range",
    "PutDWORD": "put_dword",
    "GetDWORD": "get_dword",
}
NUMBERS = {
    "S_OK": 0,
    "S_FALSE": 1,
    "EXPE_S_CONSUMED": 2,
    "MAILTRANSPORT_S_PENDING": 0x103,
    "MAILMSG_E_PROPNOTFOUND": 0x800300FD,
    "ERROR_INSUFFICIENT_BUFFER": 0x8007007A,
    "EXPE_SUCCESS": 0,
    "EXPE_NOT_PIPELINED": 0,
    "EXPE_PIPELINED": 1,
    "EXPE_REPEAT_COMMAND": 2,
    "EXPE_BLOB_READY": 4,
    "EXPE_BLOB_DONE": 8,
    "EXPE_DROP_SESSION": 0x10000,
    "EXPE_CHANGE_STATE": 0x20000,
    "EXPE_TRANSIENT_FAILURE": 0x40000,
    "EXPE_COMPLETE_FAILURE": 0x80000,
    "EXPE_UNHANDLED": 0xFFFFFFFF,
    "CDO_RUN_NEXT_SINK": 0,
    "CDO_SKIP_REMAINING_SINKS": 1,
}
RANGES = {
    "PE_STATE": (0, "DEFAULT SESSION_START MESSAGE_START PER_RECIPIENT DATA_OR_BDAT SESSION_END"),
    "MESSAGE_STATUS": (0, "SUCCESS RETRY ABORT_DELIVERY BAD_MAIL SUBMITTED CATEGORIZED ABANDON_DELIVERY"),
    "MSGCLASS": (1, "SYSTEM REPLICATION DELIVERY_REPORT NONDELIVERY_REPORT"),
    "ServerProperty": (
        0,
        "INSTANCE DEFAULTDOMAIN CATENABLE CATFLAGS CATPORT CATUSER CATSCHEMA CATBINDTYPE CATPASSWORD CATDOMAIN"
        " CATNAMINGCONTEXT CATDSTYPE CATDSHOST",
    ),
    "IMMPID_MP": (
        0x1000,
        "RECIPIENT_LIST CONTENT_FILE_NAME SENDER_ADDRESS_SMTP SENDER_ADDRESS_X500 SENDER_ADDRESS_X400"
        " SENDER_ADDRESS_LEGACY_EX_DN DOMAIN_LIST PICKUP_FILE_NAME AUTHENTICATED_USER_NAME CONNECTION_IP_ADDRESS"
        " HELO_DOMAIN EIGHTBIT_MIME_OPTION CHUNKING_OPTION BINARYMIME_OPTION REMOTE_AUTHENTICATION_TYPE ERROR_CODE"
        " DSN_ENVID_VALUE DSN_RET_VALUE REMOTE_SERVER_DSN_CAPABLE ARRIVAL_TIME MESSAGE_STATUS EXPIRE_DELAY EXPIRE_NDR"
        " LOCAL_EXPIRE_DELAY LOCAL_EXPIRE_NDR ARRIVAL_FILETIME HR_CAT_STATUS MSG_GUID SUPERSEDES_MSG_GUID"
        " SCANNED_FOR_CRLF_DOT_CRLF FOUND_EMBEDDED_CRLF_DOT_CRLF MSG_SIZE_HINT RFC822_MSG_ID RFC822_MSG_SUBJECT"
        " RFC822_FROM_ADDRESS RFC822_TO_ADDRESS RFC822_CC_ADDRESS RFC822_BCC_ADDRESS CONNECTION_SERVER_IP_ADDRESS"
        " SERVER_NAME SERVER_VERSION NUM_RECIPIENTS X_PRIORITY FROM_ADDRESS SENDER_ADDRESS DEFERRED_DELIVERY_FILETIME"
        " SENDER_ADDRESS_OTHER ORIGINAL_ARRIVAL_TIME MSGCLASS CONTENT_TYPE ENCRYPTION_TYPE CONNECTION_SERVER_PORT"
        " CLIENT_AUTH_USER CLIENT_AUTH_TYPE CRC_GLOBAL CRC_RECIPS INBOUND_MAIL_FROM_AUTH",
    ),
    "IMMPID_RP": (
        0x2000,
        "DSN_NOTIFY_SUCCESS DSN_NOTIFY_INVALID ADDRESS_TYPE ADDRESS ADDRESS_TYPE_SMTP ERROR_CODE ERROR_STRING"
        " DSN_NOTIFY_VALUE DSN_ORCPT_VALUE ADDRESS_SMTP ADDRESS_X400 ADDRESS_X500 LEGACY_EX_DN RECIPIENT_FLAGS"
        " SMTP_STATUS_STRING DSN_PRE_CAT_ADDRESS MDB_GUID USER_GUID DOMAIN ADDRESS_OTHER DISPLAY_NAME",
    ),
    "IMMPID_MPV": (
        0x3000,
        "STORE_DRIVER_HANDLE MESSAGE_CREATION_FLAGS MESSAGE_OPEN_HANDLES TOTAL_OPEN_HANDLES"
        " TOTAL_OPEN_PROPERTY_STREAM_HANDLES TOTAL_OPEN_CONTENT_HANDLES",
    ),
}
FLAGS = {
    "DSN_NOTIFY_SUCCESS": 0x01000000,
    "DSN_NOTIFY_FAILURE": 0x02000000,
    "DSN_NOTIFY_DELAY": 0x04000000,
    "DSN_NOTIFY_NEVER": 0x08000000,
    "HANDLED": 0x10,
    "DELIVERED": 0x110,
    "FAILED": 0x830,
    "UNRESOLVED": 0x1030,
}


@pytest.mark.parametrize(("kind", "names"), TABLE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_interface_has_each_method_in_both_spellings(kind, names):
    for name in names.split():
        pythonic = IN_PYTHON.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        assert getattr(kind, name) is getattr(kind, pythonic), name
        assert getattr(kind, name).__doc__, name


def test_what_is_not_in_an_interface_is_not_there():
    assert not hasattr(SmtpServerResponseContext, "SetResponse")
    assert not hasattr(SmtpInCallbackContext, "NotifyAsyncCompletion")


@pytest.mark.parametrize(("method", "of"), SINKS.items())
def test_a_sinks_method_is_of_its_interface_and_has_its_arguments(method, of):
    interface, arguments = of
    assert getattr(sink, interface).__abstractmethods__ == {method}
    assert len(ARGUMENTS[method]) == arguments
    assert SPELLED[method][0] == method


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_a_number_is_that_of_the_documents(name, number):
    assert getattr(sink, name) == number
    assert name in sink.__all__


@pytest.mark.parametrize("name", RANGES)
def test_ids_follow_each_other(name):
    first, names = RANGES[name]
    assert [getattr(sink, name)[one] for one in names.split()] == list(range(first, first + len(names.split())))


def test_a_recipients_flags_and_volatile_ids():
    assert {name: sink.RECIPIENT_FLAGS[name] for name in FLAGS} == FLAGS
    assert (sink.IMMPID_RP.DONT_DELIVER, sink.IMMPID_RP.NO_NAME_COLLISIONS) == (0x4000, 0x4001)
    assert sink.FIRST_CUSTOM_PROPERTY == 0x8000
    assert unsigned(0x8007007A - 2**32) == ERROR_INSUFFICIENT_BUFFER


# ── sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = {
    SmtpInCommandContext: InCommand("MAIL grüße", "MAIL", "250 native\r\n", "250 own\r\n"),
    SmtpOutCommandContext: OutCommand("RCPT grüße", "RCPT", "RCPT native"),
    SmtpServerResponseContext: ServerResponse("MAIL grüße", "MAIL", "250 ok\r\n"),
}


@pytest.mark.parametrize("kind", TEXTS, ids=lambda kind: kind.__name__)
def test_a_size_counts_octets_and_the_nul(kind):
    context = kind(TEXTS[kind], Seal(), lambda hresult: None)
    sizes = [name for name in TABLE[kind].split() if name.endswith("Size")]
    assert len(sizes) >= 3
    for name in sizes:
        text = getattr(context, name.removesuffix("Size"))()
        assert text
        assert getattr(context, name)() == len(text.encode()) + 1
    assert SmtpInCallbackContext(InCallback(b"\0\xff\r\n"), Seal(), print).QueryBlobSize() == 4


@pytest.mark.parametrize(
    ("given", "set_to"),
    [
        (("550 no\r\n",), "550 no\r\n"),
        (("550 no\r\n\0",), "550 no\r\n"),
        (("550 no\r\n", 8), "550 no\r\n"),  # as one counts who leaves the NUL out
        (("550 no\r\n", 9), "550 no\r\n"),  # and as one who doesn't
        ((b"550 no\r\n\0", 9), "550 no\r\n"),
        (("550 no\r\n", 6), "550 no"),
        (("550 grüße", 10), "550 grüß"),
        (("550 no", 0), ""),
    ],
)
def test_a_text_may_come_with_its_size(given, set_to):
    state = InCommand()
    context = SmtpInCommandContext(state, Seal(), lambda hresult: None)
    context.SetResponse(*given)
    context.SetNativeResponse(*given)
    assert (state.response, state.native_response) == (set_to, set_to)
    context.AppendResponse(*given)
    context.AppendNativeResponse(*given)
    assert (state.response, state.native_response) == (set_to * 2, set_to * 2)
    callback = InCallback()
    SmtpInCallbackContext(callback, Seal(), print).SetResponse(*given)
    SmtpInCallbackContext(callback, Seal(), print).AppendResponse(*given)
    assert callback.response == set_to * 2
    out = OutCommand()
    SmtpOutCommandContext(out, Seal(), print).SetCommand(*given)
    SmtpOutCommandContext(out, Seal(), print).AppendCommand(*given)
    assert out.command == set_to * 2


@pytest.mark.parametrize("size", [8, -1, 2**32, "6"])
def test_a_size_that_the_text_has_not_is_an_error(size):
    context = SmtpInCommandContext(InCommand(), Seal(), lambda hresult: None)
    with pytest.raises(BadArgument):
        context.SetResponse("550 no", size)


def test_a_blob_has_its_size_too():
    out = OutCommand()
    SmtpOutCommandContext(out, Seal(), print).SetBlob(b"\0\1\2\3", 3)
    assert out.blob == b"\0\1\2"


def test_a_recipients_place_is_known_at_rcpt_only():
    with pytest.raises(LookupError, match="isn't about one recipient") as raised:
        SmtpOutCommandContext(OutCommand(recipient_index=NO_RECIPIENT), Seal(), print).QueryCurrentRecipientIndex()
    assert raised.value.hresult == sink.E_FAIL
    assert SmtpOutCommandContext(OutCommand(recipient_index=3), Seal(), print).QueryCurrentRecipientIndex() == 3
