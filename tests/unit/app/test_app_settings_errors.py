"""Each scene is a settings file that is wrong, and the report a person sees, to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatepost.app.settings import Problem, Settings, SettingsError, load

SCENES = Path(__file__).parents[2] / "scenes" / "settings_errors"


@pytest.mark.parametrize("scene", sorted(SCENES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_report(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SCENES)
    with pytest.raises(SettingsError) as caught:
        load(scene.name, environ={})
    assert str(caught.value).replace(str(SCENES), "HERE") + "\n" == scene.with_suffix(".txt").read_text("utf-8")


def test_the_shape_of_the_report_is_the_documented_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [*["#"] * 21, "[[plugin]]", 'name = "spamfilter"\nsource = "a.b"', 'stages = ["dataend"]']
    Path("gatepost.toml").write_text("\n".join(["#", *lines[1:]]).replace("#\n", "", 1) + "\n")
    with pytest.raises(SettingsError) as caught:
        load("gatepost.toml", environ={})
    assert str(caught.value) == (
        'gatepost.toml:24:11  plugin "spamfilter": there is no stage "dataend"\n'
        '    24 | stages = ["dataend"]          MailEnable\'s DATAEND is called "message" here\n'
        '  mend:  stages = ["message"]          all stages: gatepost plugin list --stages\n'
        "1 error. Nothing was started; a running server keeps its settings. (exit 78)"
    )


def test_errors_of_the_environment_name_the_variable_and_hide_secrets() -> None:
    environ = {
        "GATEPOST__LIMITS__MESSAGE_SIZE": "big",
        "GATEPOST__USER__0__NAME": "ann@example.org",
        "GATEPOST__USER__0__PASSWORD": "sesame",
        "GATEPOST__NOSUCH": "1",
        "GATEPOST__LISTEN__7__ADDRESS": "127.0.0.1:1",
        "GATEPOST__NEVER": "[broken]",
    }
    with pytest.raises(SettingsError) as caught:
        load(None, environ=environ)
    report = str(caught.value)
    assert "       | GATEPOST__LIMITS__MESSAGE_SIZE=big" in report
    assert "       | GATEPOST__USER__0__PASSWORD=…" in report
    assert "sesame" not in report
    assert 'there is no key "nosuch"' in report
    assert "       | GATEPOST__LISTEN__7__ADDRESS=127.0.0.1:1" in report
    assert "the value isn't TOML" in report
    assert report.endswith("5 errors. Nothing was started; a running server keeps its settings. (exit 78)")


def test_errors_of_a_call_name_the_key() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.in_memory(limits={"recipients": 0}, listen="nowhere")
    report = str(caught.value)
    assert "in the call, limits.recipients  limits: recipients can't be 0: it is at least 1" in report
    assert 'in the call, listen  "nowhere" has no port' in report
    with pytest.raises(SettingsError) as caught:
        Settings.in_memory(plugin=[{"source": "no.py", "priority": 24576}])
    assert 'in the call, plugin[0].priority  plugin "no.py": priority 24576' in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        Settings.in_memory(lisen="127.0.0.1:0")
    assert str(caught.value) == (
        'in the call, lisen  there is no key "lisen"\n  did you mean "listen"?\n  mend:  listen = …'
    )
    assert "exit 78" not in str(caught.value)  # nobody exits: it is an exception in somebody's program


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"no/such.toml  the settings file can't be read: no such file"):
        load("no/such.toml", environ={})


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b'hostname = "\xff"')
    with pytest.raises(SettingsError, match=r"octet 12 isn't UTF-8"):
        load(tmp_path / "bad.toml", environ={})


def test_a_file_nested_without_end_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("never = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(SettingsError, match="nested too deep"):
        load(tmp_path / "deep.toml", environ={})


def test_further_checks_are_told_with_all_others_at_the_place_of_their_key(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text('hostname = "mx.example.org"\nworkers = "many"\n[limits]\nrecipients = 7\n')

    def no_sevens(settings: Settings) -> list[Problem]:
        assert settings.hostname == "mx.example.org"
        seven = Problem(("limits", "recipients"), "7 brings bad luck", mend="recipients = 8")
        return [seven] if settings.limits.recipients == 7 else []

    with pytest.raises(SettingsError) as caught:
        load(file, environ={}, checks=[no_sevens])
    assert [(finding.line, finding.what) for finding in caught.value.findings] == [
        (2, 'workers can\'t be "many"'),
        (4, "limits: 7 brings bad luck"),
    ]


def test_a_secret_over_several_lines_is_hidden_whole(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text('[[user]]\nname = "ann@example.org"\npassword = """abracadabra\nsesame"""\n')
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert "abracadabra" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_certificate_that_somebody_else_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text('[[tls.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n')
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "key.pem")
    with pytest.raises(SettingsError, match=r"gatepost.toml:3:7 .*key.pem can't be read by this user"):
        load(file, environ={})


@pytest.mark.parametrize(
    ("deliver", "mend"),
    [
        ("relay smtp..isp", 'deliver = "relay mail.example.org:25"'),
        ("relay smtp://isp.example", 'deliver = "relay mail.example.org:25"'),
        ("relay isp.example:99999", 'deliver = "relay mail.example.org:25"'),
        ("lmtp isp.example:x", 'deliver = "lmtp 127.0.0.1:24"'),
        ("relay a.example, b.example:587", 'deliver = { by = "relay", hosts = ["a.example", "b.example:587"] }'),
        ("lmtp a.example b.example", 'deliver = { by = "lmtp", hosts = ["a.example", "b.example"] }'),
    ],
)
def test_what_to_write_for_a_server_that_is_none(tmp_path, deliver, mend):
    file = tmp_path / "gatepost.toml"
    file.write_text(f'[[route]]\nmatch = "*@example.org"\ndeliver = "{deliver}"\n')
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert f"\n  mend:  {mend}\n" in str(caught.value)
