"""`gatepost run` as a real process: banner, signals, reload, and starts that can't succeed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from house.server_process import LOOPBACK, ServerProcess, eventually, gatepost, mail_in

SETTINGS = """
hostname = "mx.example.org"
workers = {workers}
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
[[plugin]]
source = "left.py"
"""
LEFT = """
from gatepost import on, refuse
@on("recipient", rule="rcpt to=*@example.org")
async def left(event):
    if event.recipient.matches("bob@*"):
        return refuse(550, "5.1.6", "no longer works here")
"""
BOTH = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture(scope="module")
def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return int(held.getsockname()[1])


def written(folder: Path, nobody: int, workers: int = 1) -> Path:
    (folder / "left.py").write_text(LEFT)
    (folder / "gatepost.toml").write_text(SETTINGS.format(workers=workers, nobody=nobody))
    return folder


def heard_by_bob(server: ServerProcess) -> str:
    with server.connect() as client:
        assert client.reply().startswith("220 ")
        client.say("EHLO client.example")
        client.say("MAIL FROM:<dave@bobo.example>")
        return client.say("RCPT TO:<bob@example.org>")


def test_without_settings_it_says_what_it_does_and_takes_mail(tmp_path: Path) -> None:
    env = {"GATEPOST__LISTEN": f"{LOOPBACK}:0", "GATEPOST__WORKERS": "1"}
    with ServerProcess(tmp_path, "run", env=env) as server:
        lines = server.banner.splitlines()
        assert lines[0].startswith("Gatepost ")
        assert lines[0].endswith(" s · no settings file, the defaults apply · 1 worker")
        assert lines[1] == f"listening  smtp       127.0.0.1:{server.port}   smtp"
        assert lines[2] == "asked at   recipient  24576 house  routes, any recipient"
        assert lines[3] == "routes     * → Maildir"
        assert lines[4].startswith(f"data       {tmp_path}/gatepost-data · 0 queued · 0 held · ")
        assert (
            lines[5]
            == f"try it     gatepost send --server 127.0.0.1:{server.port} --to info@example.org --subject hello"
        )
        sent = server.ask("send", "--to", "info@example.org", "--subject", "hello")
        assert (sent.returncode, sent.stdout.split()[:2]) == (0, ["accepted", "<info@example.org>"]), sent
        [message] = eventually(lambda: mail_in(tmp_path / "gatepost-data"))
        assert b"Subject: hello\r\n" in message.read_bytes().replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
        assert server.stop() == 0


@BOTH
def test_sigterm_lets_a_message_in_flight_be_finished(tmp_path: Path, nobody: int, workers: int) -> None:
    with ServerProcess(written(tmp_path, nobody, workers), "run") as server, server.connect() as client:
        client.begin_message("ann@example.org")
        client.send(b"Subject: half\r\n\r\nthe first half, ")
        with server.connect() as idle:
            assert idle.reply().startswith("220 ")
            server.process.send_signal(signal.SIGTERM)
            assert idle.reply().startswith("421 4.3.2 "), "between transactions a session ends at once"
        with pytest.raises(ConnectionRefusedError):
            eventually(lambda: server.connect().__exit__())
        client.send(b"and the second\r\n.\r\n")
        assert client.reply().startswith("250 2.0.0 ")
        assert client.reply().startswith("421 4.3.2 ")
        assert server.process.wait(15) == 0
        assert "stopped" in server.log
    queued = gatepost(tmp_path, "queue", "list").stdout
    assert mail_in(tmp_path / "data") or "1 queued" in queued, queued


def test_a_second_signal_ends_it_at_once(tmp_path: Path, nobody: int) -> None:
    with ServerProcess(written(tmp_path, nobody, 2), "run") as server, server.connect() as client:
        client.begin_message("ann@example.org")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "going down" in server.log)
        assert server.stop(signal.SIGINT) == 130
        eventually(lambda: not server.workers())


@BOTH
def test_a_reload_switches_plugins_and_a_broken_one_changes_nothing(tmp_path: Path, nobody: int, workers: int) -> None:
    with ServerProcess(written(tmp_path, nobody, workers), "run") as server:
        assert "no longer works here" in heard_by_bob(server)
        (tmp_path / "left.py").write_text(LEFT.replace("no longer works here", "is on holiday"))
        done = server.ask("reload")
        assert done.stdout.startswith("reloaded: generation 2, 1 plugin, 2 routes"), done
        assert "is on holiday" in heard_by_bob(server)

        (tmp_path / "left.py").write_text(LEFT.replace("is on holiday", "has moved") + "raise RuntimeError('oh')")
        failed = server.ask("reload")
        assert failed.returncode == 78
        assert "left.py, line 7: RuntimeError: oh" in failed.stderr
        assert "is on holiday" in heard_by_bob(server)

        settings = tmp_path / "gatepost.toml"
        settings.write_text(settings.read_text().replace('source = "left.py"', 'sauce = "left.py"'))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "did you mean" in server.log or "sauce" in server.log)
        assert "not reloaded" in server.log
        assert "is on holiday" in heard_by_bob(server)

        (tmp_path / "left.py").write_text(LEFT.replace("no longer works here", "is back on Monday"))
        settings.write_text(settings.read_text().replace('sauce = "left.py"', 'source = "left.py"'))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "generation 3" in server.log)
        assert "is back on Monday" in heard_by_bob(server)

        settings.write_text(settings.read_text().replace('data = "data"', 'data = "elsewhere"'))
        refused = server.ask("reload", "-h")  # the command itself must not look for a server in the new folder
        assert refused.returncode == 0
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "data changes only with a restart" in server.log)
        assert server.stop() == 0


def test_watch_reloads_when_a_plugin_changes(tmp_path: Path, nobody: int) -> None:
    with ServerProcess(written(tmp_path, nobody), "run", "--watch") as server:
        assert "no longer works here" in heard_by_bob(server)
        (tmp_path / "left.py").write_text(LEFT.replace("no longer works here", "has moved"))
        eventually(lambda: "generation 2" in server.log)
        assert "has moved" in heard_by_bob(server)


@BOTH
def test_queue_and_explain_with_and_without_a_server(tmp_path: Path, nobody: int, workers: int) -> None:
    with ServerProcess(written(tmp_path, nobody, workers), "run") as server:
        sent = server.ask("send", "--to", "eve@next.example", "--to", "bob@example.org")
        assert sent.returncode == 1, "one was refused"
        [ticket] = [line.rpartition(", ")[2] for line in sent.stdout.splitlines() if ", " in line]
        eventually(lambda: "event=deferred" in server.log)

        def ask_everything() -> None:
            listed = server.ask("queue", "list")
            assert ticket in listed.stdout and "1 queued, 0 held" in listed.stdout, listed
            assert "<eve@next.example>" in server.ask("queue", "show", ticket).stdout
            told = server.ask("explain", ticket).stdout
            assert "no longer works here" in told and "left" in told, told
            assert ticket.rpartition("-")[0] in server.ask("trace", "--to", "eve@next.example").stdout

        ask_everything()
        assert "is held" in server.ask("queue", "hold", ticket).stdout
        assert "0 queued, 1 held" in server.ask("queue", "list", "--held").stdout
        assert server.ask("queue", "release", ticket).returncode == 0
        missing = server.ask("queue", "show", "0T30GR-HT0001-1")
        assert missing.returncode == 75 and "there is no 0T30GR-HT0001-1" in missing.stderr
        listed = json.loads(server.ask("plugin", "list", "--json").stdout)
        assert [(one["name"], one["stages"][0]["rule"]) for one in listed] == [("left", "rcpt to=*@example.org")]
        assert server.stop() == 0
        ask_everything()
        assert "is deleted" in server.ask("queue", "delete", ticket).stdout
        assert "0 queued, 0 held" in server.ask("queue", "list").stdout
        assert server.ask("reload").returncode == 69
        assert json.loads(server.ask("plugin", "list", "--json").stdout) == listed


@BOTH
def test_a_port_that_is_taken_is_told_with_who_holds_it(tmp_path: Path, nobody: int, workers: int) -> None:
    written(tmp_path, nobody, workers)
    with ServerProcess(tmp_path, "run") as server:
        settings = tmp_path / "gatepost.toml"
        settings.write_text(settings.read_text().replace(f"{LOOPBACK}:0", f"{LOOPBACK}:{server.port}"))
        failed = gatepost(tmp_path, "run")
        assert failed.returncode == 75
        assert f"cannot listen at {LOOPBACK}:{server.port}: the port is taken by " in failed.stderr
        assert str(server.process.pid) in failed.stderr or any(
            str(worker) in failed.stderr for worker in server.workers().values()
        )
        assert "mend:  stop who holds the port" in failed.stderr
        assert failed.stdout == "", "what doesn't run has no banner"


@BOTH
def test_a_data_folder_has_one_server(tmp_path: Path, nobody: int, workers: int) -> None:
    with ServerProcess(written(tmp_path, nobody, workers), "run") as server:
        failed = gatepost(tmp_path, "run")
        assert failed.returncode == 75
        assert "a server runs on this data folder already" in failed.stderr
        assert server.ask("queue", "list").returncode == 0, "the first one's control socket is still there"


@BOTH
@pytest.mark.parametrize(
    ("broken", "code", "said"),
    [
        (('source = "left.py"', 'source = "gone.py"'), 78, "gone.py"),
        (
            ('"ann@example.org"\n', '"ann@example.org"\n[[tls.certificate]]\nchain = "no.pem"\nkey = "no.pem"\n'),
            78,
            "no.pem",
        ),
        (("127.0.0.1:0", "203.0.113.99:2525"), 78, "this machine doesn't have that address"),
        (('source = "left.py"', 'source = "left.py"\nproperties = { a = 1 }\nstages = ["data"]'), 78, "left"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, nobody: int, workers: int, broken: tuple[str, str], code: int, said: str
) -> None:
    settings = written(tmp_path, nobody, workers) / "gatepost.toml"
    assert broken[0] in settings.read_text()
    settings.write_text(settings.read_text().replace(*broken))
    failed = gatepost(tmp_path, "run")
    assert (failed.returncode, failed.stdout) == (code, "")
    assert said in failed.stderr
    assert f"(exit {code})" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_plugin_that_raises_while_it_is_loaded_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    env = {"GATEPOST__LISTEN": f"{LOOPBACK}:0", "GATEPOST__WORKERS": "2"}
    failed = gatepost(tmp_path, "run", "--plugin", "bad.py", env=env)
    assert failed.returncode == 78
    assert "bad.py, line 1: ZeroDivisionError" in failed.stderr
    assert "Traceback" not in failed.stderr


@BOTH
def test_sigterm_while_it_starts_ends_it(tmp_path: Path, nobody: int, workers: int) -> None:
    written(tmp_path, nobody, workers)
    (tmp_path / "left.py").write_text(
        "import asyncio, pathlib\nfrom gatepost import Plugin, on\nclass Slow(Plugin):\n"
        "    async def open(self, server):\n"
        "        pathlib.Path('opening').touch()\n        await asyncio.sleep(3600)\n"
        "    @on('sender')\n    async def asked(self, event):\n        return None\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gatepost", "run"], cwd=tmp_path, stdout=log, stderr=log)
        try:
            eventually(lambda: (tmp_path / "opening").exists())
            process.terminate()
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
    listed = gatepost(tmp_path, "queue", "list")
    assert listed.stdout == "0 queued, 0 held\n", "no worker is left behind with the shard"


def test_the_banner_names_certificates_and_their_days(tmp_path: Path, nobody: int) -> None:
    certificate = trustme.CA().issue_cert("mx.firma.example")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    settings = written(tmp_path, nobody) / "gatepost.toml"
    text = settings.read_text() + '[[tls.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n'
    settings.write_text(text)
    with ServerProcess(tmp_path, "run") as server:
        assert "smtp, STARTTLS (mx.firma.example, " in server.banner
        assert " days left)" in server.banner
        assert server.ask("send", "--to", "ann@example.org").returncode == 0
