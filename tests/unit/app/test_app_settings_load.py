"""What settings are once they are loaded: defaults, precedence, units, short forms, includes, secrets."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from gatepost.app.settings import Endpoint, Settings, SettingsError, load

HASH = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQ$aGFzaA"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gatepost.toml"
    file.write_text(text)
    return file


def test_without_a_file_there_is_loopback_only_and_every_recipient_is_taken() -> None:
    settings = Settings.embedded_defaults()
    assert [listener.address for listener in settings.listen] == [Endpoint("127.0.0.1", 2525)]
    [route] = settings.route
    assert (route.match, route.deliver.by, route.for_whom, route.recipients) == (("*",), "maildir", "anyone", "any")
    assert settings.data == Path.cwd() / "gatepost-data"
    assert load(None, environ={}) == settings


def test_in_memory_writes_nothing_and_takes_short_forms() -> None:
    settings = Settings.in_memory(listen="127.0.0.1:0", limits={"message_size": "1MiB"}, hostname="mx.example.org")
    assert settings.data is None
    assert settings.listen[0].address == Endpoint("127.0.0.1", 0)
    assert settings.limits.message_size == 2**20
    assert settings.limits.recipients == 1000


def test_settings_are_frozen() -> None:
    settings = Settings.embedded_defaults()
    with pytest.raises(ValidationError):
        settings.limits.recipients = 5


def test_call_wins_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[limits]\nrecipients = 1\nerrors = 1\nhops = 1\n[[listen]]\naddress = "127.0.0.1:1"\n')
    environ = {
        "GATEPOST__LIMITS__ERRORS": "2",
        "GATEPOST__LIMITS__HOPS": "2",
        "GATEPOST__LISTEN__0__ADDRESS": "[::1]:2",
    }
    settings = load(file, environ=environ, overrides={"limits": {"hops": 3}})
    assert (settings.limits.recipients, settings.limits.errors, settings.limits.hops) == (1, 2, 3)
    assert settings.listen[0].address == Endpoint("::1", 2)


def test_every_kind_of_value_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "GATEPOST__NEVER": "quarantine, discard",
        "GATEPOST__WORKERS": "3",
        "GATEPOST__SMTP__PRDR": "false",
        "GATEPOST__LIMITS__COMMAND_TIMEOUT": "90",
        "GATEPOST__ROUTE__1__MATCH": '["*@a.example", "*@b.example"]',
        "GATEPOST__ROUTE__1__DELIVER": "relay 10.0.0.5",
        "GATEPOST__ROUTE__1__FOR": "10.0.0.0/8,192.0.2.1",
        "GATEPOST__DATA": "mail",
        "PATH": "/bin",
    }
    settings = load(None, environ=environ)
    assert settings.never == ("quarantine", "discard")
    assert (settings.workers, settings.smtp.prdr, settings.limits.command_timeout) == (3, False, 90)
    assert settings.route[1].match == ("*@a.example", "*@b.example")
    assert settings.route[1].for_whom == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"))
    assert settings.data == Path.cwd() / "mail"


@pytest.mark.parametrize(
    ("text", "seconds"), [('"5s"', 5), ('"2m"', 120), ('"1h"', 3600), ('"5d"', 432000), ('"500ms"', 0.5), ("7", 7)]
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    file = written(tmp_path, f"[limits]\ncommand_timeout = {text}\n")
    assert load(file, environ={}).limits.command_timeout == seconds


@pytest.mark.parametrize(
    ("text", "octets"), [('"25MiB"', 26214400), ('"10MB"', 10**7), ('"300 KiB"', 307200), ("5000000", 5000000)]
)
def test_sizes(tmp_path: Path, text: str, octets: int) -> None:
    file = written(tmp_path, f"[limits]\nmessage_size = {text}\n")
    assert load(file, environ={}).limits.message_size == octets


def test_paths_begin_at_the_file_that_says_them(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "mine.py").write_text("")
    (tmp_path / "conf.d" / "known.txt").write_text("")
    file = written(tmp_path, 'data = "mail"\ninclude = ["conf.d/*.toml"]\n')
    (tmp_path / "conf.d" / "a.toml").write_text(
        '[[plugin]]\nsource = "mine.py"\n'
        '[[route]]\nmatch = "*@example.org"\ndeliver = "lmtp ./inner.sock"\nrecipients = "file:known.txt"\n'
    )
    settings = load(file, environ={})
    assert settings.data == tmp_path / "mail"
    assert settings.plugin[0].file == tmp_path / "conf.d" / "mine.py"
    assert settings.plugin[0].name == "mine"
    assert settings.route[0].deliver.socket == tmp_path / "conf.d" / "inner.sock"
    assert settings.route[0].recipients == tmp_path / "conf.d" / "known.txt"


def test_data_stands_beside_the_file_by_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, ""), environ={}).data == tmp_path / "gatepost-data"


def test_included_files_follow_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for number, limit in (("20", "hops"), ("10", "errors")):
        (tmp_path / "conf.d" / f"{number}.toml").write_text(
            f'[[route]]\nmatch = "*@{number}.example"\ndeliver = "discard"\n[limits]\n{limit} = 9\n'
        )
    file = written(tmp_path, 'include = ["conf.d/*.toml"]\n[[route]]\nmatch = "*@first.example"\ndeliver = "discard"\n')
    settings = load(file, environ={})
    assert [route.match[0] for route in settings.route] == ["*@first.example", "*@10.example", "*@20.example"]
    assert (settings.limits.hops, settings.limits.errors) == (9, 9)
    assert str(settings.origins.of(("route", 2, "match"))) == f"{tmp_path}/conf.d/20.toml:2"


def test_secrets_come_from_files_and_variables_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "hash").write_text(HASH + "\nsecond line\n")
    file = written(
        tmp_path,
        '[[user]]\nname = "ann@example.org"\npassword = "@hash"\n'
        '[[user]]\nname = "bob@example.org"\npassword = "env:BOBS"\n',
    )
    settings = load(file, environ={"BOBS": HASH})
    assert [user.password.reveal() for user in settings.user if user.password] == [HASH, HASH]
    assert HASH not in repr(settings)
    assert HASH not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("keys", "for_whom", "recipients"),
    [
        ('match = "*@example.org"\ndeliver = "maildir"', "anyone", "users"),
        ('match = "*@example.org"\ndeliver = "relay 10.0.0.5:25"', "anyone", "ask"),
        ('match = "*@*.example.org"\ndeliver = "lmtp 10.0.0.5:24"', "anyone", "ask"),
        ('match = "*"\ndeliver = "relay 10.0.0.5:25"', "authenticated", "any"),
        ('match = ["*@example.org", "info@*"]\ndeliver = "relay 10.0.0.5:25"', "authenticated", "any"),
        ('match = "*@example.org"\ndeliver = "discard"', "anyone", "any"),
    ],
)
def test_a_route_defaults_to_what_is_safe(tmp_path: Path, keys: str, for_whom: str, recipients: str) -> None:
    [route] = load(written(tmp_path, f"[[route]]\n{keys}\n"), environ={}).route
    assert (route.for_whom, route.recipients) == (for_whom, recipients)


@pytest.mark.parametrize("match", ["*", "*@*", "info@*", "*@*.org", "*@example.*", "*@*org"])
@pytest.mark.parametrize("for_whom", ['"anyone"', '["0.0.0.0/0"]', '["::/0"]', '["0.0.0.0/1", "128.0.0.0/1"]'])
@pytest.mark.parametrize("deliver", ["relay 10.0.0.5", "lmtp 10.0.0.5"])
def test_no_setting_makes_an_open_relay(tmp_path: Path, match: str, for_whom: str, deliver: str) -> None:
    file = written(tmp_path, f'[[route]]\nmatch = "{match}"\ndeliver = "{deliver}"\nfor = {for_whom}\n')
    with pytest.raises(SettingsError, match="an open relay"):
        load(file, environ={})


def test_the_deliver_table_says_all_that_the_short_form_cannot(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[[route]]\nmatch = "*@example.org"\n'
        'deliver = { by = "relay", hosts = ["a.example", "[2001:db8::1]:2525"], tls = "required", user = "me", '
        'password = "env:SECRET", helo = "me.example" }\n',
    )
    deliver = load(file, environ={"SECRET": "x"}).route[0].deliver
    assert deliver.hosts == (Endpoint("a.example", 25), Endpoint("2001:db8::1", 2525))
    assert str(deliver) == "relay a.example:25, [2001:db8::1]:2525"
    assert deliver.password is not None
    assert deliver.password.reveal() == "x"


def test_listeners_are_filled_in_by_protocol(tmp_path: Path) -> None:
    text = "".join(
        f'[[listen]]\naddress = "127.0.0.1:{port}"\nprotocol = "{protocol}"\nauth_without_tls = true\n'
        for port, protocol in ((1, "smtp"), (2, "submission"), (3, "lmtp"), (4, "smtp"))
    )
    listeners = load(written(tmp_path, text), environ={}).listen
    assert [(one.name, one.auth, one.tls) for one in listeners] == [
        ("smtp", "off", "none"),
        ("submission", "required", "none"),
        ("lmtp", "off", "none"),
        ("smtp2", "off", "none"),
    ]


def test_what_a_binding_leaves_out_is_the_plugins() -> None:
    settings = Settings.in_memory(
        plugin=[
            {
                "source": "a.b:c",
                "timeout": "5s",
                "priority": 7,
                "binding": [{"stages": ["message"]}, {"stages": "sender", "priority": 0}],
            },
            {"source": "a.b:d", "rule": "rcpt to=*"},
        ]
    )
    first, second = settings.plugin
    assert (first.name, second.name) == ("c", "d")
    assert [(one.stages, one.priority, one.timeout) for one in first.asked] == [
        (("message",), 7, 5.0),
        (("sender",), 0, 5.0),
    ]
    assert [(one.stages, one.rule, one.on_failure) for one in second.asked] == [(None, "rcpt to=*", None)]


def test_plugins_can_be_added_from_the_command_line(tmp_path: Path) -> None:
    settings = Settings.in_memory(plugin="a.b:c").with_plugins(tmp_path / "left.py", "x.y:z")
    assert [plugin.name for plugin in settings.plugin] == ["c", "left", "z"]
    assert settings.plugin[1].file == tmp_path / "left.py"


def test_importing_settings_imports_nothing_heavy() -> None:
    code = "import sys, gatepost.app.settings; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
