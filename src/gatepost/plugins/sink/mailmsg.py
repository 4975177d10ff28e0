"""IMailMsgProperties for a sink in Python: what pMsg is. Contract: Interfaces, MailMsg property ids.

`wrap` makes it over a `states.Message`; whoever calls the sink closes the seal when the call is over, and finds there
what the sink has changed. Every method has its original name too: `ReadContent` is `read_content`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

from gatepost.plugins.sink.constants import E_UNEXPECTED, IMMPID_MP, IMMPID_RP, RECIPIENT_FLAGS
from gatepost.plugins.sink.mailmsg_bag import (
    BadArgument,
    CallOver,
    MailMsgLoggingPropertyBag,
    MailMsgPropertyBag,
    NoInterface,
    PropertyNotFound,
    Seal,
    TooMuch,
    Unknown,
)
from gatepost.plugins.sink.mailmsg_content import Content
from gatepost.plugins.sink.properties import dword_in, string_in
from gatepost.plugins.sink.recipients import MailMsgRecipient, MailMsgRecipients, MailMsgRecipientsAdd, NoRecipient
from gatepost.plugins.sink.states import Bag, Fork, Message

MOST_MAPPED = 64 * 1024 * 1024
"""Octets of content that can be mapped as a whole."""
_CHUNK = 64 * 1024
_BLOCK = 0x1000  # ids that one range may have
_FIRST_BLOCK = 0x10000  # below are the ids that sinks choose themselves
_BLOCKS = (0x80000000 - _FIRST_BLOCK) // _BLOCK


class NoContent(LookupError):
    """The content hasn't arrived yet."""

    hresult: Final = E_UNEXPECTED


def wrap(message: Message, seal: Seal) -> MailMsgProperties:
    """The message as a sink sees it. When `seal` is closed, `message` has all that was changed, and the objects are
    of no use any more.
    """
    made = MailMsgProperties(message, seal)
    seal.at_end(made._finish)
    return made


