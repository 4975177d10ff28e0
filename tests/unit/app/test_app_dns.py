"""`gatepost dns`: the records of the settings' domains, what the DNS says about them, and new keys."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatepost.app.cli import main
from gatepost.app.cli.check import look_around
from gatepost.app.dns_records import Record, compare, own_domains, records
from gatepost.app.settings import Settings, SettingsError, load
from gatepost.app.signing import load_signing
from gatepost.content.dkim_keys import Algorithm, load_key, make_key, strings
from gatepost.hooks.stages import OutMessage
from gatepost.net.resolver import StaticResolver, Zone
from gatepost.plugins.loaded import PluginError

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEAD = 'hostname = "mx.example.org"\n[[route]]\nmatch = ["*@example.org", "*@*.example.net"]\ndeliver = "maildir"\n'
ED, ED_PEM = make_key(Algorithm.ED25519)
RSA, RSA_PEM = make_key(Algorithm.RSA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, pem in (("ed.pem", ED_PEM), ("rsa.pem", RSA_PEM)):
        (tmp_path / name).write_bytes(pem)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def settings(folder: Path, text: str) -> Settings:
    (folder / "gatepost.toml").write_text(HEAD + text)
    return load(folder / "gatepost.toml", environ={})


def key(selector: str, file: str = "ed.pem", more: str = "") -> str:
    return f'[[dkim.key]]\nselector = "{selector}"\nfile = "{file}"\n{more}\n'


SIGNED = '[[dkim]]\ndomain = "example.org"\n'


# ── settings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_domain_that_signs(folder: Path) -> None:
    table = settings(folder, SIGNED + key("s1", more="from = 2026-11-01\nuntil = 2027-01-01T12:00:00+01:00")).dkim[0]
    assert table.patterns == ("example.org", "*.example.org")
    assert table.key[0].begins == datetime(2026, 11, 1, tzinfo=UTC)
    assert table.key[0].until == datetime(2027, 1, 1, 11, tzinfo=UTC)
    loaded = load_signing([table])
    assert [(one.stage, one.priority, one.plugin) for one in loaded.bindings] == [(OutMessage, 32000, "dkim")]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (SIGNED + key("s1", "nothing.pem"), 9, "there is no file"),
        (SIGNED + key("s1", "gatepost.toml"), 9, "it holds no PEM key"),
        (SIGNED + key("s1", more='algorithm = "rsa-sha256"'), 10, 'is for "ed25519-sha256"'),
        (SIGNED + key("s1", more='algorithm = "rsa"'), 10, "algorithm"),
        (SIGNED + key("s 1"), 8, "can't be a selector: letters".partition(":")[0]),
        (SIGNED + key("s1") + key("S1"), 12, "another key's already"),
        (SIGNED + key("s1", more="from = 2026-11-02\nuntil = 2026-11-01"), 11, "ends before it begins"),
        (SIGNED + key("s1", more='from = "soon"'), 10, "isn't a day"),
        (SIGNED, 6, "there is no key"),
        ('[[dkim]]\ndomain = "exa mple.org"\n' + key("s1"), 6, "isn't a valid name"),
        (SIGNED + 'match = "*@example.org"\n' + key("s1"), 7, "here domains are meant"),
        (SIGNED + 'headers = ["From", "Received"]\n' + key("s1"), 7, "changes on the way"),
        (SIGNED + 'canonical = "simple"\n' + key("s1"), 7, "canonical"),
        (SIGNED + 'selector = "s1"\n' + key("s1"), 7, 'no key "selector"'),
    ],
)
def test_what_cant_work_is_refused_with_its_line(folder: Path, text: str, place: int, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(folder, text)
    assert said in str(caught.value)
    assert f"gatepost.toml:{place}:" in str(caught.value)


def test_a_key_that_has_gone_is_refused_by_name(folder: Path) -> None:
    found = settings(folder, SIGNED + key("s1"))
    (folder / "ed.pem").unlink()
    with pytest.raises(PluginError, match=r"ed\.pem"):
        load_signing(found.dkim)


def test_check_tells_who_signs_and_who_can_read_the_key(folder: Path) -> None:
    found = settings(folder, SIGNED + key("s1") + key("s2", "rsa.pem", "from = 2999-01-01"))
    assert [look.text for look in look_around(found) if look.what == "dkim"] == ["example.org: s1"]
    (folder / "rsa.pem").chmod(0o644)
    looks = [look for look in look_around(found) if look.what == "dkim"]
    assert [look.state for look in looks] == ["ok", "warning"]
    assert looks[1].text.endswith(f"chmod 600 {folder}/rsa.pem")
    late = settings(folder, SIGNED + key("s1", more="until = 2020-01-01"))
    assert [look.state for look in look_around(late) if look.what == "dkim"] == ["warning"]


def test_check_reads_each_key(folder: Path) -> None:
    found = settings(folder, SIGNED + key("s1"))
    (folder / "ed.pem").write_bytes(b"")
    [look] = [look for look in look_around(found) if look.what == "dkim"]
    assert (look.state, "holds no PEM key" in look.text) == ("failed", True)


# ── records ────────────────────────────────────────────────────────────────────────────────────────────────────────


def of(folder: Path, text: str = "", domain: str = "example.org") -> dict[str, Record]:
    return {
        f"{one.name} {one.type}": one for one in records(settings(folder, text), domain, NOW)
    }  # one name has one record of a type here


def test_records(folder: Path) -> None:
    found = of(folder, SIGNED + key("s1", "rsa.pem", "until = 2026-11-01") + key("s2", more="from = 2026-12-01"))
    assert found["example.org MX"].line() == "example.org. IN MX 10 mx.example.org."
    assert found["example.org TXT"].value == "v=spf1 mx -all"
    assert found["_dmarc.example.org TXT"].is_proposal
    old, new = found["s1._domainkey.example.org TXT"], found["s2._domainkey.example.org TXT"]
    assert (old.value, new.value) == (RSA.public_record(), ED.public_record())
    assert (old.why, new.why) == (
        "signed until 2026-11-01; keep it a week longer",
        "signs from 2026-12-01; publish it before",
    )
    first, second = strings(RSA.public_record())
    assert old.line() == f's1._domainkey.example.org. IN TXT ( "{first}" "{second}" )'
    assert new.line() == f's2._domainkey.example.org. IN TXT "{ED.public_record()}"'
    assert found["its address PTR"].line().startswith(";")


def test_a_domain_that_only_sends(folder: Path) -> None:
    outside = '[[route]]\nmatch = "*"\ndeliver = "relay mail.provider.example"\n'
    found = of(folder, outside, "example.com")
    assert "example.com MX" not in found
    assert found["example.com TXT"].value == "v=spf1 a:mx.example.org ~all"
    assert "mail.provider.example" in found["example.com TXT"].why


def test_the_domains_of_the_settings(folder: Path) -> None:
    found = settings(folder, '[[dkim]]\ndomain = "example.com"\n' + key("s1"))
    assert own_domains(found) == ["example.com", "example.org"]
    partner = '[[route]]\nmatch = "*@bank.example"\nfor = "authenticated"\nrecipients = "any"\n'
    found = settings(folder, partner + 'deliver = "relay 192.0.2.5:25"\n')
    assert own_domains(found) == ["example.org"], "somebody else's domain"


GOOD: Zone = {
    "example.org": {"MX": "10 mx.example.org", "TXT": ["v=spf1 mx -all", "unrelated"]},
    "mx.example.org": "192.0.2.1",
    "192.0.2.1": {"PTR": "mx.example.org"},
    "s1._domainkey.example.org": {"TXT": ED.public_record().replace("; ", ";")},
    "_dmarc.example.org": {"TXT": "v=DMARC1; p=reject"},
}


async def states(folder: Path, change: Zone | None = None) -> dict[str, str]:
    wanted = list(of(folder, SIGNED + key("s1")).values())
    zone = {name: value for name, value in {**GOOD, **(change or {})}.items() if value}
    return {f"{one.record.name} {one.record.type}": one.state for one in await compare(wanted, StaticResolver(zone))}


async def test_all_is_there(folder: Path) -> None:
    assert set((await states(folder)).values()) == {"ok"}


@pytest.mark.parametrize(
    ("change", "name", "state"),
    [
        ({"example.org": {"MX": "10 elsewhere.example", "TXT": "v=spf1 -all"}}, "example.org MX", "different"),
        (
            {"example.org": {"MX": "10 mx.example.org", "TXT": ["v=spf1 -all", "v=spf1 mx"]}},
            "example.org TXT",
            "different",
        ),
        ({"example.org": {"MX": "10 mx.example.org", "TXT": "v=spf10"}}, "example.org TXT", "missing"),
        ({"s1._domainkey.example.org": ""}, "s1._domainkey.example.org TXT", "missing"),
        ({"s1._domainkey.example.org": {"TXT": RSA.public_record()}}, "s1._domainkey.example.org TXT", "different"),
        ({"s1._domainkey.example.org": {"TXT": "v=DKIM1; p="}}, "s1._domainkey.example.org TXT", "different"),
        ({"s1._domainkey.example.org": "SERVFAIL"}, "s1._domainkey.example.org TXT", "unknown"),
        ({"_dmarc.example.org": ""}, "_dmarc.example.org TXT", "missing"),
        ({"mx.example.org": ""}, "mx.example.org A", "missing"),
        ({"192.0.2.1": {"PTR": "other.example"}}, "its address PTR", "different"),
    ],
)
async def test_what_differs(folder: Path, change: Zone, name: str, state: str) -> None:
    found = await states(folder, change)
    assert found[name] == state


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["rsa", "ed25519"])
def test_a_new_key(folder: Path, capsys: pytest.CaptureFixture[str], algorithm: str) -> None:
    config = folder / "gatepost.toml"
    config.write_text(HEAD)
    line = ["-c", str(config), "dns", "key", "s2026", "--domain", "Example.org", "--algorithm", algorithm]
    assert main(line) == 0
    file = folder / "keys" / "example.org.s2026.pem"
    said = capsys.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    made = load_key(file.read_bytes())
    assert "PRIVATE" not in said
    assert all(f'"{one}"' in said for one in strings(made.public_record()))
    config.write_text(HEAD + said.partition("For the settings:\n")[2])
    assert main(["-c", str(config), "dns"]) == 0
    assert "s2026._domainkey.example.org. IN TXT" in capsys.readouterr().out
    octets = file.read_bytes()
    assert main(line) == 73
    assert file.read_bytes() == octets


def test_a_key_that_cant_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["-c", str(folder / "gatepost.toml"), "dns", "key"]
    (folder / "gatepost.toml").write_text(HEAD)
    assert main([*config, "../x", "--domain", "example.org"]) == 64
    assert main([*config, "s1", "--domain", "a/../b"]) == 64
    assert main([*config, "s1", "--domain", "example.org", "--bits", "512"]) == 64
    assert not (folder / "keys").exists()
    assert "1024 to 4096" in capsys.readouterr().err


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(folder, SIGNED + key("s1"))
    assert main(["-c", str(folder / "gatepost.toml"), "dns", "--json", "--domain", "example.org"]) == 0
    rows = json.loads(capsys.readouterr().out)["example.org"]
    assert {"s1._domainkey.example.org": ED.public_record()}.items() <= {
        row["name"]: row["value"] for row in rows
    }.items()


def test_no_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gatepost.toml").write_text('hostname = "mx.example.org"\n')
    assert main(["-c", str(tmp_path / "gatepost.toml"), "dns"]) == 78
    assert main(["-c", str(tmp_path / "gatepost.toml"), "dns", "--domain", "a b"]) == 64
    assert "gatepost dns --domain example.org" in capsys.readouterr().err
