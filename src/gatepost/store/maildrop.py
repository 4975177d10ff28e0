"""Maildirs: where local mail comes to rest, exactly once.

A message's file name derives from its ticket and its recipient, so whoever isn't sure that it was delivered looks for
the name first, in `new` and in `cur` where a reader may have moved it. A file is written in `tmp`, synced, renamed into
`new`, and the folder synced; deliveries into one folder share that last sync. Lines end in LF and the sizes stand in
the name (`S=` octets in the file, `W=` with CRLF), as Dovecot expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path as File
from typing import TypeVar

from gatepost.model import Blob, Path, Recipient, Ticket, token_time
from gatepost.store.files import FileSystem

_THREADS = 4
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=-.@")
_NAME_LIMIT = 120  # octets of a folder's name before it is cut and given a digest
T = TypeVar("T")


class Maildrop:
    """All mailboxes below one folder. Invariant: a file in `new` is whole and synced, and there is one for a delivery.

    Whether somebody may have a mailbox is the caller's to know: it is made when the first message comes.
    """

    def __init__(self, root: File, files: FileSystem, *, hostname: str = "gatepost") -> None:
        self._root = root
        self._files = files
        self._host = safe_name(hostname.lower()).replace(",", "%2c")
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="maildrop")
        self._syncs: dict[File, _FolderSync] = {}

    def mailbox(self, user: str) -> File:
        """The Maildir of a user, `domain/local`; whatever the name, it is below the root and nobody else's."""
        return mailbox_below(self._root, user)

    async def deliver(
        self,
        user: str,
        ticket: Ticket,
        recipient: Recipient,
        content: Blob,
        *,
        sender: Path | None = None,
        delivered_to: str | None = None,
        folder: str | None = None,
        look: bool = True,
    ) -> None:
        """Put a message into a user's mailbox, durably, unless it is there already. Raises OSError.

        With a `sender` a Return-Path field is written on top (rfc5321#4.4), with `delivered_to` a Delivered-To field;
        `folder` is one beside the inbox. `look=False` spares looking for the message: for an entry that is fresh.
        """
        mailbox = self.mailbox(user)
        if folder is not None:
            mailbox /= "." + safe_name(folder).replace(".", "%2e")  # a dot would be a folder in a folder
        name = self._name(ticket, recipient)
        top = _fields(sender, delivered_to)
        put = partial(self._put, mailbox, name, top, content)
        where = await self._run(partial(self._find, mailbox, name)) if look else None
        if where is None:
            where = await self._run(put)
        await self._sync(where)

    async def close(self) -> None:
        """Wait for deliveries under way."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _name(self, ticket: Ticket, recipient: Recipient) -> str:
        seconds = token_time(ticket.token)[0] // 1000
        digest = blake2b(recipient.address.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        return f"{seconds}.{ticket}R{digest}.{self._host}"

    def _find(self, mailbox: File, name: str) -> File | None:
        """The folder that has the message already."""
        for folder in mailbox / "new", mailbox / "cur":
            if any(found.startswith(f"{name},") for found in self._files.list_dir(folder)):
                return folder
        return None

    def _put(self, mailbox: File, name: str, top: bytes, content: Blob) -> File:
        folders = [mailbox / part for part in ("cur", "new", "tmp")]
        try:
            return self._put_into(mailbox, name, top, content)
        except FileNotFoundError:
            if all(self._files.exists(folder) for folder in folders):
                raise  # it is the content that is missing
        for folder in folders:
            self._files.make_dir(folder)
        return self._put_into(mailbox, name, top, content)

    def _put_into(self, mailbox: File, name: str, top: bytes, content: Blob) -> File:
        temporary = mailbox / "tmp" / name
        size, lines = self._write(temporary, top, content)
        try:
            self._files.rename(temporary, mailbox / "new" / f"{name},S={size},W={size + lines}")
        except OSError:
            self._forget(temporary)
            raise
        return mailbox / "new"

    def _write(self, path: File, top: bytes, content: Blob) -> tuple[int, int]:
        """Octets and lines written."""
        self._files.unlink(path)  # of an attempt that didn't come to its end
        file = self._files.create(path)
        size = lines = 0
        try:
            for data in _with_lf(top, content):
                file.write(data)
                size += len(data)
                lines += data.count(b"\n")
            file.sync()
        except OSError:
            self._forget(path)
            raise
        finally:
            file.close()
        return size, lines

    def _forget(self, path: File) -> None:
        with suppress(OSError):
            self._files.unlink(path)

    async def _sync(self, folder: File) -> None:
        """Make the names in a folder durable, together with everybody who waits for the same."""
        sync = self._syncs.get(folder)
        if sync is None or sync.has_begun:
            sync = self._syncs[folder] = _FolderSync()
            work = asyncio.get_running_loop().run_in_executor(self._pool, sync.run, self._files, folder)
            work.add_done_callback(partial(self._synced, folder, sync))
            sync.work = work
        assert sync.work is not None
        await asyncio.wait({sync.work})
        sync.work.result()

    def _synced(self, folder: File, sync: _FolderSync, work: asyncio.Future[None]) -> None:
        if self._syncs.get(folder) is sync:
            del self._syncs[folder]
        work.exception()  # each who waits hears it; nobody may be left to

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def mailbox_below(root: File, user: str) -> File:
    """The Maildir of a user below the folder of all."""
    local, _, domain = user.lower().rpartition("@")
    return root / safe_name(domain) / safe_name(local) if local else root / safe_name(domain)


class _FolderSync:
    """One sync of a folder. Who asks before it has begun is covered by it."""

    __slots__ = ("has_begun", "work")

    def __init__(self) -> None:
        self.has_begun = False
        self.work: asyncio.Future[None] | None = None

    def run(self, files: FileSystem, folder: File) -> None:
        self.has_begun = True
        files.sync_dir(folder)


def safe_name(text: str) -> str:
    """A name for one file or folder, different for every text: no separator, no leading dot or dash, not too long."""
    name = "".join(
        chr(octet) if octet in _PLAIN else f"%{octet:02x}" for octet in text.encode("utf-8", "surrogatepass")
    )
    if not name:
        return "%"
    if name[0] in ".-":
        name = f"%{ord(name[0]):02x}{name[1:]}"
    if len(name) > _NAME_LIMIT:
        digest = blake2b(name.encode("ascii"), digest_size=16).hexdigest()
        name = f"{name[: _NAME_LIMIT - 40]}%~{digest}"  # "%~" comes from no text
    return name


def _fields(sender: Path | None, delivered_to: str | None) -> bytes:
    top = ""
    if delivered_to is not None:
        top += f"Delivered-To: {_one_line(delivered_to)}\n"
    if sender is not None:
        top = f"Return-Path: <{_one_line(sender.address)}>\n{top}"  # rfc5321#4.4: the very first line
    return top.encode("utf-8", "replace")


def _one_line(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _with_lf(top: bytes, content: Blob) -> Iterator[bytes]:
    """The fields and the content, with LF for every CRLF, also where a piece ends between the two."""
    kept = top
    for chunk in content.chunks():
        data = kept + chunk
        kept = b"\r" if data.endswith(b"\r") else b""
        yield (data[:-1] if kept else data).replace(b"\r\n", b"\n")
    if kept:
        yield kept