class MailMsgProperties(MailMsgPropertyBag):
    """IMailMsgProperties: a message's properties, its content, and by `recipients` whom it is for."""

    interfaces = ("IMailMsgProperties", "IMailMsgPropertyBag")

    def __init__(self, state: Message, seal: Seal) -> None:
        super().__init__({}, seal)
        self._state = state
        self._written: Content | None = None
        self._maps: dict[int, Any] = {}
        self._forks: list[tuple[_Fork, MailMsgRecipientsAdd]] = []
        self._list: MailMsgRecipients | None = None

    # ── its envelope ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def recipients(self) -> MailMsgRecipients:
        """The recipients known so far; also by `query_interface("IMailMsgRecipients")`."""
        self._seal.check()
        if self._list is None:
            self._list = MailMsgRecipients(self._state, self._seal)
        return self._list

    @property
    def sender(self) -> str:
        """The reverse-path's address; "" for the null sender, and before MAIL."""
        self._seal.check()
        return string_in(self._bag, IMMPID_MP.SENDER_ADDRESS_SMTP)

    @sender.setter
    def sender(self, address: str) -> None:
        self.put_string(IMMPID_MP.SENDER_ADDRESS_SMTP, address)

    def refuse(self, text: str = "550 5.7.1 refused", recipient: int | MailMsgRecipient | str | None = None) -> None:
        """Refuse one recipient (by index or address), or all: with a reply's code, status and text. NoRecipient.

        Short for putting RECIPIENT_FLAGS FAILED and SMTP_STATUS_STRING.
        """
        chosen = [one for index, one in enumerate(self.recipients) if _is(one, index, recipient)]
        if not chosen:
            raise NoRecipient("there is no recipient to refuse" if recipient is None else f"no recipient {recipient}")
        for one in chosen:
            one.flags |= RECIPIENT_FLAGS.FAILED
            one.put_string(IMMPID_RP.SMTP_STATUS_STRING, text)

    def query_interface(self, interface: str) -> Any:
        """The object that has the interface of this name or "{IID}": this one, its recipients, or the management of
        properties. NoInterface.
        """
        others = (self.recipients, MailMsgPropertyManagement(self._seal))
        for query in (super().query_interface, *(other.query_interface for other in others)):
            with suppress(NoInterface):
                return query(interface)
        raise NoInterface(f"a message has no interface {interface}")

    def commit(self, notify: object = None) -> None:
        """What was put counts when the sink has answered; there is nothing to wait for."""
        self._seal.check()

    # ── its content ────────────────────────────────────────────────────────────────────────────────────────────────

    def get_content_size(self, notify: object = None) -> int:
        """Octets; 0 while there is no content."""
        self._seal.check()
        return 0 if self._state.content is None and self._written is None else self._content().size

    def read_content(self, offset: int = 0, length: int | None = None, notify: object = None) -> bytes:
        """Up to `length` octets from `offset`, all there are without one. Lines end with CRLF, dots aren't stuffed.

        NoContent; BadArgument.
        """
        content = self._content()
        return content.read(offset, max(0, content.size - offset) if length is None else length)

    def write_content(self, offset: int, octets: bytes, notify: object = None) -> int:
        """Put these octets in the place of what is at `offset`; how many there were. NoContent, TooMuch, OSError."""
        self._content().write(offset, bytes(memoryview(octets)))
        return len(octets)

    def set_content_size(self, size: int, notify: object = None) -> None:
        """Cut the content, or fill it up with zeros. NoContent, TooMuch, OSError."""
        self._content().resize(size)

    def copy_content_to_file(self, file: str | os.PathLike[str] | BinaryIO, notify: object = None) -> int:
        """Write the content to a file, by path or open for writing; how many octets. NoContent, OSError."""
        return self._copy(file, 0, dot_stuffed=False)

    def copy_content_to_file_ex(
        self, file: str | os.PathLike[str] | BinaryIO, dot_stuffed: bool = False, notify: object = None
    ) -> int:
        """The same, with a dot before each line that begins with one, if wanted."""
        return self._copy(file, 0, dot_stuffed=dot_stuffed)

    def copy_content_to_file_at_offset(
        self, file: str | os.PathLike[str] | BinaryIO, offset: int, notify: object = None
    ) -> int:
        """The same, from that place of the file on."""
        return self._copy(file, offset, dot_stuffed=False)

    def map_content(self, write: bool = False) -> memoryview | bytearray:
        """The whole content; with `write`, to be changed and given to `unmap_content`. NoContent, TooMuch."""
        content = self._content()
        if content.size > MOST_MAPPED:
            raise TooMuch(f"content of more than {MOST_MAPPED >> 20} MiB can't be mapped; read it in pieces")
        octets = content.read(0, content.size)
        mapped: memoryview | bytearray = bytearray(octets) if write else memoryview(octets)
        self._maps[id(mapped)] = mapped
        return mapped

    def unmap_content(self, mapped: memoryview | bytearray) -> None:
        """Give back what `map_content` has given; changes are in the content now. BadArgument, OSError."""
        content = self._content()
        if self._maps.pop(id(mapped), None) is None:
            raise BadArgument("this isn't what map_content has given")
        if isinstance(mapped, bytearray) and content.read(0, content.size) != mapped:
            content.resize(len(mapped))
            content.write(0, bytes(mapped))

    # ── another message of it ──────────────────────────────────────────────────────────────────────────────────────

    def fork_for_recipients(self) -> tuple[MailMsgProperties, MailMsgRecipientsAdd]:
        """A message with content of its own, the same as this one's at first, and the list of its recipients, empty
        at first. Who is in it gets that content, and no longer this message.

        Of its properties only MESSAGE_STATUS can be put: it says what becomes of these recipients. NoContent.
        """
        content = self._content().snapshot()
        recipients = MailMsgRecipientsAdd(self._seal)
        state = Message(dict(self._state.properties), recipients._list, content)
        fork = _Fork(state, self._seal), recipients
        self._forks.append(fork)
        return fork

    def rebind_after_fork(self, original: object = None, store: object = None) -> None:
        """A fork is whole from the beginning: nothing happens."""
        self._seal.check()

    GetContentSize, ReadContent, WriteContent = get_content_size, read_content, write_content
    SetContentSize, MapContent, UnmapContent = set_content_size, map_content, unmap_content
    CopyContentToFile, CopyContentToFileEx = copy_content_to_file, copy_content_to_file_ex
    CopyContentToFileAtOffset = copy_content_to_file_at_offset
    ForkForRecipients, RebindAfterFork = fork_for_recipients, rebind_after_fork
    QueryInterface, Commit = query_interface, commit

    @property
    def _bag(self) -> Bag:
        return self._state.properties

    def _was_put(self, id: int) -> None:
        self._state.put.add(id)

    def _content(self) -> Content:
        self._seal.check()
        if self._written is None:
            content = self._state.content
            if content is None:
                raise NoContent("the message's content hasn't arrived yet")
            self._written = Content(content)
        return self._written

    def _copy(self, file: str | os.PathLike[str] | BinaryIO, offset: int, *, dot_stuffed: bool) -> int:
        content = self._content()
        pieces: Iterator[bytes] = (content.read(at, _CHUNK) for at in range(0, content.size, _CHUNK))
        if dot_stuffed:
            pieces = _stuffed(pieces)
        if not isinstance(file, str | os.PathLike):
            return _write(file, offset, pieces)
        path = Path(file)
        with path.open("r+b" if offset and path.exists() else "wb") as stream:
            return _write(stream, offset, pieces)

    def _finish(self) -> None:
        """What was written, and who was forked off, into the state. OSError."""
        if self._written is not None and self._written.is_changed:
            self._state.rewritten = self._written.snapshot()
        for message, recipients in self._forks:
            message._finish()
            state = message._state
            bags = recipients._bags if state.written_list is None else state.written_list
            content = state.rewritten or state.content
            if bags and content is not None:
                self._state.forks.append(Fork(list(bags), content, message._status))
            self._state.forks += state.forks
        self._forks = []


