"""Buffers that all connections of a thread share: each thread runs its own loop, and a buffer is filled and emptied
within one callback, so nobody sees another's octets.
"""

from __future__ import annotations

import threading

_local = threading.local()


def shared(purpose: str, octets: int) -> memoryview:
    """This thread's buffer for `purpose`, the same one at each call."""
    buffers: dict[str, memoryview] = _local.__dict__
    buffer = buffers.get(purpose)
    if buffer is None:
        buffer = buffers[purpose] = memoryview(bytearray(octets))
    return buffer
