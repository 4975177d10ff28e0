"""The contexts of protocol events for a sink in Python. Contract: Interfaces.

Every method has its original name too: `SetResponse` is `set_response`. What COM gives back through pointers is
returned; sizes count the terminating NUL, as there. A text may be given with its NUL, and with its size behind it, as
C authors do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from gatepost.plugins.sink.constants import E_FAIL, NO_RECIPIENT, unsigned
from gatepost.plugins.sink.mailmsg_bag import BadArgument, Seal, Unknown
from gatepost.plugins.sink.spelling import attribute_of
from gatepost.plugins.sink.states import InCallback, InCommand, OutCommand, ServerResponse

MOST_TEXT = 64 * 1024
"""Characters of a response or command that sinks may make."""

C = TypeVar("C", InCommand, OutCommand, ServerResponse)
Complete = Callable[[int], None]
"""Takes the HRESULT of a call that was left pending, from any thread, once."""


class NoRecipientIndex(LookupError):
    """The command isn't about one recipient."""

    hresult: Final = E_FAIL


def text_of(value: str | bytes, size: int | None = None) -> str:
    """What a sink gives as a text, without the NUL at its end; of `size` octets, where that is said. BadArgument."""
    if size is not None:
        octets = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        value = octets_of(octets, size)
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise BadArgument(f"a text is wanted, not {value!r:.40}")
    return value.rstrip("\0")


