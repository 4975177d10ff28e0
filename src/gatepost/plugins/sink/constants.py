"""The numbers of Microsoft's SMTP server events, under their own names. Contract: Interfaces, EXPE_*, property ids.

`gatepost.plugins.sink` exports them, so that a sink is written with the names its author knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from types import MappingProxyType

# HRESULTs, unsigned
S_OK = 0
S_FALSE = 1
EXPE_S_CONSUMED = 2
MAILTRANSPORT_S_PENDING = 0x103
MAILMSG_E_PROPNOTFOUND = 0x800300FD
ERROR_INSUFFICIENT_BUFFER = 0x8007007A
E_NOTIMPL = 0x80004001
E_POINTER = 0x80004003
E_ABORT = 0x80004004
E_FAIL = 0x80004005
E_UNEXPECTED = 0x8000FFFF
E_ACCESSDENIED = 0x80070005
E_INVALIDARG = 0x80070057

# Command status
EXPE_SUCCESS = 0x0
EXPE_NOT_PIPELINED = 0x0
EXPE_PIPELINED = 0x1
EXPE_REPEAT_COMMAND = 0x2
EXPE_BLOB_READY = 0x4
EXPE_BLOB_DONE = 0x8
EXPE_DROP_SESSION = 0x10000
EXPE_CHANGE_STATE = 0x20000
EXPE_TRANSIENT_FAILURE = 0x40000
EXPE_COMPLETE_FAILURE = 0x80000
EXPE_UNHANDLED = 0xFFFFFFFF

NO_RECIPIENT = 0xFFFFFFFF
"""QueryCurrentRecipientIndex where no recipient is named."""


class PE_STATE(IntEnum):
    """Where an outgoing session goes on (SetNextEventState)."""

    DEFAULT = 0
    SESSION_START = 1
    MESSAGE_START = 2
    PER_RECIPIENT = 3
    DATA_OR_BDAT = 4
    SESSION_END = 5


class ServerProperty(IntEnum):
    """Of the virtual server's bag."""

    INSTANCE = 0
    DEFAULTDOMAIN = 1
    CATENABLE = 2
    CATFLAGS = 3
    CATPORT = 4
    CATUSER = 5
    CATSCHEMA = 6
    CATBINDTYPE = 7
    CATPASSWORD = 8
    CATDOMAIN = 9
    CATNAMINGCONTEXT = 10
    CATDSTYPE = 11
    CATDSHOST = 12


class IMMPID_MP(IntEnum):
    """Properties of a message."""

    RECIPIENT_LIST = 0x1000
    CONTENT_FILE_NAME = 0x1001
    SENDER_ADDRESS_SMTP = 0x1002
    SENDER_ADDRESS_X500 = 0x1003
    SENDER_ADDRESS_X400 = 0x1004
    SENDER_ADDRESS_LEGACY_EX_DN = 0x1005
    DOMAIN_LIST = 0x1006
    PICKUP_FILE_NAME = 0x1007
    AUTHENTICATED_USER_NAME = 0x1008
    CONNECTION_IP_ADDRESS = 0x1009
    HELO_DOMAIN = 0x100A
    EIGHTBIT_MIME_OPTION = 0x100B
    CHUNKING_OPTION = 0x100C
    BINARYMIME_OPTION = 0x100D
    REMOTE_AUTHENTICATION_TYPE = 0x100E
    ERROR_CODE = 0x100F
    DSN_ENVID_VALUE = 0x1010
    DSN_RET_VALUE = 0x1011
    REMOTE_SERVER_DSN_CAPABLE = 0x1012
    ARRIVAL_TIME = 0x1013
    MESSAGE_STATUS = 0x1014
    EXPIRE_DELAY = 0x1015
    EXPIRE_NDR = 0x1016
    LOCAL_EXPIRE_DELAY = 0x1017
    LOCAL_EXPIRE_NDR = 0x1018
    ARRIVAL_FILETIME = 0x1019
    HR_CAT_STATUS = 0x101A
    MSG_GUID = 0x101B
    SUPERSEDES_MSG_GUID = 0x101C
    SCANNED_FOR_CRLF_DOT_CRLF = 0x101D
    FOUND_EMBEDDED_CRLF_DOT_CRLF = 0x101E
    MSG_SIZE_HINT = 0x101F
    RFC822_MSG_ID = 0x1020
    RFC822_MSG_SUBJECT = 0x1021
    RFC822_FROM_ADDRESS = 0x1022
    RFC822_TO_ADDRESS = 0x1023
    RFC822_CC_ADDRESS = 0x1024
    RFC822_BCC_ADDRESS = 0x1025
    CONNECTION_SERVER_IP_ADDRESS = 0x1026
    SERVER_NAME = 0x1027
    SERVER_VERSION = 0x1028
    NUM_RECIPIENTS = 0x1029
    X_PRIORITY = 0x102A
    FROM_ADDRESS = 0x102B
    SENDER_ADDRESS = 0x102C
    DEFERRED_DELIVERY_FILETIME = 0x102D
    SENDER_ADDRESS_OTHER = 0x102E
    ORIGINAL_ARRIVAL_TIME = 0x102F
    MSGCLASS = 0x1030
    CONTENT_TYPE = 0x1031
    ENCRYPTION_TYPE = 0x1032
    CONNECTION_SERVER_PORT = 0x1033
    CLIENT_AUTH_USER = 0x1034
    CLIENT_AUTH_TYPE = 0x1035
    CRC_GLOBAL = 0x1036
    CRC_RECIPS = 0x1037
    INBOUND_MAIL_FROM_AUTH = 0x1038


