"""What a child process may use, and what it gives up: limits set from outside, privileges given up from inside.

Limits are the kernel's (`prlimit`, Linux), so that no host has to be trusted to set its own; elsewhere there are none.
A host calls `confine_self` before it loads anything: what it gives up then it can't take back.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

try:
    import resource
except ImportError:  # pragma: no cover  a system without them
    resource = None  # type: ignore[assignment]

MIB = 1024 * 1024
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one child process; None: the system's own. A core is never written."""

    address_space: int | None = 2048 * MIB
    """Octets. Every thread takes about 72 MiB of them, used or not."""
    cpu_s: int | None = None
    """Seconds of CPU over its whole life."""
    open_files: int | None = 256
    file_size: int | None = 1024 * MIB
    """Octets of the largest file it may write."""


def limit(pid: int, limits: Limits) -> None:
    """Put a process that runs already under these limits. One that is gone is let be."""
    if resource is None or not hasattr(resource, "prlimit"):
        return
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: limits.address_space,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_size,
    }
    with suppress(ProcessLookupError):
        for what, most in wanted.items():
            if most is None:
                continue
            hard = resource.prlimit(pid, what)[1]
            if hard != resource.RLIM_INFINITY:
                most = min(most, hard)  # noqa: PLW2901  never more than the house itself may have
            resource.prlimit(pid, what, (most, most))


def confine_self() -> None:
    """Give up new privileges, die with the parent, be the first to go when memory is short. As far as there is a way.

    The parent is the thread that started this process; it lives as long as the house's loop.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        prctl(_PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
