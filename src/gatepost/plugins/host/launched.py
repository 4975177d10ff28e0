"""Children that run as another user: the house's side of the launcher, which alone can become one.

A server that was started as root has a launcher from before it left that behind; its workers hold a door of it each.
`Starters` says who starts a plugin's processes: we ourselves, or the launcher, or nobody, and why. Nothing here waits
for the launcher: a child's pid is known later than the child, and what can't be begun ends with status 127 and words on
its standard error.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gatepost.plugins.host import launcher
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.launching import DIRECTLY, Command, Starter
from gatepost.plugins.loaded import PluginError

try:
    import pwd
except ImportError:  # pragma: no cover  a system without users of that kind
    pwd = None  # type: ignore[assignment]

_CANT_BEGIN = 127
_LEAVES_S = 5.0  # for the launcher, once its doors are closed


@dataclass(frozen=True, slots=True)
class Account:
    """A user that plugins may run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def accounts(names: Iterable[str]) -> list[Account]:
    """Those of the names that are users, and not root."""
    found: list[Account] = []
    for name in dict.fromkeys(names):
        with suppress(KeyError):
            if pwd is not None and (entry := pwd.getpwnam(name)).pw_uid != 0:
                groups = tuple(os.getgrouplist(name, entry.pw_gid))
                found.append(Account(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir))
    return found


class Launcher:
    """A launcher that we have begun. It ends when nobody has a door any more."""

    def __init__(self, accounts: Iterable[Account], doors: int = 1) -> None:
        """As root, for these users; with so many doors. OSError where that can't be."""
        self.accounts = tuple(accounts)
        self.doors: list[socket.socket] = []
        theirs: list[socket.socket] = []
        try:
            for _ in range(doors):
                ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.doors.append(ours)
                theirs.append(end)
            ends = [end.fileno() for end in theirs]
            told = json.dumps({one.name: [one.uid, one.gid, one.groups] for one in self.accounts})
            self.process = subprocess.Popen(  # noqa: S603  our own
                (sys.executable, "-I", "-S", "-X", "utf8", launcher.__file__, told, *map(str, ends)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
                pass_fds=ends,
                start_new_session=True,
            )
        except BaseException:
            self._close_doors()
            raise
        finally:
            for end in theirs:
                end.close()

    def close(self) -> None:
        """Close our doors; wait for it if it was only us who had any."""
        self._close_doors()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_LEAVES_S)

    def _close_doors(self) -> None:
        while self.doors:
            self.doors.pop().close()


class Starters:
    """Who can start a plugin's processes, by the user they are to run as. Closed once, after the last of them."""

    def __init__(self, door: socket.socket | None = None, accounts: Iterable[Account] = ()) -> None:
        """With a door to a launcher that may start programs as these users. Without: root begins one when it has to."""
        self._doors = {} if door is None else dict.fromkeys((one.name for one in accounts), door)
        self._accounts = {one.name: one for one in accounts}
        self._has_door = door is not None
        self._own: list[Launcher] = []

    def of(self, user: str | None) -> Starter:
        """Who starts programs as this user; None: as whoever the house is. PluginError if nobody can."""
        if user is None:
            return DIRECTLY
        account = self._accounts.get(user) or self._found(user)
        if account.uid == os.geteuid():
            return DIRECTLY
        if (door := self._doors.get(user)) is not None:
            return Launched(door, account)
        if self._has_door:
            raise PluginError(f'user = "{user}" is new; whom plugins may run as is fixed when the server is started')
        if os.geteuid() != 0:
            raise PluginError(
                f'only a server started as root can run a plugin as "{user}"; start it again, as root with run_as, '
                "or take user away"
            )
        try:
            begun = Launcher([account])
        except OSError as error:
            raise PluginError(f'nobody can run a plugin as "{user}": {error}') from error
        self._own.append(begun)
        self._accounts[user] = account
        self._doors[user] = begun.doors[0]
        return Launched(begun.doors[0], account)

    def close(self) -> None:
        """No plugin is started any more."""
        for one in {id(door): door for door in self._doors.values()}.values():
            one.close()
        self._doors.clear()
        while self._own:
            self._own.pop().close()

    @staticmethod
    def _found(user: str) -> Account:
        if pwd is None:
            raise PluginError("this system can't run a plugin as another user; take user away")
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise PluginError(f'there is no user "{user}"') from None
        if entry.pw_uid == 0:
            raise PluginError(f'no plugin is run as "{user}": give it a user of its own')
        return (accounts([user]) or [Account(user, entry.pw_uid, entry.pw_gid, (), entry.pw_dir)])[0]


