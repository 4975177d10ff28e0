"""`gatepost binding` and a running server: each change counts at once, for all workers or for none."""

from __future__ import annotations

from pathlib import Path

import pytest

from house.server_process import LOOPBACK, Client, ServerProcess

SETTINGS = """
hostname = "mx.example.org"
workers = {workers}
data = "data"
[[listen]]
name = "mx"
address = "127.0.0.1:0"
[[listen]]
name = "inner"
address = "127.0.0.1:0"
[[plugin]]
dialect = "sink"
source = "sinks.py:Last"
stages = ["command"]
rule = "XWHO"
priority = 24570
"""
SINKS = '''
class Sink:
    """Answers XWHO with its own name."""

    def OnSmtpInCommand(self, pServer, pSession, pMsg, pContext):
        name = type(self).__name__
        pContext.set_response(f"250 {name} {getattr(self, 'depth', None) or ''}\\r\\n".encode())
        pContext.set_command_status(0)
        pContext.set_smtp_status_code(250)
        return 1


class First(Sink):
    def Load(self, bag):
        self.depth = bag.get("Depth")


class Second(Sink):
    pass


class Last(Sink):
    pass
'''
pytestmark = pytest.mark.timeout(240)  # many commands, each a process
TWICE = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def folder(tmp_path: Path, workers: int) -> Path:
    (tmp_path / "gatepost.toml").write_text(SETTINGS.format(workers=workers))
    (tmp_path / "sinks.py").write_text(SINKS)
    return tmp_path


def who(server: ServerProcess, port: int | None = None) -> str:
    """Who answers XWHO; several sessions, so that every worker is likely to be among those asked."""
    answers = set()
    for _ in range(6):
        with Client(server.port if port is None else port) as client:
            assert client.reply().startswith("220 ")
            answers.add(client.say("XWHO").removeprefix("250 2.0.0 ").strip())
    assert len(answers) == 1, answers
    return answers.pop()


def bind(server: ServerProcess, *arguments: str, code: int = 0) -> str:
    done = server.ask("binding", *arguments)
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stderr


@TWICE
def test_each_change_counts_at_once(folder: Path, workers: int) -> None:
    file = folder / "data" / "bindings.toml"
    with ServerProcess(folder, "run") as server:
        assert who(server) == "Last"
        told = bind(server, "add", "1", "OnInboundCommand", "one", "sinks.py:First", "XWHO", "24000")
        assert "reloaded: generation 2, 2 plugins" in told
        assert who(server) == "First"
        bind(server, "setprop", "1", "OnInboundCommand", "one", "Sink", "Depth", "3")
        assert who(server) == "First 3"
        bind(server, "add", "1", "OnInboundCommand", "two", "sinks.py:Second", "XWHO", "24001")
        assert who(server) == "First 3"
        bind(server, "setprop", "1", "OnInboundCommand", "two", "Source", "Priority", "23999")
        assert who(server) == "Second"
        bind(server, "disable", "1", "OnInboundCommand", "two")
        assert who(server) == "First 3"
        bind(server, "setprop", "1", "OnInboundCommand", "one", "Source", "Rule", "XWHOELSE")
        assert who(server) == "Last"
        bind(server, "delprop", "1", "OnInboundCommand", "one", "Source", "Rule")
        bind(server, "enable", "1", "OnInboundCommand", "two")
        assert who(server) == "Second"
        bind(server, "remove", "1", "OnInboundCommand", "two")
        assert who(server) == "First 3"
        assert "instance 1 (mx)  data/bindings.toml:4\n" in server.ask("plugin", "list").stdout
        assert server.stop() == 0
    assert file.exists()
    with ServerProcess(folder, "run") as server:
        assert who(server) == "First 3", "it survives a restart"
        assert "data/bindings.toml:4" in server.banner
        assert "gatepost.toml:11" in server.banner
        assert server.stop() == 0


@TWICE
def test_what_the_server_refuses_is_put_back(folder: Path, workers: int) -> None:
    file = folder / "data" / "bindings.toml"
    with ServerProcess(folder, "run") as server:
        told = bind(server, "add", "1", "OnInboundCommand", "none", "sinks.py:Nobody", code=78)
        assert 'has no class "Nobody"' in told
        assert not file.exists()
        bind(server, "add", "1", "OnInboundCommand", "one", "sinks.py:First", "XWHO", "24000")
        before = file.read_bytes()
        bind(server, "add", "1", "OnInboundCommand", "none", "sinks.py:Nobody", code=78)
        told = bind(server, "setprop", "1", "OnInboundCommand", "one", "Source", "Rule", "rcpt to=a*b@c", code=64)
        assert "  rcpt to=a*b@c\n           ^\n" in told
        assert file.read_bytes() == before
        assert [one.name for one in (folder / "data").glob("bindings.toml*")] != []
        assert who(server) == "First"
        file.write_text(file.read_text().replace('event = "On', 'event = "Of'))
        refused = server.ask("reload")
        assert refused.returncode == 78, refused
        assert "data/bindings.toml:8:9  there is no event" in refused.stderr
        assert who(server) == "First"


@pytest.mark.parametrize("workers", [1])
def test_an_instance_is_a_listener(folder: Path, workers: int) -> None:
    with ServerProcess(folder, "run") as server:
        inner = next(int(line.split(":")[1].split()[0]) for line in server.banner.splitlines() if " inner " in line)
        bind(server, "add", "2", "OnInboundCommand", "one", "sinks.py:Second", "XWHO", "5")
        assert (who(server), who(server, inner)) == ("Last", "Second")
        assert "instance 2" in next(line for line in server.banner.splitlines() if " inner " in line)
        listed = server.ask("binding", "enum").stdout
        assert f"instance 2  inner  {LOOPBACK}:" in listed
        assert server.stop() == 0
