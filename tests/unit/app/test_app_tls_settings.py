"""TLS to other servers in the settings: levels, policies, certificates of ours, and what check says of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatepost.app.cli.check import look_around
from gatepost.app.gates import delivery_routes
from gatepost.app.protecting import Protecting, rules
from gatepost.app.reloading import NeedsRestart, check_reloadable
from gatepost.app.settings import Settings, SettingsError
from gatepost.delivery import Mx, Relay, Security
from gatepost.delivery.protector import Rule
from gatepost.net.certificates import Pair
from gatepost.net.resolver import StaticResolver
from gatepost.store.ledger import MemoryLedger

AUTHORITY = trustme.CA()


def _written(folder: Path, name: str = "us", *, ends: datetime | None = None) -> dict[str, str]:
    certificate = AUTHORITY.issue_cert("us.example", not_after=ends)
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    certificate.private_key_pem.write_to_path(str(key))
    return {"chain": str(chain), "key": str(key)}


def _pair(table: dict[str, str]) -> Pair:
    return Pair(Path(table["chain"]), Path(table["key"]))


def _wrong(**settings: object) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.in_memory(**settings)
    return str(caught.value)


def test_levels_and_certificates_reach_delivery(tmp_path: Path) -> None:
    usual, own = _written(tmp_path), _written(tmp_path, "own")
    settings = Settings.in_memory(
        tls={
            "client": usual,
            "policy": [{"match": ["a.example", "*.b.example"], "tls": "secure"}, {"match": "*", "certificate": own}],
        },
        route=[
            {"match": "*@c.example", "deliver": {"by": "mx", "tls": "dane-only", "certificate": own}},
            {"match": "*@d.example", "deliver": "relay 192.0.2.1:25"},
            {"match": "*@e.example", "deliver": {"by": "relay", "hosts": "192.0.2.1", "tls": "encrypt"}},
            {"match": "*", "deliver": {"by": "mx"}},
        ],
    )
    assert rules(settings) == (
        Rule(("a.example", "*.b.example"), Security.SECURE),
        Rule(("*",), None, _pair(own)),
    )
    actions = [one.action for one in delivery_routes(settings).routes if isinstance(one.action, Mx | Relay)]
    assert [(one.tls, one.identity) for one in actions] == [
        (Security.DANE_ONLY, _pair(own)),
        (Security.STARTTLS, None),
        (Security.ENCRYPT, None),
        (Security.PUBLISHED, None),
    ]
    made = Protecting.of(settings, StaticResolver(), MemoryLedger(lambda: 0.0))
    assert made.counts is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls": {"policy": [{"match": "a.example"}]}}, "this policy says nothing"),
        ({"tls": {"policy": [{"match": "*@a.example", "tls": "none"}]}}, 'match = "*.a.example"'),
        ({"tls": {"policy": [{"match": "a.*.example", "tls": "none"}]}}, "is no domain and no host"),
        ({"tls": {"policy": [{"match": "a.example", "tls": "strict"}]}}, "strict"),
        ({"tls": {"reports": {"contact": "nobody"}}}, 'contact = "tls-reports@example.org"'),
        ({"route": [{"match": "*@a.example", "deliver": {"by": "mx", "tls": "implicit"}}]}, "begin in the clear"),
        (
            {"route": [{"match": "*@a.example", "deliver": {"by": "relay", "hosts": "192.0.2.1", "tls": "mta-sts"}}]},
            "is about a recipient's domain",
        ),
    ],
)
def test_what_cant_be_meant_is_refused_with_a_mend(settings: dict[str, object], words: str) -> None:
    told = _wrong(**settings)
    assert words in told
    assert "mend:" in told


def test_certificates_of_ours_that_cant_be_shown(tmp_path: Path) -> None:
    good, other = _written(tmp_path), _written(tmp_path, "other")
    assert 'there is no file "' in _wrong(tls={"client": {**good, "key": str(tmp_path / "none.key")}})
    mixed = {"chain": good["chain"], "key": other["key"]}
    assert "is not the key of" in _wrong(tls={"client": mixed})
    assert "is not the key of" in _wrong(tls={"policy": [{"match": "*", "certificate": mixed}]})
    deliver = {"by": "mx", "certificate": mixed}
    assert "is not the key of" in _wrong(route=[{"match": "*", "deliver": deliver}])
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    assert "no PEM" in _wrong(tls={"client": {**good, "chain": str(nonsense)}})


def _looks(settings: Settings, what: str) -> list[tuple[str, str]]:
    return [(look.state, look.text) for look in look_around(settings) if look.what == what]


def test_check_tells_when_ours_ends(tmp_path: Path) -> None:
    old = _written(tmp_path, ends=datetime(2021, 2, 3, tzinfo=UTC))
    [(state, text)] = _looks(Settings.in_memory(tls={"client": old}), "client certificate")
    assert state == "failed"
    assert "ended on 2021-02-03" in text
    fresh = _written(tmp_path, "fresh")
    assert [state for state, _ in _looks(Settings.in_memory(tls={"client": fresh}), "client certificate")] == ["ok"]


@pytest.mark.parametrize(
    ("contact", "match", "state"),
    [
        ("tls@us.example", (), "ok"),
        ("tls@Reports.US.example", (), "ok"),
        ("tls@other.example", (), "warning"),
        ("tls@other.example", ("*.example",), "ok"),
        ("tls@sub.us.example", ("us.example",), "warning"),
    ],
)
def test_check_warns_where_nobody_signs_reports(
    tmp_path: Path, contact: str, match: tuple[str, ...], state: str
) -> None:
    key = tmp_path / "dkim.pem"
    private = rsa.generate_private_key(65537, 2048)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    table = {"domain": "us.example", "match": match, "key": [{"selector": "s", "file": str(key)}]}
    reports = {"reports": {"contact": contact}}
    [(found, text)] = _looks(Settings.in_memory(tls=reports, dkim=[table]), "tls reports")
    assert found == state
    assert ("no [[dkim]] signs for" in text) == (state == "warning")
    assert [found for found, _ in _looks(Settings.in_memory(tls=reports), "tls reports")] == ["warning"]
    assert _looks(Settings.in_memory(dkim=[table]), "tls reports") == []


def test_check_warns_where_DANE_cant_work() -> None:
    route = [{"match": "*", "deliver": "mx"}]
    [(state, text)] = _looks(Settings.in_memory(route=route, dns={"servers": "192.0.2.53"}), "dane")
    assert state == "warning"
    assert "aren't on this machine" in text
    assert "dns.trust_ad = true" in text
    silent = {"servers": "127.0.0.1:9", "timeout": "100ms", "deadline": "200ms"}
    [(state, text)] = _looks(Settings.in_memory(route=route, dns=silent), "dane")
    assert state == "warning"
    assert "don't answer, and mail goes without DANE" in text
    policy = {"policy": [{"match": "a.example", "tls": "dane-only"}]}
    [(_, text)] = _looks(Settings.in_memory(tls=policy, dns=silent), "dane")
    assert "mail waits where tls is dane-only" in text
    starttls = [{"match": "*", "deliver": {"by": "mx", "tls": "starttls"}}]
    assert _looks(Settings.in_memory(route=starttls, dns=silent), "dane") == []


def test_what_needs_a_restart_says_so() -> None:
    before = Settings.in_memory()
    after = Settings.in_memory(tls={"policy": [{"match": "a.example", "tls": "required"}]})
    with pytest.raises(NeedsRestart, match=r"tls\.policy changes only with a restart"):
        check_reloadable(before, after)
