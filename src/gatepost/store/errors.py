"""What can go wrong where mail rests: two words for reception to turn into replies, and the way from errno to them."""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolError(Exception):
    """The spool couldn't do what was asked; nothing of it was done."""


class SpoolFull(SpoolError):
    """No room: disk or quota is full. The sender may come back (452 4.3.1)."""


class SpoolFailure(SpoolError):
    """The disk failed, or the spool is closed. The sender may come back (451 4.3.0)."""


class ShardBusy(SpoolError):
    """Another process owns the shard: its lock is held."""


class UnknownEntry(SpoolError):
    """There is no entry with that id (any more)."""


def spool_error(error: OSError) -> SpoolError:
    """The spool's word for an operating system's error."""
    kind = SpoolFull if error.errno in _FULL else SpoolFailure
    return kind(str(error))
