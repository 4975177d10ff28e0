"""How much a mailbox holds, and whether there is room for more.

What is counted stands in the names: the octets of every file (`S=`) in `new` and `cur` of the inbox and of the folders
beside it. A folder is counted again only when its own time has changed, and a mailbox not sooner than a multiple of the
time its last count took, so that counting never takes more than a small part of a thread. A quota is therefore exceeded
by what arrives within that time, and no more. Whoever is to hear that there is no room hears it of a count that is new:
so room that a user makes, with whatever program, counts at once.

There is no `maildirsize` file: it is right only as long as everybody who adds or removes a message writes it too, which
mutt, rsync and a shell don't; the names are always right. Nothing is written, so there is nothing to repair.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as File
from typing import NamedTuple

from gatepost.store.mailbox_names import base_of, sent_size, stored_size
from gatepost.store.mailbox_scan import FOLDERS, scan_folder

_SIZE = re.compile(r"([0-9]{1,15})\s*(?:([BbKkMmGgTt])i?[Bb]?)?", re.ASCII)
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_THREADS = 2
_MAILBOXES = 4096  # whose counts are kept
_FRESH_S = 1.0  # a count is good for so long at least
_SHARE = 20  # and for so many times what it took
_SHARE_ANEW = 3  # the same where nobody waits that long
_SETTLED_NS = 2_000_000_000  # a folder that changed later than this before it was read may have changed again unnoticed


class Usage(NamedTuple):
    """What a mailbox holds, or may hold: octets in files, and messages."""

    octets: int
    messages: int


class Limit(NamedTuple):
    """What a mailbox may hold; None is without end."""

    octets: int | None = None
    messages: int | None = None


class _Counted(NamedTuple):
    usage: Usage
    changed_ns: int
    is_settled: bool


class _Mailbox:
    """The last count of a mailbox, by folder, and until when nobody need look."""

    def __init__(self) -> None:
        self.usage = Usage(0, 0)
        self.good_until = 0.0
        self.again_at = 0.0
        self.folders: dict[str, _Counted] = {}
        self.count: asyncio.Future[None] | None = None


class Quota:
    """Every user's usage. Invariant: a mailbox is counted once at a time, whoever asks."""

    def __init__(
        self,
        where: Callable[[str], File],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`where` gives a user's Maildir (Maildrop.mailbox)."""
        self._where = where
        self._monotonic = monotonic
        self._now_ns = now_ns
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="quota")
        self._mailboxes: OrderedDict[File, _Mailbox] = OrderedDict()

    async def room(self, user: str, limit: Limit, size: int = 0) -> bool:
        """Whether one more message of `size` octets fits. A mailbox that can't be counted has room."""
        if limit == (None, None):
            return True
        if limit.octets is not None and size > limit.octets:
            return False  # it never will
        try:
            return _fits(await self.usage(user), limit, size) or _fits(await self.usage(user, anew=True), limit, size)
        except OSError:
            return True  # delivery will say what is wrong

    async def usage(self, user: str, *, anew: bool = False) -> Usage:
        """What a mailbox holds, a moment ago; nothing if there is none. Raises OSError.

        With `anew` it is counted again, unless that was done just now.
        """
        path = self._where(user)
        mailbox = self._mailboxes.get(path)
        if mailbox is None:
            mailbox = self._mailboxes[path] = _Mailbox()
            if len(self._mailboxes) > _MAILBOXES:
                self._mailboxes.popitem(last=False)
        self._mailboxes.move_to_end(path)
        if self._monotonic() < (mailbox.again_at if anew else mailbox.good_until):
            return mailbox.usage
        if mailbox.count is None:
            mailbox.count = asyncio.get_running_loop().run_in_executor(self._pool, self._count, path, mailbox)
            mailbox.count.add_done_callback(lambda count: _counted(mailbox, count))
        await asyncio.shield(mailbox.count)
        return mailbox.usage

    async def close(self) -> None:
        """Wait for counts under way."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _count(self, path: File, mailbox: _Mailbox) -> None:
        begin = self._monotonic()
        folders: dict[str, _Counted] = {}
        for name in _folders(path):
            counted = self._counted(path / name, mailbox.folders.get(name))
            if counted is not None:
                folders[name] = counted
        mailbox.folders = folders
        mailbox.usage = Usage(
            sum(one.usage.octets for one in folders.values()), sum(one.usage.messages for one in folders.values())
        )
        end = self._monotonic()
        mailbox.again_at = end + _SHARE_ANEW * (end - begin)
        mailbox.good_until = end + max(_FRESH_S, _SHARE * (end - begin))

    def _counted(self, folder: File, before: _Counted | None) -> _Counted | None:
        """A folder's count, the last one if the folder hasn't changed since; None if there is no such folder."""
        try:
            changed = folder.lstat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None
        if before is not None and before.is_settled and before.changed_ns == changed:
            return before
        is_settled = self._now_ns() - changed > _SETTLED_NS
        octets = messages = 0
        for name in scan_folder(folder, lambda _: None):
            octets += _stored(folder, name)
            messages += 1
        return _Counted(Usage(octets, messages), changed, is_settled)


def quota_in(extra: Mapping[str, str]) -> Limit | None:
    """The quota among what a passwd-file says of a user, as Dovecot writes it; None where it says nothing of it.

    Raises ValueError for one that can't be kept.
    """
    for key in ("userdb_quota_rule", "quota_rule"):
        if key in extra:
            return _rule(key, extra[key])
    for key in ("userdb_quota_storage_size", "quota_storage_size", "userdb_quota", "quota"):
        if key in extra:
            return Limit(_octets(key, extra[key], 1) or None)
    return None


def _rule(key: str, text: str) -> Limit:
    mailbox, _, rest = text.partition(":")
    if mailbox != "*":
        raise ValueError(f'{key}={text}: a quota is that of the whole mailbox here; "{key}=*:storage=1G"')
    octets = messages = None
    for part in rest.split(":"):
        name, _, value = part.partition("=")
        match name:
            case "storage":
                octets = _octets(key, value, 1024) or None
            case "bytes":
                octets = _octets(key, value, 1) or None
            case "messages" if value.isascii() and value.isdecimal():
                messages = int(value) or None
            case "ignore" | "noenforcing":
                return Limit()
            case _:
                raise ValueError(f'{key}={text}: "{part}" isn\'t understood; "{key}=*:storage=1G:messages=1000"')
    return Limit(octets, messages)


def _octets(key: str, text: str, unit: int) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{key}: "{text}" isn\'t a size; "1G", "500M", or 0 for none')
    return int(found[1]) * (_UNITS[found[2].upper()] if found[2] else unit)


def _fits(usage: Usage, limit: Limit, size: int) -> bool:
    return (limit.octets is None or usage.octets + size <= limit.octets) and (
        limit.messages is None or usage.messages < limit.messages
    )


def _counted(mailbox: _Mailbox, count: asyncio.Future[None]) -> None:
    mailbox.count = None
    if not count.cancelled():
        count.exception()  # each who waits hears it; nobody may be left to


def _stored(folder: File, name: str) -> int:
    """Octets in a file, from its name if it says so; with CRLF where it says only that."""
    base = base_of(name)
    size = stored_size(base)
    if size is None:
        size = sent_size(base)
    if size is None:
        try:
            size = (folder / name).lstat().st_size
        except OSError:
            return 0  # gone, or moved and counted there
    return size


def _folders(path: File) -> list[str]:
    """The folders that hold messages, of the inbox and of those beside it (`.Junk`), below a Maildir."""
    inboxes = [""]
    try:
        with os.scandir(path) as found:
            inboxes += [one.name + "/" for one in found if one.name[0] == "." and one.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [inbox + folder for inbox in inboxes for folder in FOLDERS]
