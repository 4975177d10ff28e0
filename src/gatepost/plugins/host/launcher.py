"""The one process that stays root: it starts programs as the users it was told of at its start, and ends them.

Run as a file, `python -I -S launcher.py USERS DOOR…`, so that nothing but the standard library is ever root. It trusts
nobody: whoever holds a door may have programs run as those users, and no more.

A request is one packet at a door: a JSON object of at most 64 KiB with `user`, `arguments`, `environment`, `folder` and
`limits`, and four descriptors beside it: the program's 0, 1 and 2, and a control socket. On that we say `{"pid": …}` or
`{"refused": …}`, and `{"died": status}` (negative: the signal) when it has ended. Whatever is said to us there, and its
end, means: end it. Then its group is killed, and all that descends from it; its socket closes when it is reaped.

What it starts is in a session of its own, and bears a mark that its descendants inherit and can't take off: a hard
limit of real-time CPU (RLIMIT_RTTIME) that no other has. Those who leave the group are known by it once their parents
have died, since orphans come to us (PR_SET_CHILD_SUBREAPER). Not reached: what a descendant asks other services of the
system to start for it; and who has left its group, once this process was killed itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from array import array
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

REQUEST = 64 * 1024
"""Octets of a request."""
MOST = 1000
"""Programs that run at a time."""
PASSED = 4
"""Descriptors of a request: 0, 1, 2, control."""

_WORDS = {
    "as": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "nofile": resource.RLIMIT_NOFILE,
    "fsize": resource.RLIMIT_FSIZE,
    "nproc": resource.RLIMIT_NPROC,
}
_NICENESS = 5  # as confinement has it, which would import too much
_MARK = getattr(resource, "RLIMIT_RTTIME", None)
_FIRST_MARK = 1 << 40  # microseconds: twelve days, so that it limits nobody
_LARGEST = 1 << 62
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL, _SUBREAPER = 38, 1, 36  # PR_SET_…
_LOOKS = 5  # after an end: orphans may come to us a moment later
_LOOK_MS = 50
_GRACE_LOOKS = 40  # at our own end
_COMPLAINTS = 50  # lines on standard error in a life
_CONFIGURATION = 78


class Refused(ValueError):
    """The request can't be granted; the text says why, and quotes little of it."""


class Account(NamedTuple):
    """A user that programs may run as."""

    uid: int
    gid: int
    groups: list[int]


class Order(NamedTuple):
    """What a request asks for."""

    user: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    limits: dict[str, int]


def read_order(data: bytes) -> Order:
    """A request's packet, checked. Refused."""
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("the request is no JSON") from None
    if not isinstance(asked, dict) or set(asked) != set(Order._fields):
        raise Refused("the request is no object of user, arguments, environment, folder and limits")
    order = Order(**asked)
    if not _is_text(order.user) or not _is_text(order.folder) or not order.folder.startswith("/"):
        raise Refused("user is no name, or folder no absolute path")
    if not isinstance(order.arguments, list) or not all(map(_is_text, order.arguments)):
        raise Refused("arguments are no list of texts")
    if not order.arguments or not order.arguments[0].startswith("/"):
        raise Refused("the first of arguments is no absolute path")
    environment = order.environment
    if not isinstance(environment, dict) or not all(map(_is_text, environment.values())):
        raise Refused("environment is no object of texts")
    if not all(name and _is_text(name) and "=" not in name for name in environment):
        raise Refused("environment has a variable that can't be one")
    if not isinstance(order.limits, dict) or not set(order.limits) <= set(_WORDS):
        raise Refused("limits are no object of known limits")
    if not all(type(most) is int and 0 <= most < _LARGEST for most in order.limits.values()):
        raise Refused("a limit is no number that can be one")
    return order


def _is_text(thing: Any) -> bool:
    """Whether it can go to the kernel."""
    if not isinstance(thing, str) or "\0" in thing:
        return False
    try:
        os.fsencode(thing)
    except UnicodeError:
        return False
    return True


def read_accounts(text: str) -> dict[str, Account]:
    """USERS: a JSON object, from a name to its uid, gid and groups. ValueError if it isn't, or one of them is root."""
    told = json.loads(text)
    accounts = {
        name: Account(int(uid), int(gid), [int(one) for one in groups]) for name, (uid, gid, groups) in told.items()
    }
    for name, account in accounts.items():
        if account.uid <= 0 or account.gid < 0:
            raise ValueError(f"nothing is run as {name!r}, whose uid is {account.uid}")
    return accounts


class _Child:
    """A program that was started. Its pid is ours until it is reaped, and so is the number of its group."""

    __slots__ = ("control", "is_doomed", "mark", "pid", "status")

    def __init__(self, pid: int, mark: int, control: socket.socket) -> None:
        self.pid = pid
        self.mark = mark
        self.control = control
        self.status: int | None = None
        self.is_doomed = False


