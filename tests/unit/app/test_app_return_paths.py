"""`[srs]` and `[batv]`: what is wrong is told, secrets are hidden, and both sides are made of them."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from gatepost.app.return_paths import manner, own_domains, returning
from gatepost.app.settings import Settings, SettingsError, load
from gatepost.app.settings.display import show
from gatepost.delivery.route import Mx
from gatepost.model import Path, Recipient

NOW = 1_800_000_000.0
SECRET = "sesame opens everything"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('[srs]\ndomain = "example.org"', "without a secret anybody could make return paths"),
        ('[srs]\nrelayed = "*@x.example"', "without a secret anybody could make return paths"),
        ('[srs]\nsecret = "short"', "a secret of fewer than 16 characters can be guessed"),
        ('[srs]\nsecret = ["@no-such-file"]', "the secret's file"),
        (f'[srs]\nsecret = "{SECRET}"\ndomain = "no domain"', '"no domain"'),
        (f'[srs]\nsecret = "{SECRET}"\ndays = 0', "days"),
        (f'[srs]\nsecrets = "{SECRET}"', 'did you mean "secret"?'),
        ("[batv]\nrefuse_unsigned = true", "without a secret nothing can be signed"),
        ('[batv]\nsecret = ["1234567890123456", "short"]', "a secret of fewer than 16 characters"),
    ],
)
def test_what_is_wrong_is_told_and_no_secret_with_it(tmp_path: File, section: str, words: str) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(section + "\n")
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    report = str(caught.value)
    assert words in report
    assert "mend:" in report or "did you mean" in report
    for secret in (SECRET, "short", "1234567890123456"):
        assert secret not in report


def test_secrets_are_not_shown(tmp_path: File) -> None:
    (tmp_path / "srs").write_text(SECRET)
    file = tmp_path / "gatepost.toml"
    file.write_text(f'[srs]\nsecret = ["@srs", "{SECRET}"]\n[batv]\nsecret = "{SECRET}"\n')
    text = show(load(file, environ={}))
    assert SECRET not in text
    assert "…" in text


def test_both_sides_know_each_other() -> None:
    settings = Settings.in_memory(
        hostname="mx.own.example",
        route=[{"match": ["*@Own.example", "*@*.own.example", "postmaster"], "deliver": "maildir"},
               {"match": "*", "deliver": "mx"}],
        srs={"secret": SECRET},
        batv={"secret": [SECRET]},
        delivery={"warn": "1h", "returned": "10KiB"},
    )  # fmt: skip
    assert own_domains(settings) - {"", "postmaster"} == {"own.example"}
    made = manner(settings)
    assert (made.warn_s, made.returned_max) == (3600.0, 10240)
    assert made.return_paths is not None
    read = returning(settings, lambda: NOW)
    assert read is not None
    to = [Recipient(Path.parse("bob@else.example"))]
    for sender in (Path.parse("eve@foreign.example"), Path.parse("ann@own.example")):
        left = made.return_paths.of(sender, None, Mx("else.example"), to, NOW)
        assert left != sender
        assert left.domain in ("mx.own.example", "own.example")
        assert read.original(left, Path()) == sender
        assert read.original(left, Path()).raw == left.address


def test_without_secrets_there_is_nothing() -> None:
    settings = Settings.in_memory()
    assert manner(settings).return_paths is None
    assert returning(settings, lambda: NOW) is None


def test_where_mail_only_leaves_to_is_not_ours() -> None:
    settings = Settings.in_memory(
        route=[
            {"match": "*@own.example", "deliver": "relay 10.0.0.5:25"},
            {"match": "*@inside.example", "deliver": "lmtp 10.0.0.5:24", "for": ["10.0.0.0/8"]},
            {"match": "*@bank.example", "deliver": "relay 192.0.2.5:25", "for": "authenticated", "recipients": "any"},
            {"match": "*@partner.example", "deliver": "mx"},
        ]
    )
    assert own_domains(settings) == {"own.example", "inside.example"}
