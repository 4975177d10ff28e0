"""The frame of the commands, and the commands that need no server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
import trustme

import gatepost
from gatepost.app.cli import main
from gatepost.app.cli.frame import COMMANDS


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def looks(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    return {look["what"]: (look["state"], look["text"]) for look in json.loads(capsys.readouterr().out)}


def test_the_version_needs_neither_pydantic_nor_rich_nor_asyncio() -> None:
    code = (
        "import sys; from gatepost.app.cli import main; main(['--version']); main(['-v', 'version']); "
        "print([name for name in ('pydantic', 'rich', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"gatepost {gatepost.__version__}\n")
    assert done.stdout.endswith("[]\n")


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "gatepost", "chek"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == 'gatepost: there is no command "chek"\n  next:  did you mean "check"?\n'


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    line = f"set -o pipefail; {sys.executable} -m gatepost config schema | exec true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_version_options_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["-q", "--version"]) == 0
    assert capsys.readouterr().out == f"gatepost {gatepost.__version__}\n" * 2
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gatepost"] == gatepost.__version__


def test_without_a_command_the_first_step_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "First step:  gatepost run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], 'there is no command "chek"\n  next:  did you mean "check"?'),
        (["xyzzy"], 'there is no command "xyzzy"\n  next:  all commands: gatepost --help'),
        (["check", "--jason"], "no such option"),
        (["check", "FILE"], "next:  gatepost -c FILE check\n"),
        (["config", "show", "mx.toml"], "next:  gatepost -c mx.toml config show\n"),
        (["run", "-c", "mx.toml"], "next:  gatepost -c FILE run: it stands before the command\n"),
        (["mx.toml"], 'there is no command "mx.toml"\n  next:  gatepost -c mx.toml run, or check\n'),
        (["explain", "nothing"], "next:  a refusal's text ends with its token"),
        (["config", "sho"], "gatepost config --help"),
        (["-c"], "next:  gatepost --help"),
    ],
)
def test_usage_errors_say_what_to_do_next(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gatepost: ")
    assert said in err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_says_what_it_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = import_module(COMMANDS[name]).command
    assert command.name == name
    assert command.help
    assert main([name, "--help"]) == 0
    assert f"gatepost {name}" in capsys.readouterr().out


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    listed = [line.strip("│ ") for line in out[out.index("Commands") :].splitlines() if line.startswith("│")]
    assert [line.split()[0] for line in listed] == list(COMMANDS)  # a line each
    assert "\x1b" not in out


def test_wrong_settings_end_every_command_with_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gatepost.toml").write_text("[limits]\nrecipients = 0\n")
    for arguments in (["check"], ["config", "show"], ["-c", "gatepost.toml", "check", "--json"]):
        assert main(arguments) == 78
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("gatepost.toml:2:14  limits: recipients can't be 0")
        assert err.endswith("(exit 78)\n")


def test_config_show_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    assert capsys.readouterr().out.startswith("# no settings file: these are the defaults")
    Path("mine.toml").write_text('hostname = "mx.example.org"\n')
    assert main(["-c", "mine.toml", "config", "show", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"key": ["hostname"], "value": '"mx.example.org"', "source": "mine.toml:1"} in rows
    assert main(["config", "schema"]) == 0
    assert "listen" in json.loads(capsys.readouterr().out)["properties"]


def test_check_without_a_file_tells_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "no file, the defaults apply" in (out := capsys.readouterr().out)
    assert "first step: gatepost run" in out
    assert list(Path().iterdir()) == []


def test_check_sees_a_taken_port_and_next_servers(capsys: pytest.CaptureFixture[str], free_port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        Path("gatepost.toml").write_text(
            f'[[listen]]\nname = "taken"\naddress = "127.0.0.1:{port}"\n'
            f'[[listen]]\nname = "free"\naddress = "127.0.0.1:{free_port}"\n'
            f'[[route]]\nmatch = "*@a.example"\ndeliver = "relay 127.0.0.1:{port}"\n'
        )
        assert main(["check", "--json"]) == 0
        found = looks(capsys)
    assert found["listen taken"][0] == "warning"
    assert "perhaps a running gatepost" in found["listen taken"][1]
    assert found["listen free"][0] == "ok"
    assert found["route"] == ("ok", f"*@a.example → 127.0.0.1:{port}: somebody listens")


def test_check_sees_that_nobody_listens_and_tries_loopback_only(
    capsys: pytest.CaptureFixture[str], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    real = socket.create_connection

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        return real(address, timeout)

    monkeypatch.setattr(socket, "create_connection", connect)
    Path("gatepost.toml").write_text(
        '[[route]]\nmatch = "*@a.example"\n'
        f'deliver = {{ by = "relay", hosts = ["192.0.2.1", "mx.example.org", "127.0.0.1:{free_port}"] }}\n'
        '[[route]]\nmatch = "*@b.example"\ndeliver = "lmtp ./no.sock"\n'
    )
    assert main(["-q", "check"]) == 0
    out = capsys.readouterr().out
    assert f"*@a.example → 127.0.0.1:{free_port}: connection refused; mail would wait" in out
    assert "no.sock: no such file or directory; mail would wait" in out
    assert tried == [("127.0.0.1", free_port)]


def test_check_fails_where_mail_could_not_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a-file").write_text("")
    Path("gatepost.toml").write_text('data = "a-file/inside"\n')
    assert main(["check", "--json"]) == 78
    state, text = looks(capsys)["data"]
    assert state == "failed"
    assert "can't be written to" in text
    Path("gatepost.toml").write_text('[spool]\nkeep_free = "1000000TiB"\n')
    assert main(["check", "--json"]) == 78
    assert "less than keep_free" in looks(capsys)["data"][1]


def test_check_knows_users_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gatepost.toml").write_text('run_as = "nobody-of-that-name"\n')
    assert main(["check", "--json"]) == 78
    assert looks(capsys)["run_as"][0] == "failed"


@pytest.mark.parametrize(("days", "state", "code"), [(90, "ok", 0), (5, "warning", 0), (-2, "failed", 78)])
def test_check_counts_a_certificates_days(days: int, state: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    made = trustme.CA().issue_cert("mx.example.org", not_before=end - timedelta(days=365), not_after=end)
    made.private_key_pem.write_to_path("key.pem")
    Path("key.pem").chmod(0o644)
    for at, pem in enumerate(made.cert_chain_pems):
        pem.write_to_path("chain.pem", append=at > 0)
    Path("gatepost.toml").write_text('[[tls.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n')
    assert main(["check", "--json"]) == code
    found = looks(capsys)
    assert found["certificate"][0] == state
    assert found["key"][0] == "warning"
    if days > 0:
        assert found["certificate"][1] == f"mx.example.org, {days} days left"


def test_key_and_chain_of_two_certificates_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    authority = trustme.CA()
    authority.issue_cert("a.example").private_key_pem.write_to_path("key.pem")
    authority.issue_cert("b.example").cert_chain_pems[0].write_to_path("chain.pem")
    Path("gatepost.toml").write_text('[[tls.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n')
    assert main(["check"]) == 78
    assert "gatepost.toml:3:7  certificate" in capsys.readouterr().err
