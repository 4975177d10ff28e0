"""A Maildir as a list of messages, for whoever holds its lock. Everything here blocks.

Names say nearly everything, so a mailbox opens without reading a message; what a name doesn't say is found out once and
kept. A unique id is the digest of the base name. Where two files would have the same one, both get the digest of more,
and so it stays as long as one of them is there: an id that changes costs a client a second copy, an id that comes back
for another message would cost it that message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path as File
from threading import Event

from gatepost.store import mailbox_scan
from gatepost.store.files import FileSystem
from gatepost.store.mailbox_cache import Cache, Fact
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailbox_content import Lines, size_with_crlf
from gatepost.store.mailbox_names import Digest, base_of, delivered_at, octets_of, sent_size, uid_of
from gatepost.store.mailbox_snapshots import Snapshots
from gatepost.store.mailboxes import Entry, MailboxError, MessageGone

_SAVE_EVERY = 4096  # messages that were read; a login that is given up then hasn't been for nothing
_ROUNDS = 5  # a message that is renamed all the time is looked for so often

_Identity = tuple[int, int]  # device and inode
_Draft = tuple[int, str, str, int]  # sorts by delivery, then name: when, base, key, size


class Stopped(MailboxError):
    """Nobody waits for the mailbox any more."""


class Folder:
    """One Maildir; everything but `cached` and `correct` blocks.

    Invariant: an entry's key is `FOLDER/NAME` as it was when the snapshot was taken.
    """

    def __init__(
        self,
        mailbox: File,
        files: FileSystem,
        tell: Callable[[str], None],
        *,
        digest: Digest = uid_of,
        stop: Event | None = None,
        cached: Cached | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`cached` opens messages that need no waiting, and `snapshots` has been here before, if the mailbox lies where
        either can be.
        """
        self._mailbox = mailbox
        self._files = files
        self._tell = tell
        self._digest = digest
        self._stop = stop or Event()
        self._cache_of_sizes: Cache | None = None
        self._real = os.path.realpath(os.fsencode(mailbox)) + b"/"
        self.in_memory = cached if cached is not None and cached.is_local(self._real) else None
        self._snapshots = snapshots if self.in_memory is not None else None
        self._doubles: dict[str, _Identity] = {}  # by unique id
        self._corrections: dict[str, int] = {}  # octets by base name
        self._is_whole = True  # every message could be looked at
        self.entries: Sequence[Entry] = ()

    def look(self) -> None:
        """Take the snapshot. Raises OSError if a folder can't be read, Stopped if nobody waits."""
        snapshots = self._snapshots
        if snapshots is None:
            self._look()
            return
        stamp = snapshots.stamp(self._mailbox)
        found = snapshots.find(self._mailbox, stamp)
        if found is not None:
            self.entries = found
            return
        self._look()
        if self._is_whole and not self._cache.doubles:  # who those are isn't in the snapshot
            snapshots.keep(self._mailbox, stamp, self.entries)

    def _look(self) -> None:
        drafts = self._drafts()
        drafts.sort()
        bases = [octets_of(base) for _, base, _, _ in drafts]
        plain = uids = [self._digest(base) for base in bases]
        if self._cache.doubles or len(set(uids)) < len(uids):
            drafts, uids = self._told_apart(drafts, uids)
        self.entries = [
            Entry(number, uid, size, key)
            for number, (uid, (_, _, key, size)) in enumerate(zip(uids, drafts, strict=True), 1)
        ]
        if self._cache.facts or self._cache.doubles:
            self._cache.forget_others(set(bases), set(plain))
            self.save()

    def correct(self, entry: Entry, sent: int) -> None:
        """A message turned out to have another size than was said; once saved, that is what is said."""
        self._corrections[base_of(entry.key.partition("/")[2])] = sent
        if self._snapshots is not None:
            self._snapshots.forget(self._mailbox)

    def save(self) -> None:
        """Write down what is new; that it can't be done is told."""
        for base, sent in self._corrections.items():
            known = self._cache.facts.get(octets_of(base)) or Fact(sent, delivered_at(base) or 0)
            self._cache.learn(octets_of(base), known._replace(size=sent))
        self._corrections.clear()
        try:
            self._cache.save()
        except OSError as error:
            self._tell(f"sizes can't be kept: {error}")

    def cached(self, entry: Entry) -> tuple[Lines, bytes] | None:
        """A message's content and its first piece, where both are in memory: what doesn't block."""
        if self.in_memory is None:
            return None
        opened = self.in_memory.open(self._real + octets_of(entry.key))
        if opened is None:
            return None
        lines = Lines(*opened)
        first = lines.next_cached(self.in_memory)
        if first is None:
            lines.close()
            return None
        return lines, first

    def lines(self, entry: Entry) -> Lines:
        """A message's content, wherever it is now. Raises OSError, MessageGone."""
        for _ in range(_ROUNDS):
            with suppress(FileNotFoundError):
                return self._opened(entry.key)
            keys = self._whereabouts([entry], {}).get(entry.number)
            if not keys:
                break
            with suppress(FileNotFoundError):
                return self._opened(keys[0])
        raise MessageGone(f"{entry.name} isn't there any more")

    def remove(self, entries: Iterable[Entry]) -> list[Entry]:
        """Remove messages and sync; the ones that couldn't be removed come back."""
        wanted = list(entries)
        left: dict[int, Entry] = {}
        touched: set[str] = set()
        seen: dict[int, _Identity] = {}
        try:
            for _ in range(_ROUNDS):
                found = self._whereabouts([entry for entry in wanted if entry.number not in left], seen)
                if not found:
                    break
                for entry in wanted:
                    for key in found.get(entry.number, ()):
                        try:
                            self._files.unlink(self._mailbox / key)
                            touched.add(key.partition("/")[0])
                        except OSError as error:
                            self._tell(f"{entry.name} can't be removed: {error}")
                            left[entry.number] = entry
            else:
                left |= {entry.number: entry for entry in wanted if entry.number in found}
            for folder in touched:
                self._files.sync_dir(self._mailbox / folder)
        except OSError as error:
            self._tell(f"messages can't be removed: {error}")
            return wanted
        return list(left.values())

    @property
    def _cache(self) -> Cache:
        if self._cache_of_sizes is None:
            self._cache_of_sizes = Cache(self._mailbox, self._files)
        return self._cache_of_sizes

    def _drafts(self) -> list[_Draft]:
        found = mailbox_scan.scan(self._mailbox, self._tell)
        known = self._cache.facts
        drafts: list[_Draft] = []
        unread = 0
        with ExitStack() as opened:
            for folder, names in found.items():
                place: int | None = None
                for name in names:
                    base = base_of(name)
                    fact = known.get(octets_of(base)) if known else None
                    if fact is None:
                        size, when = sent_size(base), delivered_at(base)
                        if size is None or when is None:
                            if place is None:
                                place = opened.enter_context(mailbox_scan.folder_opened(self._mailbox / folder))
                            fact = self._fact(place, name, size, when)
                            if fact is None:
                                self._is_whole = False
                                continue
                            self._cache.learn(octets_of(base), fact)
                            unread += 1
                            if unread % _SAVE_EVERY == 0:
                                self.save()
                            if self._stop.is_set():
                                self.save()
                                raise Stopped("nobody waits for this mailbox any more")
                    if fact is not None:
                        size, when = fact
                    assert size is not None and when is not None
                    drafts.append((when, base, f"{folder}/{name}", size))
        return drafts

    def _fact(self, folder: int, name: str, size: int | None, when: int | None) -> Fact | None:
        """What a message's file says; None, and told, if it can't be read."""
        try:
            descriptor = mailbox_scan.open_at(folder, name)
            try:
                if size is None:
                    size = size_with_crlf(descriptor)
                if when is None:
                    when = max(0, os.fstat(descriptor).st_mtime_ns // 1000)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(f"{base_of(name)} can't be read, and isn't shown: {error}")
            return None
        return Fact(size, when)

    def _told_apart(self, drafts: list[_Draft], uids: list[str]) -> tuple[list[_Draft], list[str]]:
        """Drafts with unique ids, where some have the same or had it. One file with two names is one message."""
        together: dict[str, list[_Draft]] = {}
        for draft, uid in zip(drafts, uids, strict=True):
            together.setdefault(uid, []).append(draft)
        taken = {uid for uid, those in together.items() if len(those) == 1 and uid not in self._cache.doubles}
        chosen: dict[str, str] = {}  # key to unique id
        for uid, those in together.items():
            if uid in taken:
                chosen[those[0][2]] = uid
                continue
            files: dict[_Identity, tuple[_Draft, int]] = {}
            for draft in those:
                with suppress(OSError):
                    facts = self._facts_of(draft[2])
                    files.setdefault((facts.st_dev, facts.st_ino), (draft, facts.st_mtime_ns))
            if len(files) > 1:
                self._cache.learn_double(uid)
            for identity, (draft, changed) in files.items():
                name = uid
                if uid in self._cache.doubles:
                    more = f"/{identity[1]}/{changed}".encode()  # no name holds a slash
                    name = self._digest(octets_of(draft[1]) + more)
                    while name in taken:
                        more += b"/"
                        name = self._digest(octets_of(draft[1]) + more)
                taken.add(name)
                chosen[draft[2]] = name
                self._doubles[name] = identity
        drafts = [draft for draft in drafts if draft[2] in chosen]
        return drafts, [chosen[draft[2]] for draft in drafts]

    def _whereabouts(self, entries: Sequence[Entry], seen: dict[int, _Identity]) -> dict[int, list[str]]:
        """Where messages are now, by number: all names of the same file, none of another with the same base name.

        `seen` holds who they were when they were found first. Raises OSError.
        """
        wanted = {base_of(entry.key.partition("/")[2]) for entry in entries}
        names: dict[str, list[str]] = {}
        for folder, found in mailbox_scan.scan(self._mailbox, lambda _: None).items():
            for name in found:
                base = base_of(name)
                if base in wanted:
                    names.setdefault(base, []).append(f"{folder}/{name}")
        where: dict[int, list[str]] = {}
        for entry in entries:
            candidates: dict[_Identity, list[str]] = {}
            for key in names.get(base_of(entry.key.partition("/")[2]), ()):
                with suppress(OSError):
                    facts = self._facts_of(key)
                    candidates.setdefault((facts.st_dev, facts.st_ino), []).append(key)
            identity = seen.get(entry.number) or self._doubles.get(entry.uid)
            if identity is None:
                same = [one for one, keys in candidates.items() if entry.key in keys] or list(candidates)
                identity = same[0] if len(same) == 1 else None
            if identity in candidates:
                seen[entry.number] = identity
                where[entry.number] = candidates[identity]
        return where

    def _opened(self, key: str) -> Lines:
        folder, _, name = key.partition("/")
        with mailbox_scan.folder_opened(self._mailbox / folder) as place:
            descriptor = mailbox_scan.open_at(place, name)
        try:
            return Lines(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def _facts_of(self, key: str) -> os.stat_result:
        return (self._mailbox / key).lstat()