def octets_of(value: bytes, size: int | None = None) -> bytes:
    """What a sink gives as octets, the first `size` of them where that is said. BadArgument."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadArgument(f"octets are wanted, not {value!r:.40}")
    octets = bytes(value)
    if size is None:
        return octets
    if not 0 <= _number(size) <= len(octets) + 1:  # a C text has its NUL behind it
        raise BadArgument(f"a size of {size} is said of {len(octets)} octets")
    return octets[:size]


def _number(value: int) -> int:
    try:
        return unsigned(value)
    except (TypeError, ValueError):
        raise BadArgument(f"a number of 32 bits is wanted, not {value!r:.40}") from None


def _bounded(text: str) -> str:
    if len(text) > MOST_TEXT:
        raise BadArgument(f"a text may have {MOST_TEXT} characters, not {len(text)}")
    return text


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape")) + 1


class _Pending(Unknown):
    """What every context has that may be left pending."""

    def __init__(self, seal: Seal, complete: Complete) -> None:
        self._seal = seal
        self._complete = complete

    def notify_async_completion(self, hresult: int) -> None:
        """The call that returned MAILTRANSPORT_S_PENDING is done, with this result; from any thread, once."""
        self._seal.check()
        self._complete(_number(hresult))

    NotifyAsyncCompletion = notify_async_completion


class _OfCommand(_Pending, Generic[C]):
    """What every context of a command has."""

    def __init__(self, state: C, seal: Seal, complete: Complete) -> None:
        super().__init__(seal, complete)
        self._state: C = state

    def _now(self) -> C:
        self._seal.check()
        return self._state

    def query_command(self) -> str:
        """The whole command line as it is now, without CRLF; a password in it is hidden, but from an inbound binding
        that says `secrets`.
        """
        return self._now().command

    def query_command_keyword(self) -> str:
        """Its first word, as it was written."""
        return self._now().keyword

    def query_command_size(self) -> int:
        """Octets of the command, with a NUL."""
        return _size(self._now().command)

    def query_command_keyword_size(self) -> int:
        """Octets of the keyword, with a NUL."""
        return _size(self._now().keyword)

    QueryCommand = query_command
    QueryCommandKeyword = query_command_keyword
    QueryCommandSize = query_command_size
    QueryCommandKeywordSize = query_command_keyword_size


class SmtpInCommandContext(_OfCommand[InCommand]):
    """ISmtpInCommandContext: a command that has arrived, and what is answered."""

    interfaces = ("ISmtpInCommandContext",)

    def query_native_response(self) -> str:
        """What the server itself says, whole lines with code; before it was asked, what sinks want added to it."""
        return self._now().native_response

    def query_response(self) -> str:
        """What sinks want said instead; "" as long as nobody does."""
        return self._now().response

    def query_native_response_size(self) -> int:
        """Octets of the native response, with a NUL."""
        return _size(self._now().native_response)

    def query_response_size(self) -> int:
        """Octets of the response, with a NUL."""
        return _size(self._now().response)

    def query_command_status(self) -> int:
        """What sinks have decided: EXPE_… flags, EXPE_UNHANDLED as long as nobody has."""
        return self._now().command_status

    def query_smtp_status_code(self) -> int:
        """The code for a response that has none; 0 if nobody has set one."""
        return self._now().smtp_status_code

    def query_protocol_error_flag(self) -> bool:
        """Whether the command counts as an error of the client's."""
        return self._now().protocol_error

    def set_response(self, text: str | bytes, size: int | None = None) -> None:
        """Say this instead of the native response: lines with or without a code, with or without CRLF."""
        self._now().response = _bounded(text_of(text, size))

    def append_response(self, text: str | bytes, size: int | None = None) -> None:
        """Add to the response; where there is none yet, this is it."""
        state = self._now()
        state.response = _bounded(state.response + text_of(text, size))

    def set_native_response(self, text: str | bytes, size: int | None = None) -> None:
        """Say this as the native response."""
        self._now().native_response = _bounded(text_of(text, size))

    def append_native_response(self, text: str | bytes, size: int | None = None) -> None:
        """Add lines to the native response: "250-XFOO" at EHLO is one more capability."""
        state = self._now()
        state.native_response = _bounded(state.native_response + text_of(text, size))

    def set_command_status(self, status: int) -> None:
        """Decide: EXPE_… flags."""
        self._now().command_status = _number(status)

    def set_smtp_status_code(self, code: int) -> None:
        """The code for a response that has none."""
        self._now().smtp_status_code = _number(code)

    def set_protocol_error_flag(self, flag: bool) -> None:
        """Whether the command counts as an error of the client's; after too many of them the session ends."""
        self._now().protocol_error = bool(flag)

    def set_callback(self, callback: object) -> None:
        """Who takes the lines that follow, with EXPE_BLOB_READY: has `OnSmtpInCallback`. None takes it away.

        BadArgument for what hasn't.
        """
        if callback is not None and not attribute_of(callback, "OnSmtpInCallback"):
            raise BadArgument(f"{callback!r:.80} has no OnSmtpInCallback")
        self._now().callback = callback

    QueryNativeResponse = query_native_response
    QueryResponse = query_response
    QueryNativeResponseSize = query_native_response_size
    QueryResponseSize = query_response_size
    QueryCommandStatus = query_command_status
    QuerySmtpStatusCode = query_smtp_status_code
    QueryProtocolErrorFlag = query_protocol_error_flag
    SetResponse = set_response
    AppendResponse = append_response
    SetNativeResponse = set_native_response
    AppendNativeResponse = append_native_response
    SetCommandStatus = set_command_status
    SetSmtpStatusCode = set_smtp_status_code
    SetProtocolErrorFlag = set_protocol_error_flag
    SetCallback = set_callback


class SmtpInCallbackContext(Unknown):
    """ISmtpInCallbackContext: a line that follows a command, and what is answered."""

    interfaces = ("ISmtpInCallbackContext",)

    def __init__(self, state: InCallback, seal: Seal, complete: Complete) -> None:
        self._state = state
        self._seal = seal

    def _now(self) -> InCallback:
        self._seal.check()
        return self._state

    def query_blob(self) -> bytes:
        """The line as it came, with its CRLF."""
        return self._now().blob

    def query_blob_size(self) -> int:
        """Its octets; nothing is added."""
        return len(self._now().blob)

    def set_response(self, text: str | bytes, size: int | None = None) -> None:
        """Say this; with EXPE_BLOB_READY and no response nothing is said, and the next line comes."""
        self._now().response = _bounded(text_of(text, size))

    def append_response(self, text: str | bytes, size: int | None = None) -> None:
        """Add to the response."""
        state = self._now()
        state.response = _bounded(state.response + text_of(text, size))

    def set_command_status(self, status: int) -> None:
        """EXPE_BLOB_READY for one more line, EXPE_BLOB_DONE for the end; a failure ends it too."""
        self._now().command_status = _number(status)

    def set_smtp_status_code(self, code: int) -> None:
        """The code for a response that has none."""
        self._now().smtp_status_code = _number(code)

    QueryBlob = query_blob
    QueryBlobSize = query_blob_size
    SetResponse = set_response
    AppendResponse = append_response
    SetCommandStatus = set_command_status
    SetSmtpStatusCode = set_smtp_status_code


