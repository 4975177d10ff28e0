"""What a child process may use, and what it gives up: limits set from outside, privileges given up from inside.

Limits are the kernel's (`prlimit`, Linux), so that no host has to be trusted to set its own; elsewhere there are none.
A host calls `confine_self` before it loads anything: what it gives up then it can't take back.

Somebody's program can't be asked to, so other words begin it (`confining`): they limit themselves, give everything up,
and become it. Those are util-linux's, which begin in a millisecond, or this very file, where there are none.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from signal import SIGKILL

try:
    import resource
except ImportError:  # pragma: no cover  a system without them
    resource = None  # type: ignore[assignment]

MIB = 1024 * 1024
NICENESS = 5
"""Of plugins' processes: a third of the house's weight where both want a processor. More costs their answers dear."""
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
    processes: int | None = None
    """Of its user, all told: processes and threads. Root's aren't counted."""


def limit(pid: int, limits: Limits) -> None:
    """Put a process that runs already under these limits. One that is gone is let be."""
    if resource is None or not hasattr(resource, "prlimit"):
        return
    with suppress(ProcessLookupError):
        for what, most in _wanted(limits).items():
            allowed = _at_most(most, resource.prlimit(pid, what)[1])
            resource.prlimit(pid, what, (allowed, allowed))


def confining(limits: Limits) -> tuple[str, ...]:
    """The words before a command with which it begins under these limits, without a way to new privileges, and to
    die with the thread that started it. They exit with 126 or 127 if the command can't be begun.
    """
    if resource is None:
        return ()
    own = {what: _at_most(most, resource.getrlimit(what)[1]) for what, most in _wanted(limits).items()}
    tools = _tools()
    if tools is None:
        settings = ",".join(f"{what}={most}" for what, most in own.items())
        return (sys.executable, "-I", "-S", __file__, str(os.getpid()), settings)
    prlimit, setpriv = tools
    names = {
        resource.RLIMIT_CORE: "core",
        resource.RLIMIT_AS: "as",
        resource.RLIMIT_CPU: "cpu",
        resource.RLIMIT_NOFILE: "nofile",
        resource.RLIMIT_FSIZE: "fsize",
        resource.RLIMIT_NPROC: "nproc",
    }
    return (
        prlimit,
        *(f"--{names[what]}={most}:{most}" for what, most in own.items()),
        setpriv,
        "--no-new-privs",
        "--pdeathsig=KILL",
        "--",
    )


@lru_cache(maxsize=1)
def _tools() -> tuple[str, str] | None:
    """util-linux's, and not the smaller ones of the same name."""
    prlimit, setpriv = shutil.which("prlimit"), shutil.which("setpriv")
    if prlimit is None or setpriv is None or Path(setpriv).resolve().name == "busybox":
        return None
    return prlimit, setpriv


def _wanted(limits: Limits) -> dict[int, int]:
    """The kernel's numbers of the limits that are asked for."""
    assert resource is not None
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: limits.address_space,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NPROC: limits.processes,
    }
    return {what: most for what, most in wanted.items() if most is not None}


def _at_most(most: int, hard: int) -> int:
    """Never more than the house itself may have."""
    return most if resource is None or hard == resource.RLIM_INFINITY else min(most, hard)


def confine_self() -> None:
    """Give up new privileges, die with the parent, stand back behind the house. As far as there is a way.

    The parent is the thread that started this process; it lives as long as the house's loop.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        prctl(_PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
    stand_back(os.getpid())


def stand_back(pid: int) -> None:
    """Where memory is short, this process ends before the house does; where processors are, the house has more."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500", "ascii")
    with suppress(OSError, AttributeError):
        if os.getpriority(os.PRIO_PROCESS, pid) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


def _become(words: list[str]) -> None:
    """What `confining` without tools comes to: parent, limits, then the command."""
    parent, settings, *command = words
    for setting in settings.split(","):
        what, _, most = setting.partition("=")
        if resource is not None:
            resource.setrlimit(int(what), (int(most), int(most)))
    confine_self()
    if sys.platform == "linux" and os.getppid() != int(parent):
        os.kill(os.getpid(), SIGKILL)  # it has died in the meantime
    try:
        os.execv(command[0], command)  # noqa: S606  there is to be no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]} can't be begun: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    _become(sys.argv[1:])
