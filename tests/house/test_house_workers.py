"""Several workers as real processes: killed, stuck, reloaded, counted together; nobody who waits is reset."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from house.server_process import LOOPBACK, Client, ServerProcess, eventually, mail_in

SETTINGS = """
hostname = "mx.example.org"
workers = 2
data = "data"
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "*@example.org"
deliver = "maildir"
[[route]]
match = "*@next.example"
deliver = "relay 127.0.0.1:{nobody}"
recipients = "any"
[[user]]
name = "ann@example.org"
[limits]
sessions = 60
"""
IMPATIENT = """
import asyncio, sys, time
from pathlib import Path
from gatepost.app.logs import configure
from gatepost.app.running import run
from gatepost.app.starting import Launch
from gatepost.app.supervisor import Supervisor
launch = Launch(Path(sys.argv[1]))
settings = launch.settings()
configure(settings.log)
def make(sockets, launcher):
    return Supervisor(launch, settings, sockets, 2, launcher, stuck_s=2.0)
sys.exit(asyncio.run(run(launch, settings, make, workers=2, watch=False, began=time.time())))
"""
CLIENTS = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        nobody = held.getsockname()[1]
    (tmp_path / "gatepost.toml").write_text(SETTINGS.format(nobody=nobody))
    return tmp_path


def add(folder: Path, plugin: str, code: str) -> None:
    (folder / plugin).write_text(code)
    with (folder / "gatepost.toml").open("a") as settings:
        settings.write(f'[[plugin]]\nsource = "{plugin}"\n')


def test_a_worker_killed_with_connections_queued_resets_none(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        workers = server.workers()
        assert sorted(workers) == [0, 1]
        os.kill(workers[0], signal.SIGSTOP)
        clients = [server.connect() for _ in range(CLIENTS)]  # the kernel shares them out between both sockets
        waiting = [client for client in clients if not client.is_answered(0.2)]
        assert 0 < len(waiting) < CLIENTS, "some of them wait in the stopped worker's socket"
        os.kill(workers[0], signal.SIGKILL)
        for client in clients:
            assert client.reply().startswith("220 mx.example.org "), "served, not reset"
            assert client.say("EHLO client.example").startswith("250 ")
        restarted = server.workers()
        assert restarted[1] == workers[1] and restarted[0] != workers[0]
        for client in clients:
            assert client.say("QUIT").startswith("221 ")
            client.__exit__()
        assert "worker 0 has ended (SIGKILL)" in server.log
        assert server.stop() == 0


def test_a_killed_worker_loses_no_accepted_mail_and_its_sessions_are_forgotten(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        tickets = []
        for number in range(6):  # which differ, for who vanishes and comes again with the same has sent it once
            with server.connect() as client:
                client.begin_message("eve@next.example")
                tickets.append(client.say(f"Subject: {number}\r\n\r\nx\r\n.").rpartition(", ")[2])
        held = [server.connect() for _ in range(12)]
        assert all(client.reply().startswith("220 ") for client in held)
        for process in server.workers().values():
            os.kill(process, signal.SIGKILL)
        assert all(client.ends() for client in held), "whoever was being served has lost its connection"
        eventually(lambda: server.log.count("is back") == 2)
        listed = server.ask("queue", "list").stdout
        assert all(ticket in listed for ticket in tickets) and "6 queued" in listed, listed
        for client in held:
            client.__exit__()
        full = [server.connect() for _ in range(60)]
        assert all(client.reply().startswith("220 ") for client in full), "the dead workers' sessions don't count"
        for client in full:
            client.__exit__()


def test_a_stuck_worker_is_restarted(folder: Path) -> None:
    add(
        folder,
        "stuck.py",
        "import time\nfrom gatepost import on\n"
        '@on("sender", rule="mail from=stuck@*")\n'
        "async def stuck(event):\n    time.sleep(3600)\n",
    )
    command = [sys.executable, "-c", IMPATIENT, "gatepost.toml"]
    with ServerProcess(folder, command=command) as server:
        before = server.workers()
        with server.connect() as client:
            client.reply()
            client.say("EHLO client.example")
            client.send(b"MAIL FROM:<stuck@bobo.example>\r\n")
            assert client.ends(), "its worker is killed"
        eventually(lambda: "is back" in server.log)
        assert "is stuck: nothing was heard of it for" in server.log
        after = server.workers()
        assert len(after) == 2 and len(set(before.values()) & set(after.values())) == 1
        with server.connect() as client:
            client.begin_message("ann@example.org")
            assert client.say("Subject: x\r\n\r\nx\r\n.").startswith("250 ")


def test_the_limit_of_sessions_counts_all_workers(folder: Path) -> None:
    settings = folder / "gatepost.toml"
    settings.write_text(settings.read_text().replace("sessions = 60", "sessions = 5"))
    with ServerProcess(folder, "run") as server:
        clients: list[Client] = []
        heard: Counter[str] = Counter()
        for _ in range(12):  # one after the other: workers that count at the same moment may let one too many in
            clients.append(server.connect())
            heard[clients[-1].reply()[:9]] += 1
        assert heard == {"220 mx.ex": 5, "421 4.7.0": 7}, heard
        for client in clients:
            client.__exit__()


def test_all_workers_reload_or_none(folder: Path) -> None:
    code = (
        "from gatepost import Plugin, on, refuse\n"
        "class First(Plugin):\n"
        "    async def open(self, server):\n"
        "        {opening}\n"
        '    @on("sender")\n'
        "    async def refused(self, event):\n"
        '        return refuse(550, "5.7.1", "{says}")\n'
    )
    add(folder, "first.py", code.format(opening="pass", says="generation one"))
    with ServerProcess(folder, "run") as server:

        def heard() -> set[str]:
            said = set()
            for _ in range(12):
                with server.connect() as client:
                    client.reply()
                    client.say("EHLO client.example")
                    said.add(client.say("MAIL FROM:<dave@bobo.example>").partition(" (")[0])
            return said

        assert heard() == {"550 5.7.1 generation one"}
        (folder / "first.py").write_text(code.format(opening='open("once", "x").close()', says="generation two"))
        failed = server.ask("reload")
        assert failed.returncode == 78 and "couldn't open: FileExistsError" in failed.stderr, failed
        assert heard() == {"550 5.7.1 generation one"}, "the worker that could prepare hasn't switched"
        (folder / "first.py").write_text(code.format(opening="pass", says="generation two"))
        done = server.ask("reload")
        assert done.stdout == "reloaded: generation 2, 1 plugin, 2 routes, 2 workers\n", done
        assert heard() == {"550 5.7.1 generation two"}
        (folder / "gatepost.toml").write_text("nonsense")
        os.kill(server.workers()[1], signal.SIGKILL)
        eventually(lambda: "worker 1 is back" in server.log)
        assert heard() == {"550 5.7.1 generation two"}, "a worker that starts again has the generation in effect"


def test_shards_without_a_worker_are_delivered_from(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        for _ in range(8):
            assert server.ask("send", "--to", "eve@next.example").returncode == 0
        eventually(lambda: server.log.count("event=deferred") == 8)
        workers = {line.partition("worker=")[2][0] for line in server.log.splitlines() if "event=deferred" in line}
        assert workers == {"0", "1"}, "both shards have mail"
        assert server.stop() == 0
    settings = folder / "gatepost.toml"
    text = settings.read_text().replace("workers = 2", "workers = 1")
    begin = text.index('deliver = "relay')
    settings.write_text(text[:begin] + 'deliver = "discard"\n' + text[text.index("\n", begin) + 1 :])
    with ServerProcess(folder, "run") as server:
        assert "· 8 queued ·" in server.banner
        assert server.ask("queue", "flush").stdout == "8 due now\n"
        eventually(lambda: "0 queued" in server.ask("queue", "list").stdout)


def test_workers_end_when_their_supervisor_is_killed(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in workers.values()))
        with pytest.raises(ConnectionRefusedError):
            Client(server.port)


def test_messages_in_flight_in_all_workers_are_finished(folder: Path) -> None:
    with ServerProcess(folder, "run") as server:
        clients = [server.connect() for _ in range(8)]
        for number, client in enumerate(clients):
            client.begin_message("ann@example.org")
            client.send(b"Subject: half %d\r\n\r\nhalf" % number)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "going down" in server.log)
        for client in clients:
            client.send(b"\r\n.\r\n")
            assert client.reply().startswith("250 ")
            client.__exit__()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 15
    with ServerProcess(folder, "run"):
        eventually(lambda: len(mail_in(folder / "data")) == 8)