class _Fork(MailMsgProperties):
    """A message that was forked off. It is kept as content for some recipients, so that it has no properties of its
    own but its status.
    """

    @property
    def _status(self) -> int | None:
        has_one = IMMPID_MP.MESSAGE_STATUS in self._state.put
        return dword_in(self._state.properties, IMMPID_MP.MESSAGE_STATUS) if has_one else None

    def _put(self, id: int, value: bytes) -> None:
        if id != IMMPID_MP.MESSAGE_STATUS:
            raise BadArgument(
                "a fork has the message's properties, and MESSAGE_STATUS alone can be put on it; put others on the "
                "message, or on the fork's recipients"
            )
        super()._put(id, value)


class MailMsgPropertyManagement(Unknown):
    """IMailMsgPropertyManagement: ids for a sink's own properties."""

    interfaces = ("IMailMsgPropertyManagement",)

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def alloc_prop_id_range(self, guid: str, count: int) -> int:
        """The first of `count` ids that belong to this "{GUID}": the same at each call, also after a restart.

        BadArgument.
        """
        self._seal.check()
        if not 0 < count <= _BLOCK:
            raise BadArgument(f"a range has from 1 to {_BLOCK} ids")
        try:
            octets = UUID(str(guid).strip()).bytes_le
        except ValueError:
            raise BadArgument(f"{guid!r:.60} is no GUID") from None
        value = 0xCBF29CE484222325  # FNV-1a, as in the plugin host: the same ids for a library's sinks
        for octet in octets:
            value = (value ^ octet) * 0x100000001B3 % 2**64
        return _FIRST_BLOCK + value % _BLOCKS * _BLOCK

    AllocPropIDRange = alloc_prop_id_range


def _is(one: MailMsgRecipient, index: int, recipient: int | MailMsgRecipient | str | None) -> bool:
    match recipient:
        case None:
            return True
        case int():
            return index == recipient
        case _:
            return one.address.lower() == str(recipient).lower()


def _stuffed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """rfc5321#4.5.2."""
    before = b"\n"
    for piece in pieces:
        stuffed = (before + piece).replace(b"\n.", b"\n..")[1:]
        before = piece[-1:]
        yield stuffed


def _write(stream: BinaryIO, offset: int, pieces: Iterator[bytes]) -> int:
    if offset:
        stream.seek(offset)
    written = 0
    for piece in pieces:
        written += stream.write(piece)
    return written


__all__ = [
    "BadArgument",
    "CallOver",
    "MailMsgLoggingPropertyBag",
    "MailMsgProperties",
    "MailMsgPropertyBag",
    "MailMsgPropertyManagement",
    "MailMsgRecipient",
    "MailMsgRecipients",
    "MailMsgRecipientsAdd",
    "NoContent",
    "NoInterface",
    "NoRecipient",
    "PropertyNotFound",
    "Seal",
    "TooMuch",
    "wrap",
]
