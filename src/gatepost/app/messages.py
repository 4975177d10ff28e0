"""What programs hand in as a message, as content for the wire: bytes, text, an EmailMessage, a file or its path."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from email.message import Message
from email.policy import SMTP, SMTPUTF8
from pathlib import Path as File
from typing import BinaryIO

from gatepost.content.pieces import crlf
from gatepost.model import Blob, Bytes
from gatepost.store.blobs import FileBlob

Content = bytes | bytearray | memoryview | str | Message | os.PathLike[str] | BinaryIO
"""What `send` takes. Line ends may be any; a str that isn't a path is the message itself."""

_IN_MEMORY = 1024 * 1024  # of a file; what is larger is read in pieces


class Messages:
    """Takes messages in. Invariant: every copy it made of one is gone after `close`."""

    def __init__(self) -> None:
        self._copies = ExitStack()
        self._folder: File | None = None
        self._count = 0

    def take(self, content: Content) -> Blob:
        """The content with CRLF line ends. OSError if a file can't be read, TypeError for what is no message."""
        match content:
            case bytes() | bytearray() | memoryview():
                return _bytes([bytes(content)])
            case str():
                return _bytes([content.encode("utf-8", "surrogateescape")])
            case Message():
                return _bytes([content.as_bytes(policy=SMTPUTF8 if _has_utf8_address(content) else SMTP)])
            case os.PathLike():
                with File(content).open("rb") as stream:
                    return self._stream(stream)
            case _ if hasattr(content, "read"):
                return self._stream(content)
            case _:
                raise TypeError(
                    f"a message is bytes, str, an EmailMessage, a path or a binary file, not {content!r:.60}"
                )

    def close(self) -> None:
        """Remove the copies."""
        self._copies.close()

    def _stream(self, stream: BinaryIO) -> Blob:
        head = stream.read(_IN_MEMORY)
        if not isinstance(head, bytes):
            raise TypeError('a message is read from a binary file: open it with "rb"')
        if len(head) < _IN_MEMORY:
            return _bytes([head])
        if self._folder is None:
            self._folder = File(tempfile.mkdtemp(prefix="gatepost-send-"))
            self._copies.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._count += 1
        path = self._folder / str(self._count)
        with path.open("wb") as copy:
            for piece in crlf(_pieces(head, stream)):
                copy.write(piece)
        return FileBlob(path, path.stat().st_size)


def _has_utf8_address(message: Message) -> bool:
    """Whether the header can't be written without RFC 6532: names can be encoded, addresses can't."""
    named = (address for value in message.values() for address in getattr(value, "addresses", ()))
    return any(not address.addr_spec.isascii() for address in named)


def _pieces(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield head
    while piece := stream.read(65536):
        yield piece


def _bytes(pieces: Iterable[bytes]) -> Bytes:
    data = b"".join(crlf(pieces))
    return Bytes(data if data.endswith(b"\r\n") or not data else data + b"\r\n")
