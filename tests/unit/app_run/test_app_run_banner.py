"""The banner, whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatepost.app.banner import Facts, banner
from gatepost.app.settings import Settings
from gatepost.app.settings.root import without_file


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 41 * 2**30 + 5))


def asked(stage: str, priority: int, **more: Any) -> dict[str, Any]:
    return {"stage": stage, "priority": priority, "timeout_s": 5.0, "on_failure": "tempfail", "shadow": False, **more}


def test_a_gateway_before_another_server() -> None:
    settings = Settings.model_validate(
        {
            "hostname": "mx.firma.example",
            "data": "/var/lib/gatepost",
            "listen": [{"name": "mx", "address": "0.0.0.0:25", "tls": "starttls"}],
            "route": [{"match": "*@firma.example", "deliver": "relay 10.0.0.5", "handover": "before-reply"}],
        }
    )
    settings._file = Path("/etc/gatepost/gatepost.toml")
    facts = Facts(
        ready_s=0.3,
        workers=2,
        addresses={"mx": ("0.0.0.0", 25)},
        plugins=[
            {
                "name": "spamfilter",
                "dialect": "mailenable",
                "source": "plugins/SpamFilter.dll (x64, Wine, 2 processes)",
                "stages": [asked("message", 100)],
            },
            {
                "name": "newfilter",
                "dialect": "python",
                "source": "n.py",
                "stages": [asked("message", 24575, shadow=True)],
            },
            {
                "name": "tagged",
                "dialect": "python",
                "source": "gatepost.checks.header",
                "stages": [asked("message", 30000)],
            },
        ],
        certificates=[("mx.firma.example", 61)],
    )
    assert banner(settings, facts).splitlines()[1:] == [
        "listening  mx         0.0.0.0:25   smtp, STARTTLS (mx.firma.example, 61 days left)",
        "asked at   recipient  24576 house       routes, recipients asked at 10.0.0.5:25",
        "           message      100 spamfilter  mailenable  plugins/SpamFilter.dll (x64, Wine, 2 processes)"
        "  5s, else tempfail",
        "                      24575 newfilter   python      shadow: asked, never obeyed",
        "                      30000 tagged      python      gatepost.checks.header                         "
        "  5s, else tempfail",
        "routes     *@firma.example → 10.0.0.5:25, handed over before our 250 · all else refused (550 5.7.1)",
        "data       /var/lib/gatepost · 0 queued · 0 held · 41 GiB free · trace 14 days",
        "try it     gatepost send --to info@firma.example --subject hello",
    ]  # fmt: skip
    assert (
        banner(settings, facts).splitlines()[0].endswith(", ready in 0.3 s · /etc/gatepost/gatepost.toml · 2 workers")
    )


def test_without_settings() -> None:
    facts = Facts(ready_s=1.0, workers=1, addresses={"smtp": ("127.0.0.1", 2525)}, queued=3, held=1)
    lines = banner(Settings.model_validate(without_file()), facts).splitlines()
    assert lines[1:] == [
        "listening  smtp       127.0.0.1:2525   smtp",
        "asked at   recipient  24576 house  routes, any recipient",
        "routes     * → Maildir",
        f"data       {Path.cwd()}/gatepost-data · 3 queued · 1 held · 41 GiB free · trace 14 days",
        "try it     gatepost send --to info@example.org --subject hello",
    ]


def test_listeners_routes_and_endings_in_words() -> None:
    settings = Settings.model_validate(
        {
            "listen": [
                {"name": "submission", "address": "[::]:0", "protocol": "submission", "tls": "implicit"},
                {"name": "lmtp", "address": "127.0.0.1:24", "protocol": "lmtp"},
            ],
            "route": [
                {"match": "news@a.example", "deliver": "list news"},
                {"match": "*@a.example", "deliver": "maildir", "recipients": "users"},
                {"match": ["*@b.example", "*@c.example"], "deliver": "lmtp /run/lmtp", "for": ["192.0.2.0/24"]},
                {"match": "*", "deliver": "relay smart.example", "for": "authenticated"},
                *[{"match": f"*@x{number}.example", "deliver": "discard"} for number in range(5)],
            ],
            "user": [{"name": "zoe@a.example"}],
            "trace": {"days": 0},
        }
    )
    facts = Facts(
        ready_s=0.1,
        workers=1,
        addresses={"submission": ("::", 4465)},
        certificates=[("a.example", -4), ("b.example", -1)],
        config=Path("x.toml"),
    )
    told = banner(settings, facts)
    assert "submission  [::]:4465      submission, TLS (a.example, ENDED 3 days ago, b.example, ENDED today), " in told
    assert "\n           lmtp        127.0.0.1:24   lmtp\n" in told
    assert "*@b.example, *@c.example → /run/lmtp by LMTP, for 192.0.2.0/24 · " in told
    assert "* → smart.example:25, for authenticated users · " in told
    assert "news@a.example → members of news · " in told
    assert "*@x1.example → nowhere (discard) · 3 more · all else refused (550 5.7.1)\n" in told
    assert " · no trace\n" in told
    assert told.endswith("gatepost -c x.toml send --server [::]:4465 --to zoe@a.example --subject hello")


def test_a_disk_that_is_nearly_full_and_a_command_that_no_shell_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [".venv/bin/gatepost", "run"])
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = Settings.model_validate(
        {"data": str(tmp_path), "listen": ["127.0.0.1:25"], "spool": {"keep_free": 1 << 60}}
    )
    told = banner(settings, Facts(ready_s=0.1, workers=1, addresses={"smtp": ("127.0.0.1", 25)}))
    assert "free, LESS THAN keep_free: new mail hears 452" in told
    assert "try it     .venv/bin/gatepost send --to " in told