class IMMPID_RP(IntEnum):
    """Properties of a recipient."""

    DSN_NOTIFY_SUCCESS = 0x2000
    DSN_NOTIFY_INVALID = 0x2001
    ADDRESS_TYPE = 0x2002
    ADDRESS = 0x2003
    ADDRESS_TYPE_SMTP = 0x2004
    ERROR_CODE = 0x2005
    ERROR_STRING = 0x2006
    DSN_NOTIFY_VALUE = 0x2007
    DSN_ORCPT_VALUE = 0x2008
    ADDRESS_SMTP = 0x2009
    ADDRESS_X400 = 0x200A
    ADDRESS_X500 = 0x200B
    LEGACY_EX_DN = 0x200C
    RECIPIENT_FLAGS = 0x200D
    SMTP_STATUS_STRING = 0x200E
    DSN_PRE_CAT_ADDRESS = 0x200F
    MDB_GUID = 0x2010
    USER_GUID = 0x2011
    DOMAIN = 0x2012
    ADDRESS_OTHER = 0x2013
    DISPLAY_NAME = 0x2014
    DONT_DELIVER = 0x4000
    NO_NAME_COLLISIONS = 0x4001


class IMMPID_MPV(IntEnum):
    """Properties of a message that last as long as the event."""

    STORE_DRIVER_HANDLE = 0x3000
    MESSAGE_CREATION_FLAGS = 0x3001
    MESSAGE_OPEN_HANDLES = 0x3002
    TOTAL_OPEN_HANDLES = 0x3003
    TOTAL_OPEN_PROPERTY_STREAM_HANDLES = 0x3004
    TOTAL_OPEN_CONTENT_HANDLES = 0x3005


FIRST_CUSTOM_PROPERTY = 0x8000
"""Where a sink's own properties begin (AllocPropIDRange)."""


class RECIPIENT_FLAGS(IntFlag):
    """IMMPID_RP.RECIPIENT_FLAGS. HANDLED is part of every outcome."""

    DSN_NOTIFY_SUCCESS = 0x01000000
    DSN_NOTIFY_FAILURE = 0x02000000
    DSN_NOTIFY_DELAY = 0x04000000
    DSN_NOTIFY_NEVER = 0x08000000
    HANDLED = 0x10
    GENERAL_FAILURE = 0x20
    DSN_HANDLED = 0x40
    DELIVERED = 0x110
    DSN_SENT_NDR = 0x450
    FAILED = 0x830
    UNRESOLVED = 0x1030
    EXPANDED = 0x2010
    DSN_SENT_DELAYED = 0x4000
    DSN_SENT_EXPANDED = 0x8040
    DSN_SENT_RELAYED = 0x10040
    DSN_SENT_DELIVERED = 0x20040
    REMOTE_MTA_NO_DSN = 0x80000
    ERROR_CONTEXT_STORE = 0x100000
    ERROR_CONTEXT_CAT = 0x200000
    ERROR_CONTEXT_MTA = 0x400000


class MESSAGE_STATUS(IntEnum):
    """IMMPID_MP.MESSAGE_STATUS."""

    SUCCESS = 0
    RETRY = 1
    ABORT_DELIVERY = 2
    BAD_MAIL = 3
    SUBMITTED = 4
    CATEGORIZED = 5
    ABANDON_DELIVERY = 6


class MSGCLASS(IntEnum):
    """IMMPID_MP.MSGCLASS; an ordinary message has none. Contract: Ambiguities 13."""

    SYSTEM = 1
    REPLICATION = 2
    DELIVERY_REPORT = 3
    NONDELIVERY_REPORT = 4


CDO_RUN_NEXT_SINK = 0
CDO_SKIP_REMAINING_SINKS = 1

INTERFACES: Mapping[str, str] = MappingProxyType(
    {
        "OnSmtpInCommand": "ISmtpInCommandSink",
        "OnSmtpOutCommand": "ISmtpOutCommandSink",
        "OnSmtpServerResponse": "ISmtpServerResponseSink",
        "OnMessageSubmission": "IMailTransportSubmission",
        "OnSyncMessagePreCategorize": "IMailTransportOnPreCategorize",
        "OnMessagePostCategorize": "IMailTransportOnPostCategorize",
        "OnArrival": "ISMTPOnArrival",
    }
)
"""The interface that each event method belongs to."""


def is_failure(hresult: int) -> bool:
    """Whether an HRESULT is an error."""
    return bool(hresult & 0x80000000)


def unsigned(hresult: int) -> int:
    """The HRESULT as contracts write it, whatever sign it was given with. ValueError beyond 32 bits."""
    if not -0x80000000 <= hresult <= 0xFFFFFFFF:
        raise ValueError(f"{hresult} is no HRESULT: it has more than 32 bits")
    return hresult & 0xFFFFFFFF