class SmtpOutCommandContext(_OfCommand[OutCommand]):
    """ISmtpOutCommandContext: a command that is about to go to a next server."""

    interfaces = ("ISmtpOutCommandContext",)

    def query_native_command(self) -> str:
        """The command as the server itself would send it."""
        return self._now().native_command

    def query_native_command_size(self) -> int:
        """Octets of the native command, with a NUL."""
        return _size(self._now().native_command)

    def query_current_recipient_index(self) -> int:
        """The place among the message's recipients of the one that RCPT names, from 0. NoRecipientIndex elsewhere."""
        index = self._now().recipient_index
        if index == NO_RECIPIENT:
            raise NoRecipientIndex("the command isn't about one recipient")
        return index

    def query_command_status(self) -> int:
        """What sinks have decided: EXPE_… flags, EXPE_UNHANDLED as long as nobody has."""
        return self._now().command_status

    def set_command(self, text: str | bytes, size: int | None = None) -> None:
        """Send this instead: one line, with or without CRLF."""
        self._now().command = _bounded(text_of(text, size))

    def append_command(self, text: str | bytes, size: int | None = None) -> None:
        """Add to the command, as " SIZE=10"."""
        state = self._now()
        state.command = _bounded(state.command + text_of(text, size))

    def set_command_status(self, status: int) -> None:
        """Decide: EXPE_… flags."""
        self._now().command_status = _number(status)

    def set_blob(self, octets: bytes, size: int | None = None) -> None:
        """Send these octets, as they are, instead of the command."""
        self._now().blob = octets_of(octets, size)

    QueryNativeCommand = query_native_command
    QueryNativeCommandSize = query_native_command_size
    QueryCurrentRecipientIndex = query_current_recipient_index
    QueryCommandStatus = query_command_status
    SetCommand = set_command
    AppendCommand = append_command
    SetCommandStatus = set_command_status
    SetBlob = set_blob


class SmtpServerResponseContext(_OfCommand[ServerResponse]):
    """ISmtpServerResponseContext: what a next server has answered; its words can't be changed."""

    interfaces = ("ISmtpServerResponseContext",)

    def query_response(self) -> str:
        """The reply, all its lines, with code."""
        return self._now().response

    def query_response_size(self) -> int:
        """Octets of the response, with a NUL."""
        return _size(self._now().response)

    def query_smtp_status_code(self) -> int:
        """The reply's code."""
        return self._now().smtp_status_code

    def query_response_status(self) -> int:
        """What sinks have decided: EXPE_… flags, EXPE_UNHANDLED as long as nobody has."""
        return self._now().response_status

    def query_pipelined_flag(self) -> bool:
        """Whether other commands have followed already."""
        return self._now().pipelined

    def query_next_event_state(self) -> int:
        """Where the session goes on: a PE_STATE."""
        return self._now().next_event_state

    def set_response_status(self, status: int) -> None:
        """Decide: EXPE_… flags."""
        self._now().response_status = _number(status)

    def set_next_event_state(self, state: int) -> None:
        """Go on there: a PE_STATE, with EXPE_CHANGE_STATE."""
        self._now().next_event_state = _number(state)

    QueryResponse = query_response
    QueryResponseSize = query_response_size
    QuerySmtpStatusCode = query_smtp_status_code
    QueryResponseStatus = query_response_status
    QueryPipelinedFlag = query_pipelined_flag
    QueryNextEventState = query_next_event_state
    SetResponseStatus = set_response_status
    SetNextEventState = set_next_event_state


class MailTransportNotify(_Pending):
    """IMailTransportNotify: by which a transport event is completed that was left pending."""

    interfaces = ("IMailTransportNotify",)

    def notify(self, hresult: int, context: object = None) -> None:
        """The event is done, with this result; from any thread, once. `context`: what the event came with."""
        self.notify_async_completion(hresult)

    Notify = notify
