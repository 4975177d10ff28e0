"""`gatepost run` as root: it drops its privileges, and a plugin runs as a user of its own all the same."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatepost
from house.server_process import LOOPBACK, ServerProcess, eventually, mail_in
from programs import MUST_BE_THERE, as_root

SERVER, PLUGIN = "daemon", "nobody"
SETTINGS = """
hostname = "mx.example.org"
run_as = "{server}"
workers = {workers}
data = "data"
[[listen]]
address = "{address}:0"
[[route]]
match = "*@example.org"
deliver = "maildir"
[[user]]
name = "ann@example.org"
[[plugin]]
name = "who"
dialect = "program"
source = "/bin/sh {folder}/who.sh"
user = "{plugin}"
timeout = "5s"
"""
WHO = """
echo "X-Who: $(id -u) $HOME"
cat
kill -0 $(cat FOLDER/server) 2>/dev/null && echo "it could end the server"
ls FOLDER/data >/dev/null 2>&1 && echo "it could read the spool"
grep -q "hang" FOLDER/hang && { sleep 1234 & setsid sleep 1234 & echo $$ >FOLDER/hung/$$; wait; }
exit 0
"""

pytestmark = [
    as_root,
    pytest.mark.timeout(120),
]


@functools.cache
def python() -> tuple[str, dict[str, str]]:
    """A Python of this version that other users may run, and the environment with which it finds gatepost."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [str(Path(gatepost.__file__).parents[1]), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PYTHONPATH": os.pathsep.join(places), "PATH": os.defpath}
    for candidate in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        words = [candidate, "-c", "import gatepost.app.worker"]
        try:
            subprocess.run(words, user=SERVER, env=environment, cwd="/", check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate, environment
    return "", {}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server's user and the plugin's may look in."""
    if not python()[0]:
        (pytest.fail if MUST_BE_THERE else pytest.skip)(f"there is no Python that {SERVER} may run")
    made = Path(tempfile.mkdtemp(prefix="launched-server-", dir="/tmp"))
    made.chmod(0o755)
    (made / "hung").mkdir()
    (made / "hung").chmod(0o777)
    (made / "hang").write_text("")
    try:
        yield made
    finally:
        shutil.rmtree(made)


def serving(folder: Path, workers: int) -> ServerProcess:
    words = {"server": SERVER, "plugin": PLUGIN, "address": LOOPBACK, "workers": workers, "folder": folder}
    (folder / "gatepost.toml").write_text(SETTINGS.format(**words))
    (folder / "who.sh").write_text(WHO.replace("FOLDER", str(folder)))
    interpreter, environment = python()
    return ServerProcess(folder, env=environment, command=[interpreter, "-m", "gatepost", "run"])


def send(server: ServerProcess) -> str:
    with server.connect() as client:
        client.begin_message("ann@example.org")
        return client.say(f"Subject: x\r\nMessage-ID: <{os.urandom(8).hex()}@x.example>\r\n\r\nx\r\n.")


def of_user(name: str) -> dict[int, bytes]:
    """The living processes of a user, and what they run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == pwd.getpwnam(name).pw_uid and (words := (entry / "cmdline").read_bytes()):
                    found[int(entry.name)] = words
            except OSError:
                continue
    return found


def launchers(server: ServerProcess) -> list[int]:
    """The launcher of that server: the one process that is root still."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and b"launcher.py" in (words := _words(entry))
        and _parent(entry) == server.process.pid
        and words
    ]


def _words(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def hanging(folder: Path) -> set[int]:
    """What the plugin's programs have become that hang: they, and what they have started."""
    leaders = {int(entry.name) for entry in (folder / "hung").iterdir()}
    sleeping = {process for process, words in of_user(PLUGIN).items() if words.startswith(b"sleep\x001234")}
    return leaders | sleeping


def are_gone(processes: set[int]) -> bool:
    return not processes & set(of_user(PLUGIN))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_plugin_has_its_own_user_though_the_server_is_root_no_more(folder: Path, workers: int) -> None:
    with serving(folder, workers) as server:
        (folder / "server").write_text(str(server.process.pid))
        assert send(server).startswith("250 ")
        (mail,) = eventually(lambda: mail_in(folder / "data"))
        who = pwd.getpwnam(PLUGIN)
        content = mail.read_text()
        assert f"X-Who: {who.pw_uid} {who.pw_dir}\n" in content.replace("\r\n", "\n")
        assert "it could" not in content
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert f"Uid:\t{pwd.getpwnam(SERVER).pw_uid}\t" in status
        (launcher,) = launchers(server)
        assert "Uid:\t0\t0\t0\t0\n" in Path(f"/proc/{launcher}/status").read_text()
        with (folder / "gatepost.toml").open("a") as settings:
            settings.write('[[plugin]]\nname = "more"\ndialect = "program"\nsource = "/bin/cat"\nuser = "bin"\n')
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "not reloaded" in server.log)
        assert "bin" in server.log and "is new; whom plugins may run as is fixed" in server.log
        assert send(server).startswith("250 "), "the settings before stay"
        assert server.stop() == 0
        assert not Path(f"/proc/{launcher}").exists()


def test_what_hangs_is_killed_at_its_deadline_and_with_its_worker_and_with_the_server(folder: Path) -> None:
    (folder / "hang").write_text("hang")
    with serving(folder, 2) as server:
        (folder / "server").write_text(str(server.process.pid))
        assert send(server).startswith("451 "), "at its deadline"
        eventually(lambda: are_gone(hanging(folder)))
        for victims in ("workers", "everybody"):
            before = {int(entry.name) for entry in (folder / "hung").iterdir()}
            with server.connect() as client:
                client.begin_message("ann@example.org")
                client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
                hung = eventually(lambda: len(found := hanging(folder) - before) >= 3 and found)  # noqa: B023
                (launcher,) = launchers(server)
                killed = [*server.workers().values()]
                if victims == "everybody":
                    server.process.kill()
                for worker in killed:
                    os.kill(worker, signal.SIGKILL)
                eventually(lambda: are_gone(hung))  # noqa: B023
                assert client.ends()
            if victims == "workers":
                eventually(lambda: len(server.workers()) == 2 and not set(killed) & set(server.workers().values()))  # noqa: B023
                eventually(lambda: server.log.count("is back") == 2)
        eventually(lambda: not Path(f"/proc/{launcher}").exists() or "Z" in _state(launcher))


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
