"""Plugins that run as a user of their own: what they may there, and how they end. Only root can start them so."""

import asyncio
import errno
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from gatepost.plugins.host import Backoff, Command, Limits
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.host.launched import Launcher, Starters, accounts
from gatepost.plugins.host.launching import DIRECTLY
from gatepost.plugins.host.scratch import Scratch
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.mailenable import load_mailenable
from gatepost.testing import try_plugin
from programs import as_root, program

HERE = Path(__file__).parent
AS_ROOT = os.geteuid() == 0
USER = "nobody"
ENVIRONMENT = {"PATH": os.defpath}


@pytest.fixture
def starters():
    made = Starters()
    yield made
    made.close()


@pytest.fixture
def public():
    """A folder that anybody can look into."""
    with tempfile.TemporaryDirectory(prefix="launcher-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Shell:
    """A shell script as a program of that user."""

    def __init__(self, starter, text, limits=Limits(), environment=ENVIRONMENT):  # noqa: B008
        nothing = os.open(os.devnull, os.O_RDONLY)
        self.running = starter.program(Command(("/bin/sh", "-c", text), environment), limits, nothing)
        os.close(nothing)
        self.output = os.fdopen(self.running.output, "rb", 0)
        self.errors = os.fdopen(self.running.errors, "rb", 0)

    async def line(self):
        """The next line of its output."""
        return (await asyncio.to_thread(self.output.readline)).decode().strip()

    async def end(self):
        """Its exit status, and the rest of what it has written; what it has started is being ended."""
        await asyncio.wait_for(asyncio.shield(self.running.died), 10)
        status = self.running.reap()
        written, words = await asyncio.to_thread(self.output.read), await asyncio.to_thread(self.errors.read)
        self.output.close()
        self.errors.close()
        return status, written.decode(), words.decode()


async def run(starter, text, **more):
    return await Shell(starter, text, **more).end()


async def gone(pid):
    """Wait until that process is no more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await asyncio.wait_for(over.wait(), 10)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ── who it is, and what it has ─────────────────────────────────────────────────────────────────────────────────────


@as_root
async def test_it_has_lost_everything_that_is_roots(starters):
    starter = starters.of(USER)
    who = pwd.getpwnam(USER)
    inherited = os.dup(2)
    os.set_inheritable(inherited, True)
    try:
        status, said, words = await run(
            starter,
            """
            echo $(id -u) $(id -ru) $(id -g) $(id -G); pwd; umask
            ls -m /proc/$$/fd; ps -o sid=,pgid=,pid= -p $$ | awk '{ print $1 == $3, $2 == $3 }'
            grep -E '^(NoNewPrivs|CapEff|CapPrm|SigIgn)' /proc/$$/status
            grep -E 'core|open files|address' /proc/$$/limits | awk '{ print $(NF-2), $(NF-1) }'
            cat /proc/$$/oom_score_adj; env | sort
            """,
            limits=Limits(address_space=512 * MIB, open_files=64),
            environment={"PATH": os.defpath, "MINE": "a b"},
        )
    finally:
        os.close(inherited)
    assert (status, words) == (0, "")
    first, folder, umask, descriptors, leads, *rest = said.splitlines()
    groups = " ".join(map(str, sorted(os.getgrouplist(USER, who.pw_gid))))
    assert first == f"{who.pw_uid} {who.pw_uid} {who.pw_gid} {groups}"
    assert (folder, umask, descriptors, leads) == ("/", "0007", "0, 1, 2", "1 1")
    flags = dict(line.split(":\t") for line in rest[:4])
    library_s = 0b11 << 31  # 32 and 33: the C library keeps them from everybody, so nobody can reset them
    assert not int(flags.pop("SigIgn"), 16) & ~library_s
    assert flags == {
        "CapPrm": "0000000000000000",
        "CapEff": "0000000000000000",
        "NoNewPrivs": "1",
    }
    assert rest[4:7] == ["0 0", "64 64", f"{512 * MIB} {512 * MIB}"]
    assert rest[7] == "500"
    assert {"MINE=a b", "PATH=" + os.defpath} <= set(rest[8:])
    assert not [line for line in rest[8:] if line.partition("=")[0] not in ("MINE", "PATH", "PWD", "SHLVL", "_")]


@as_root
@pytest.mark.needs("cc")
async def test_a_native_plugin_has_its_message_and_nothing_of_the_servers(starters, public):
    """It reads and rewrites its file; the spool and the server are out of its reach."""
    library, spool = public / "warden.so", public / "spool"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-o", str(library), str(HERE / "warden.c")], check=True)
    spool.mkdir(mode=0o700)
    (spool / "mail").write_text("private")
    env = {"SPOOL": f"{spool}/mail", "SERVER": str(os.getpid()), "PRIVATE": "1"}
    scratch = public / "scratch"
    scratch.mkdir(mode=0o755)
    for message in (b"Subject: x\r\n\r\nsmall\r\n", b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 6000):
        loaded = await load_mailenable(
            library, env=env, starter=starters.of(USER), scratch=scratch, processes=1, backoff=Backoff(0.05, 1.0)
        )
        story = await try_plugin(loaded, message=message)
        who = pwd.getpwnam(USER)
        header = f"X-Warden: uid {who.pw_uid}, home {who.pw_dir}, spool {errno.EACCES}, kill {errno.EPERM}\r\n"
        assert story.content is not None, story
        assert story.content.startswith(header.encode())
        assert story.content.endswith(message)
        await loaded.close()
    assert list(scratch.iterdir()) == [], "what only its user may remove is removed too"


@as_root
async def test_its_files_are_shared_with_its_group_only(starters, public):
    starter = starters.of(USER)
    scratch = Scratch(public, None, starter)
    try:
        found = scratch.folder.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o2770, os.geteuid(), starter.group)
        from gatepost.model import Bytes

        for path in (scratch.write_small(1, Bytes(b"one")), await scratch.write(2, Bytes(b"two"))):
            file = Path(path).stat()
            assert (file.st_mode & 0o7777, file.st_gid) == (0o660, starter.group)
        status, _, words = await run(starter, f"cd {scratch.folder} && echo more >> 1 && cat 1 2 > 3.new")
        assert (status, words) == (0, "")
        assert (scratch.folder / "3.new").stat().st_mode & 0o7777 == 0o660, "so that a house that isn't root reads it"
        assert (await scratch.take(3, "3.new", public / "taken")).read() == b"onemore\ntwo"
        status, _, words = await run(starters.of("daemon"), f"cat {scratch.folder}/1")
        assert status == 1
        assert "Permission denied" in words
        await run(starter, f"cd {scratch.folder}; umask 077; mkdir mine; touch mine/kept")
    finally:
        await scratch.remove()
    assert not scratch.folder.exists()


# ── how it ends ────────────────────────────────────────────────────────────────────────────────────────────────────

FAMILY = """
sleep 1000 & echo $!
setsid sh -c 'sleep 1000 & echo $!; echo $$; wait' &
setsid sh -c 'sleep 1000 & echo $!' &
wait %3; echo $$; wait
"""
"""A child in its group, a child and a grandchild in a group of their own, an orphan in one too, and itself."""


async def family(starter):
    shell = Shell(starter, FAMILY)
    pids = [int(await shell.line()) for _ in range(5)]
    assert all(map(is_there, pids)), "an orphan lives as long as its program"
    return shell, pids


@as_root
async def test_killed_it_takes_all_its_descendants_with_it(starters):
    starter = starters.of(USER)
    other, others = await family(starter)
    shell, pids = await family(starter)
    shell.running.kill()
    status, _, _ = await shell.end()
    assert status == -signal.SIGKILL
    for pid in pids:
        await gone(pid)
    assert all(map(is_there, others)), "the other program of that user keeps its own"
    other.running.kill()
    await other.end()
    for pid in others:
        await gone(pid)


@as_root
async def test_at_its_own_end_its_descendants_stay_until_it_is_reaped(starters):
    shell = Shell(starters.of(USER), "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; exit 3")
    pids = [int(await shell.line()) for _ in range(2)]
    await shell.running.died
    assert is_there(pids[0]), "which may be writing still"
    assert (await shell.end())[0] == 3
    for pid in pids:
        await gone(pid)


@as_root
async def test_a_host_that_hangs_is_killed_with_what_it_has_started(starters):
    command = Command(("/bin/sh", "-c", "sleep 1000 & echo $! >&2; read line; exit 7"), ENVIRONMENT)
    host = starters.of(USER).host(command, Limits())
    errors = os.fdopen(host.errors, "rb", 0)
    pid = int(await asyncio.to_thread(errors.readline))
    while not host.pid:
        await asyncio.sleep(0.01)
    assert is_there(host.pid)
    host.kill()
    assert await asyncio.wait_for(host.exited, 10) == -signal.SIGKILL
    await gone(pid)
    host.channel.close()
    errors.close()
    host = starters.of(USER).host(command, Limits())
    errors = os.fdopen(host.errors, "rb", 0)
    pid = int(await asyncio.to_thread(errors.readline))
    host.channel.send(b"go\n")
    assert await asyncio.wait_for(host.exited, 10) == 7, "nobody has to reap a host"
    await gone(pid)
    host.channel.close()
    errors.close()


WORKER = """
import asyncio, os, socket, sys
from gatepost.plugins.host import Command, Limits
from gatepost.plugins.host.launched import Starters, accounts
async def main():
    starter = Starters(socket.socket(fileno=int(sys.argv[1])), accounts([sys.argv[2]])).of(sys.argv[2])
    host = starter.host(Command(("/bin/sh", "-c", sys.argv[3]), {"PATH": os.defpath}), Limits())
    with os.fdopen(host.errors, "rb", 0) as errors:
        for _ in range(3):
            print((await asyncio.to_thread(errors.readline)).decode().strip(), flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@as_root
async def test_it_dies_with_its_worker_and_others_live_on(public):
    """The worker is killed outright; its door stays open in the process that starts the next one."""
    launcher = Launcher(accounts([USER, "daemon"]), doors=2)
    try:
        script = "sleep 1000 & echo $! >&2; setsid sleep 1000 & echo $! >&2; echo $$ >&2; wait"
        door = launcher.doors[0].fileno()
        worker = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(door), USER, script],
            pass_fds=[door], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with worker:
            assert worker.stdout is not None
            pids = [int(await asyncio.to_thread(worker.stdout.readline)) for _ in range(3)]
            other = Shell(Starters(launcher.doors[1], accounts([USER, "daemon"])).of("daemon"), "echo $$; sleep 1000")
            others = int(await other.line())
            worker.kill()
        for pid in pids:
            await gone(pid)
        assert is_there(others)
        again = Starters(launcher.doors[0], accounts([USER])).of(USER)
        assert (await run(again, "echo there"))[1] == "there\n", "the next worker has the same door"
        other.running.kill()
        await other.end()
    finally:
        launcher.close()
    assert launcher.process.returncode == 0


@as_root
async def test_with_the_last_door_everything_ends(starters):
    starter = starters.of(USER)
    shell, pids = await family(starter)
    starters.close()
    assert (await shell.end())[0] == -signal.SIGKILL
    for pid in pids:
        await gone(pid)
    with pytest.raises(OSError):
        await run(starter, "true")


@as_root
async def test_a_launcher_that_was_killed_takes_its_programs_with_it_and_says_so():
    launcher = Launcher(accounts([USER]))
    starter = Starters(launcher.doors[0], launcher.accounts).of(USER)
    shell = Shell(starter, "echo $$; exec sleep 1000")
    pid = int(await shell.line())
    launcher.process.kill()
    assert (await shell.end())[0] == -signal.SIGKILL
    await gone(pid)
    with pytest.raises(OSError, match="the launcher has ended; restart the server"):
        await run(starter, "true")
    launcher.close()


@as_root
async def test_signals_to_the_whole_server_leave_it_alone():
    launcher = Launcher(accounts([USER]))
    starter = Starters(launcher.doors[0], launcher.accounts).of(USER)
    assert (await run(starter, "echo up"))[1] == "up\n"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        launcher.process.send_signal(number)
    assert (await run(starter, "echo still up; kill -TERM $$"))[:2] == (-signal.SIGTERM, "still up\n")
    launcher.close()
    assert launcher.process.returncode == 0


# ── what can't be ──────────────────────────────────────────────────────────────────────────────────────────────────


@as_root
async def test_what_cant_be_begun_says_why(starters, public):
    starter = starters.of(USER)
    (public / "plain").write_text("x")
    for arguments, folder, words in (
        ((f"{public}/missing",), None, "missing can't be begun: No such file or directory"),
        ((f"{public}/plain",), None, "plain can't be begun: Permission denied"),
        (("/bin/true",), "/root", "/bin/true can't be begun: Permission denied"),
    ):
        with open(os.devnull, "rb") as nothing:
            running = starter.program(Command(arguments, ENVIRONMENT, folder), Limits(), nothing.fileno())
        await asyncio.wait_for(running.died, 10)
        assert running.reap() == 127
        with os.fdopen(running.errors, "rb") as errors:
            assert words in errors.read().decode()
        os.close(running.output)
    with pytest.raises(OSError, match="octets; the launcher takes"):
        await run(starter, "x" * 70_000)
    with pytest.raises(FileNotFoundError):
        starter.host(Command(("no-such-program-here",)), Limits())


async def test_who_cant_be_is_said_at_load(starters, monkeypatch):
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert starters.of(None) is DIRECTLY
    with pytest.raises(PluginError, match='there is no user "nobody-of-that-name"'):
        starters.of("nobody-of-that-name")
    with pytest.raises(PluginError, match='no plugin is run as "root": give it a user of its own'):
        starters.of("root")
    if own != "root":
        assert starters.of(own) is DIRECTLY
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(PluginError) as refusal:
        starters.of(USER)
    assert str(refusal.value) == (
        f'only a server started as root can run a plugin as "{USER}"; start it again, as root with run_as, or '
        "take user away"
    )


@as_root
async def test_whom_plugins_may_run_as_is_fixed_at_the_start():
    launcher = Launcher(accounts([USER]))
    with pytest.raises(PluginError, match='user = "daemon" is new'):
        Starters(launcher.doors[0], launcher.accounts).of("daemon")
    assert [one.name for one in accounts(["root", "nobody-of-that-name", USER, USER])] == [USER]
    launcher.close()