@dataclass(frozen=True, slots=True)
class Launched:
    """Starts children through the launcher, as one user."""

    door: socket.socket
    account: Account
    home: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        name = self.account.name
        object.__setattr__(self, "home", {"HOME": self.account.home, "USER": name, "LOGNAME": name})

    @property
    def group(self) -> int:
        """The group that the house's files for them are shared with."""
        return self.account.gid

    def host(self, command: Command, limits: Limits) -> LaunchedProcess:
        """A host. OSError where the launcher can't be asked."""
        return LaunchedProcess(self, command, limits)

    def program(self, command: Command, limits: Limits, stdin: int) -> LaunchedProgram:
        """A program that runs once; `stdin` stays the caller's. OSError as above."""
        return LaunchedProgram(self, command, limits, stdin)

    async def remove(self, folder: Path) -> None:
        """What its programs have left in a folder of the house's, where only they may remove it."""
        if not folder.exists():  # noqa: ASYNC240  it almost never does
            return
        command = Command((shutil.which("rm") or "/bin/rm", "-rf", "--", str(folder)), {"PATH": os.defpath})
        with suppress(OSError), open(os.devnull, "rb") as nothing:  # noqa: PTH123, ASYNC230  asks no disk
            program = self.program(command, Limits(), nothing.fileno())
            try:
                await asyncio.wait({program.died})
            finally:
                program.reap()
                os.close(program.output)
                os.close(program.errors)
        await asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, folder, True)

    def ask(self, command: Command, limits: Limits, passed: tuple[int, ...]) -> None:
        """Send the request. OSError if the launcher isn't there, is too busy, or the command is too large."""
        environment = os.environ if command.environment is None else command.environment
        request = {
            "user": self.account.name,
            "arguments": [_absolute(command.arguments[0]), *command.arguments[1:]],
            "environment": dict(environment),
            "folder": os.path.abspath(command.folder or "/"),  # noqa: PTH100  asks no disk
            "limits": _words(limits),
        }
        data = json.dumps(request).encode()
        if len(data) > launcher.REQUEST:
            raise OSError(f"a command of {len(data)} octets; the launcher takes {launcher.REQUEST}")
        descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))]
        try:
            self.door.sendmsg([data], descriptors, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError as error:
            raise OSError(error.errno, "the launcher is too busy") from error
        except (BrokenPipeError, ConnectionError) as error:
            raise OSError(error.errno, "the launcher has ended; restart the server") from error


class _Child:
    """A child that is the launcher's. `exited` is done once, when nothing of it is left or we can't know any more."""

    def __init__(self, by: Launched, command: Command, limits: Limits, passed: tuple[int, int, int]) -> None:
        """`passed`: its 0, 1 and 2. OSError."""
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        """The exit status; negative: the signal that ended it."""
        self.pid = 0
        """0 until the launcher has told."""
        self._status: int | None = None
        self._words: int | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                by.ask(command, limits, (*passed, theirs.fileno()))
                self._words = os.dup(passed[2])
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._control = ours
        self._loop.add_reader(ours.fileno(), self._hear)

    def kill(self) -> None:
        """The child and whatever it has started. Nothing happens if it has ended."""
        if not self.exited.done():
            with suppress(OSError):
                self._control.send(b"end", socket.MSG_NOSIGNAL)

    def _hear(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            # the launcher has ended without a word, and with it, by signal, what it has started
            self._gone(-int(signal.SIGKILL) if self._status is None else self._status)
            return
        said: dict[str, Any] = json.loads(data)
        match said:
            case {"pid": int(pid)}:
                self.pid = pid
                self._close_words()
            case {"refused": str(text)}:
                self._status = _CANT_BEGIN
                if self._words is not None:
                    with suppress(OSError):
                        os.write(self._words, f"the launcher refuses: {text}\n".encode())
            case {"died": int(status)}:
                self._status = status
                self._died()

    def _died(self) -> None:
        """It waits to be buried."""
        self.kill()

    def _gone(self, status: int) -> None:
        """Nothing of it is left."""
        if not self.exited.done():
            self.exited.set_result(status)

    def _hang_up(self) -> None:
        """Which ends the child too."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        self._close_words()

    def _close_words(self) -> None:
        if self._words is not None:
            os.close(self._words)
            self._words = None


class LaunchedProcess(_Child):
    """A host, like `launching.Process`."""

    def __init__(self, by: Launched, command: Command, limits: Limits) -> None:
        """Starts it, within a running loop. OSError where that can't be."""
        self.channel, theirs = socket.socketpair()
        self.errors, writing = os.pipe()
        try:
            super().__init__(by, command, limits, (theirs.fileno(), theirs.fileno(), writing))
        except BaseException:
            self.channel.close()
            os.close(self.errors)
            raise
        finally:
            theirs.close()
            os.close(writing)
        self.channel.setblocking(False)


class LaunchedProgram(_Child):
    """A program that runs once, like `launching.Program`."""

    def __init__(self, by: Launched, command: Command, limits: Limits, stdin: int) -> None:
        """Starts it, within a running loop; `stdin` stays the caller's. OSError where that can't be."""
        self.output, writing = os.pipe()
        self.errors, complaining = os.pipe()
        try:
            super().__init__(by, command, limits, (stdin, writing, complaining))
        except BaseException:
            os.close(self.output)
            os.close(self.errors)
            raise
        finally:
            os.close(writing)
            os.close(complaining)
        self.died: asyncio.Future[None] = self._loop.create_future()
        """It has ended; what it has started perhaps not."""

    def reap(self) -> int:
        """Of a dead child: its exit status. Its group is being ended."""
        if not self.exited.done():
            assert self._status is not None
            self._hang_up()
            self.exited.set_result(self._status)
        return self.exited.result()

    def _died(self) -> None:
        if not self.died.done():
            self.died.set_result(None)

    def _gone(self, status: int) -> None:
        self._status = status
        self._died()


def _absolute(program: str) -> str:
    """The program's path, looked for as we would. FileNotFoundError."""
    found = program if "/" in program else shutil.which(program)
    if found is None:
        raise FileNotFoundError(2, "there is no such program", program)
    return os.path.abspath(found)  # noqa: PTH100  asks no disk


def _words(limits: Limits) -> dict[str, int]:
    """The limits as the launcher calls them."""
    wanted = {
        "as": limits.address_space,
        "cpu": limits.cpu_s,
        "nofile": limits.open_files,
        "fsize": limits.file_size,
        "nproc": limits.processes,
    }
    return {name: most for name, most in wanted.items() if most is not None}


def plain(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """Accounts for another process of ours; `rebuilt` takes them back."""
    return [asdict(one) for one in accounts]


def rebuilt(told: Iterable[Mapping[str, Any]]) -> list[Account]:
    """What `plain` made."""
    return [Account(**{**one, "groups": tuple(one["groups"])}) for one in told]


__all__ = ["Account", "Launched", "Launcher", "Starters", "accounts", "plain", "rebuilt"]
