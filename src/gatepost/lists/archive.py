"""What was posted to a list, kept as text: one mbox file a month (RFC 4155, lines quoted as mboxrd has it).

Strategy: a post is appended and synced, then a line with its ticket and where it ends is appended to an index and
synced: that is its commit. A post whose ticket is in the index isn't appended again; what stands in the file behind the
last end that the index knows is half a post of a server that died, and is set aside. A lock keeps workers apart.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from errno import EAGAIN
from pathlib import Path as File
from time import gmtime

from gatepost.model import Blob, Path
from gatepost.model.blob import CHUNK
from gatepost.store.files import FileSystem

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_LINE = re.compile(rb"^([^ \n]+) (\d+)\n", re.MULTILINE)
_NOBODY = "MAILER-DAEMON"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WAIT_S = 0.02  # until a lock is asked for again
_PATIENCE = 500  # times


class Archive:
    """The archives of all lists, each in a folder of its name. Invariant: a file has a ticket's post whole and once, as
    far as the index beside it goes.
    """

    def __init__(self, root: File, files: FileSystem) -> None:
        self._root = root
        self._files = files
        self._turns: dict[str, asyncio.Lock] = {}

    async def keep(self, name: str, ticket: str, content: Blob, *, sender: Path, at: float) -> None:
        """Append a post of the list `name`, received at `at` (s, Unix time), unless it is there; durably. OSError."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            folder = self._root / name
            await asyncio.to_thread(self._files.make_dir, folder)
            for _ in range(_PATIENCE):
                lock = await asyncio.to_thread(self._files.lock, folder / "lock")
                if lock is not None:
                    break
                await asyncio.sleep(_WAIT_S)
            else:
                raise BlockingIOError(EAGAIN, "another process holds the archive's lock")
            try:
                await asyncio.to_thread(self._append, folder, ticket, content, sender, at)
            finally:
                lock.release()

    def _append(self, folder: File, ticket: str, content: Blob, sender: Path, at: float) -> None:
        when = gmtime(at)
        month = f"{when.tm_year:04}-{when.tm_mon:02}"
        box, index = folder / f"{month}.mbox", folder / f"{month}.index"
        known = self._index(index)
        if ticket.encode() in known:
            return
        end = max(known.values(), default=0)
        is_new = not (self._files.exists(box) and self._files.exists(index))
        if self._files.exists(box) and self._files.size(box) > end:
            self._set_aside(box, end)
        file = self._files.append(box)
        try:
            for octets in _record(content, sender, at):
                file.write(octets)
            file.sync()
        finally:
            file.close()
        line = self._files.append(index)
        try:
            # a line that a crash has cut short ends so that it is none
            line.write(b" cut\n" * self._is_cut(index) + b"%b %d\n" % (ticket.encode(), self._files.size(box)))
            line.sync()
        finally:
            line.close()
        if is_new:
            self._files.sync_dir(folder)

    def _index(self, index: File) -> dict[bytes, int]:
        """Where each ticket's post ends."""
        with suppress(FileNotFoundError), self._files.open(index) as stream:
            return {ticket: int(end) for ticket, end in _LINE.findall(stream.read())}
        return {}

    def _is_cut(self, index: File) -> bool:
        with self._files.open(index) as stream:
            size = self._files.size(index)
            stream.seek(max(0, size - 1))
            return stream.read(1) not in (b"", b"\n")

    def _set_aside(self, box: File, end: int) -> None:
        """The file as far as it is known to be whole takes its own place; as it was it stands beside it."""
        whole, torn = box.with_suffix(".partial"), box.with_suffix(".torn")
        self._files.unlink(whole)
        file = self._files.create(whole)
        try:
            with self._files.open(box) as stream:
                while end > 0 and (octets := stream.read(min(CHUNK, end))):
                    file.write(octets)
                    end -= len(octets)
            file.sync()
        finally:
            file.close()
        self._files.unlink(torn)
        self._files.link(box, torn)
        self._files.rename(whole, box)
        self._files.sync_dir(box.parent)


def _record(content: Blob, sender: Path, at: float) -> Iterator[bytes]:
    """A post as it stands in the file: the line that begins it, its text, an empty line."""
    when = gmtime(at)
    address = sender.address
    shown = address if address.isascii() and address.isprintable() and " " not in address else ""
    date = (
        f"{_DAYS[when.tm_wday]} {_MONTHS[when.tm_mon - 1]} {when.tm_mday:2} "
        f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02} {when.tm_year}"
    )
    yield f"From {shown or _NOBODY} {date}\n".encode("ascii")
    yield from _quoted(content.chunks())
    yield b"\n"


def _quoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, ended by LF; those that could be taken for a post's beginning have one ">" more."""
    held = b""
    for chunk in chunks:
        lines, end, held = (held + chunk).rpartition(b"\n")
        if end:
            yield _quote(lines + end)
    if held:
        yield _quote(held) + b"\n"


def _quote(lines: bytes) -> bytes:
    return _FROM.sub(rb">\1", lines.replace(b"\r\n", b"\n"))