class Launcher:
    """Invariant: whatever it has started lives only as long as its control socket, and a door, are open."""

    def __init__(self, accounts: dict[str, Account], doors: list[socket.socket]) -> None:
        self._accounts = accounts
        self._doors = {door.fileno(): door for door in doors}
        self._children: dict[int, _Child] = {}
        self._controls: dict[int, _Child] = {}
        self._pid = os.getpid()
        self._count = 0
        self._complaints = 0
        self._looks = 0
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._prctl(_SUBREAPER, 1, 0, 0, 0)
        self._wake, waker = socket.socketpair()
        self._waker = waker
        for end in (self._wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        for fd in (self._wake.fileno(), *self._doors):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        """Until the last door is closed; nothing is left of what was started then."""
        while self._doors:
            self._turn()
        for child in [*self._children.values()]:
            self._doom(child)
        for _ in range(_GRACE_LOOKS):
            if not self._children and not self._orphans():
                return
            self._looks = 1
            self._turn()

    def _turn(self) -> None:
        is_due = self._looks > 0
        for fd, events in self._poll.poll(_LOOK_MS if is_due else None):
            if (door := self._doors.get(fd)) is not None:
                self._knock(door, events)
            elif (child := self._controls.get(fd)) is not None:
                self._hear(child)
            else:
                is_due = True
                with suppress(BlockingIOError):
                    self._wake.recv(4096)
        if is_due:
            self._looks = max(0, self._looks - 1)
            self._look()

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _knock(self, door: socket.socket, events: int) -> None:
        try:
            room = socket.CMSG_SPACE(2 * PASSED * array("i").itemsize)
            data, beside, flags, _ = door.recvmsg(REQUEST, room, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            self._shut(door)
            return
        passed = array("i")
        for level, kind, octets in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed.frombytes(octets[: len(octets) - len(octets) % passed.itemsize])
        if not data and not passed:
            if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):  # else it is only an empty packet
                self._shut(door)
            return
        self._answer(data, list(passed), is_cut=bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))

    def _answer(self, data: bytes, passed: list[int], *, is_cut: bool) -> None:
        """Grant the request or refuse it. No descriptor of it stays open here but the control socket of a program."""
        control: socket.socket | None = None
        try:
            if len(passed) == PASSED and (control := _control(passed[-1])) is not None:
                passed.pop()
            if is_cut or control is None:
                raise Refused("the request is too large, or doesn't bring four descriptors, a control socket the last")
            child = self._start(read_order(data), passed, control)
            self._children[child.pid] = self._controls[control.fileno()] = child
            self._poll.register(control.fileno(), select.POLLIN)
            _say(control, {"pid": child.pid})
        except Refused as refusal:
            if control is not None:
                _say(control, {"refused": str(refusal)})
                control.close()
            self._complain(str(refusal))
        except Exception as error:  # noqa: BLE001  one request must not cost all programs of all workers
            if control is not None and control.fileno() not in self._controls:
                control.close()
            self._complain(f"{type(error).__name__}: {error}")
        finally:
            for fd in passed:
                os.close(fd)

    def _start(self, order: Order, passed: list[int], control: socket.socket) -> _Child:
        account = self._accounts.get(order.user)
        if account is None or account.uid == 0:
            raise Refused("that user isn't one that programs may run as")
        if len(self._children) >= MOST:
            raise Refused(f"{MOST} programs run already")
        self._count += 1
        mark = _FIRST_MARK + self._count
        try:
            pid = os.fork()
        except OSError as error:
            raise Refused(f"there can't be another process: {error.strerror}") from error
        if pid == 0:
            self._become(order, account, passed, mark)
        return _Child(pid, mark, control)

    def _become(self, order: Order, account: Account, passed: list[int], mark: int) -> NoReturn:
        """In the new process: lose everything, then be the program. What stands in the way is said on its 2."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (
                signal.SIGCHLD,
                signal.SIGINT,
                signal.SIGTERM,
                signal.SIGHUP,
                signal.SIGPIPE,
                signal.SIGXFSZ,
            ):
                signal.signal(number, signal.SIG_DFL)
            for target, fd in enumerate(passed):  # all above 2, since ours stay open
                os.dup2(fd, target)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("500")
            os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
            _limit({_WORDS[name]: most for name, most in order.limits.items()} | {resource.RLIMIT_CORE: 0})
            if _MARK is not None:
                _limit({_MARK: mark})
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            if set(os.getresuid()) != {account.uid} or set(os.getresgid()) != {account.gid}:
                raise PermissionError(1, "the system doesn't let us be another user")
            if self._prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
                raise PermissionError(1, "the system doesn't let us forgo privileges")
            self._prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)  # which the change of user takes away
            if os.getppid() == self._pid:
                os.umask(0o007)  # what it writes for the house is the group's too
                os.chdir(order.folder)
                os.execve(order.arguments[0], order.arguments, order.environment)  # noqa: S606  no shell is wanted
        except BaseException as error:  # noqa: BLE001  nothing of us may go on in this process
            why = getattr(error, "strerror", None) or type(error).__name__
            with suppress(BaseException):
                os.write(2, os.fsencode(f"{order.arguments[0]} can't be begun: {why}\n"))
        finally:
            os._exit(127)

    def _shut(self, door: socket.socket) -> None:
        self._poll.unregister(door.fileno())
        del self._doors[door.fileno()]
        door.close()

    def _complain(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= _COMPLAINTS:
            with suppress(OSError):
                os.write(2, f"launcher: refused: {text}\n".encode())

    # ── ends ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, child: _Child) -> None:
        """It is to end, whatever is said; nothing said any more, and it needn't be told."""
        with suppress(BlockingIOError):
            try:
                is_over = not child.control.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                raise
            except OSError:
                is_over = True
            if is_over:
                self._hang_up(child)
            self._doom(child)

    def _doom(self, child: _Child) -> None:
        if not child.is_doomed:
            child.is_doomed = True
            self._kill(child)
        if child.status is not None:
            self._bury(child)

    def _kill(self, child: _Child) -> None:
        for kill in (os.kill, os.killpg):  # it may not have a group yet
            with suppress(ProcessLookupError):
                kill(child.pid, signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        """A dead child: its group goes, then it does."""
        self._kill(child)
        os.waitpid(child.pid, 0)
        del self._children[child.pid]
        self._hang_up(child)
        self._looks = _LOOKS

    def _hang_up(self, child: _Child) -> None:
        if self._controls.pop(child.control.fileno(), None) is not None:
            self._poll.unregister(child.control.fileno())
            child.control.close()

    def _look(self) -> None:
        """Who has died; and orphans whose program is over."""
        for child in [*self._children.values()]:
            if child.status is None and (found := os.waitid(os.P_PID, child.pid, _DEAD)) is not None:
                child.status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
                _say(child.control, {"died": child.status})
                if child.is_doomed:
                    self._bury(child)
        living = {child.mark for child in self._children.values() if not child.is_doomed}
        for pid in self._orphans():
            if _mark_of(pid) not in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # the number is its own until we have reaped it

    def _orphans(self) -> list[int]:
        """Processes that came to us when their parents had died, and live; the dead ones are reaped."""
        return [pid for pid in _own_children(self._pid) if pid not in self._children and _lives(pid)]


_DEAD = os.WEXITED | os.WNOHANG | os.WNOWAIT


def _lives(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _own_children(own: int) -> list[int]:
    """The processes whose parent we are, as far as the system tells."""
    with suppress(OSError), open(f"/proc/self/task/{own}/children", "rb") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{int(name) if name.isdigit() else 0}/stat", "rb") as file:  # noqa: PTH123
                if int(file.read().rpartition(b")")[2].split()[1]) == own:
                    found.append(int(name))
    return found


def _mark_of(pid: int) -> int:
    """The mark that a process has inherited; 0 if it has none."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"Max realtime timeout"):
                return int(line.split()[4])
    return 0


def _limit(wanted: dict[int, int]) -> None:
    """Put this process under these limits, or its own where those are lower."""
    for what, most in wanted.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)  # noqa: PLW2901
        resource.setrlimit(what, (most, most))


def _control(fd: int) -> socket.socket | None:
    """The descriptor as a control socket, whose it is then; None if it is none."""
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        return None
    if found.family == socket.AF_UNIX and found.type == socket.SOCK_SEQPACKET:
        return found
    found.detach()
    return None


def _say(control: socket.socket, words: dict[str, Any]) -> None:
    """Nobody there to hear it is no harm, and nobody is waited for."""
    with suppress(OSError):
        control.send(json.dumps(words).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def main(arguments: list[str]) -> int:
    """The process. It is ended by closing its doors, not by signals, which reach the whole server at once."""
    try:
        accounts = read_accounts(arguments[0])
        doors = [socket.socket(fileno=int(fd)) for fd in arguments[1:]]
        for standard in (0, 1, 2):
            os.fstat(standard)
    except (ValueError, TypeError, IndexError, AttributeError, OSError) as error:
        sys.stderr.write(f"launcher: {error}\n")
        return _CONFIGURATION
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for door in doors:
        door.setblocking(False)
        os.set_inheritable(door.fileno(), False)
    os.chdir("/")
    os.umask(0o077)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("-900")  # without it no plugin can be started any more
    Launcher(accounts, doors).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
