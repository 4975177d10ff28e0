"""A native plugin that is asked while the server reloads or stops: the question is answered by whom it was asked of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from house.server_process import ServerProcess, eventually
from programs import program

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(120)]
WAITS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* At end-of-data it tells its pid in FOLDER/pid, and returns once there is FOLDER/go. */
long Execute(char *configuration, char *response) {
    char path[1000];
    if (strstr(configuration, ">DATAEND<") == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/pid.new", getenv("FOLDER"));
    FILE *file = fopen(path, "w");
    fprintf(file, "%d", (int)getpid());
    fclose(file);
    char there[1000];
    snprintf(there, sizeof there, "%s/pid", getenv("FOLDER"));
    rename(path, there);
    snprintf(path, sizeof path, "%s/go", getenv("FOLDER"));
    while (access(path, F_OK) != 0)
        usleep(2000);
    sprintf(response, "250 said by %s", getenv("WHO"));
    return 1;
}
"""
SETTINGS = """
hostname = "mx.test"
data = "data"
workers = 1
listen = [{{ name = "mx", address = "127.0.0.1:0" }}]
route = [{{ match = "*@example.org", deliver = "discard" }}]

[[plugin]]
name = "waits"
source = "waits.so"
env = {{ WHO = "{who}", FOLDER = "{folder}" }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "waits.c").write_text(WAITS)
    flags = ["-shared", "-fPIC", "-w", "-o", str(tmp_path / "waits.so")]
    subprocess.run([program("cc"), *flags, str(tmp_path / "waits.c")], check=True)
    write_settings(tmp_path, "the old one")
    return tmp_path


def write_settings(folder: Path, who: str) -> None:
    (folder / "gatepost.toml").write_text(SETTINGS.format(who=who, folder=folder))


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_question_that_is_open_at_a_reload_is_answered_by_the_old_plugin(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        first = server.connect()
        first.begin_message("ann@example.org")
        first.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        old = int(eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))
        write_settings(folder, "the new one")
        assert "generation 2" in server.ask("reload").stdout
        (folder / "pid").unlink()
        second = server.connect()
        second.begin_message("ann@example.org")
        second.send(b"Subject: y\r\n\r\nbody\r\n.\r\n")
        new = int(eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))
        assert new != old
        assert is_there(old)
        (folder / "go").touch()
        assert "said by the old one" in first.reply()
        assert "said by the new one" in second.reply()
        assert first.say("QUIT").startswith("221")
        eventually(lambda: not is_there(old))
        assert is_there(new)
        assert server.stop() == 0
        assert not is_there(new)


def test_a_question_that_is_open_when_the_server_stops_is_answered(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        client = server.connect()
        client.begin_message("ann@example.org")
        client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        pid = int(eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))
        server.process.terminate()
        eventually(lambda: "going down" in server.log)
        (folder / "go").touch()
        assert client.reply().startswith("250 2.0.0 said by the old one, ")
        assert server.process.wait(30) == 0
        assert not is_there(pid)
