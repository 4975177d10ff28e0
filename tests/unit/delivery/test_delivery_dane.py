"""Mail by DANE (RFC 7672): a name server that says what is validated, and mail servers that show this or that."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping

import pytest
import trustme

from gatepost.delivery import Security
from gatepost.delivery.protector import Rule
from gatepost.net.resolver import Resolver
from unit.delivery.delivery_peer import DROP, HANG, polite
from unit.delivery.tls_town import (
    CONTENT,
    IN_THE_CLEAR,
    MX1,
    ONE,
    QUICK,
    TWO,
    UNDER_TLS,
    YESTERDAY,
    der,
    place,
    tlsa,
)
from unit.net.name_server import SERVFAIL

AT = f"_PORT._tcp.{MX1}"
OTHER = trustme.CA()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(MX1)


def _first(certificate: trustme.LeafCert) -> bytes:
    return der(certificate.cert_chain_pems[0])


@pytest.mark.parametrize(("selector", "matching"), [(s, m) for s in (0, 1) for m in (0, 1, 2)])
async def test_DANE_EE_names_the_certificate_itself(leaf, selector, matching):
    record = tlsa(3, selector, matching, _first(leaf))
    async with place({AT: {"TLSA": [record]}}, shows=leaf) as here:
        assert await here.send() == "250"
        assert here.under_tls() == [True]
        assert here.told.words == [f"d.example tlsa {MX1} fine"]


@pytest.mark.parametrize(("selector", "matching"), [(s, m) for s in (0, 1) for m in (0, 1, 2)])
async def test_DANE_TA_names_an_authority_that_the_server_shows(selector, matching):
    root = trustme.CA()
    middle = root.create_child_ca()
    record = tlsa(2, selector, matching, der(middle.cert_pem))
    async with place({AT: {"TLSA": [record]}}, shows=middle.issue_cert(MX1)) as here:
        assert await here.send() == "250"
        assert await here.send() == "250"
        is_whole = (selector, matching) == (0, 0)
        # without the certificate itself in the DNS, a connection finds it; it is remembered from then on
        assert len(here.under_tls()) == (2 if is_whole else 3)
        assert here.told.words == [f"d.example tlsa {MX1} fine"] * 2


async def test_names_and_dates_dont_count_for_DANE_EE(authority):
    old = authority.issue_cert("elsewhere.example", not_before=YESTERDAY, not_after=YESTERDAY.replace(month=2))
    async with place({AT: {"TLSA": [tlsa(3, 1, 1, _first(old))]}}, shows=old) as here:
        assert await here.send() == "250"


@pytest.mark.parametrize(("name", "code"), [(MX1, "250"), ("d.example", "250"), ("elsewhere.example", "451")])
async def test_names_count_for_DANE_TA(name, code):
    authority = trustme.CA()
    record = tlsa(2, 0, 1, der(authority.cert_pem))
    shown = authority.create_child_ca().issue_cert(name)
    whole = tlsa(2, 0, 0, der(authority.cert_pem))  # the root itself isn't shown
    async with place({AT: {"TLSA": [record, whole]}}, shows=shown) as here:
        answer = await here.send()
        assert answer[:3] == code
        assert not here.is_plain_mail_sent


async def test_dates_count_for_DANE_TA(authority):
    old = authority.issue_cert(MX1, not_before=YESTERDAY, not_after=YESTERDAY.replace(month=2))
    async with place({AT: {"TLSA": [tlsa(2, 0, 0, der(authority.cert_pem))]}}, shows=old) as here:
        assert (await here.send()).startswith("451 4.7.5")
        assert here.told.words == [f"d.example tlsa {MX1} certificate-expired"]


@pytest.mark.parametrize("usage", [2, 3])
async def test_another_certificate_is_never_taken_and_nothing_goes_in_the_clear(leaf, usage):
    record = tlsa(usage, 1, 1, der(OTHER.cert_pem))
    async with place({AT: {"TLSA": [record]}}, shows=leaf) as here:
        assert (await here.send()).startswith("451 4.7.5")
        assert not here.is_plain_mail_sent
        assert here.told.words == [f"d.example tlsa {MX1} certificate-not-trusted"]


async def test_either_usage_is_enough(authority, leaf):
    records = [tlsa(3, 1, 1, der(OTHER.cert_pem)), tlsa(2, 0, 0, der(authority.cert_pem))]
    async with place({AT: {"TLSA": records}}, shows=leaf) as here:
        assert await here.send() == "250"
        assert here.told.words == [f"d.example tlsa {MX1} fine"]


async def test_an_authority_that_was_renewed_under_its_key_is_found_again(leaf, authority):
    """Its certificate changes, the hash of its key doesn't: what was remembered is looked for once more."""
    record = tlsa(2, 1, 1, der(authority.cert_pem))
    middle = authority.create_child_ca()
    async with place(
        {AT: {"TLSA": [record, tlsa(2, 0, 1, der(middle.cert_pem))]}}, shows=middle.issue_cert(MX1)
    ) as here:
        handshakes = here.destinations._dialer._handshakes  # type: ignore[attr-defined]
        assert await here.send() == "250"
        [records] = handshakes._anchors
        handshakes._anchors[records] = (der(OTHER.cert_pem),)
        assert await here.send() == "250"


SCRIPTS: Mapping[str, object] = {
    "stripped": IN_THE_CLEAR,
    "refused": polite(("STARTTLS", "454 4.7.0 no"), offers="STARTTLS"),
    "dropped": polite(("STARTTLS", DROP), offers="STARTTLS"),
    "stalled": polite(("STARTTLS", "220 go"), offers="STARTTLS"),
    "silent": polite(("STARTTLS", HANG), offers="STARTTLS"),
    "nonsense": polite(("STARTTLS", "220 go\n\x15\x03\x03\x00\x02\x02\x28"), offers="STARTTLS"),
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("usage", [2, 3])
async def test_T4_without_tls_mail_waits(leaf, script, usage):
    zone = {AT: {"TLSA": [tlsa(usage, 1, 1, _first(leaf))]}}
    async with place(zone, scripts={ONE: SCRIPTS[script]}, timeouts=QUICK) as here:
        assert (await here.send()).startswith("451")
        assert not here.is_plain_mail_sent


@pytest.mark.parametrize("records", [["1 1 1 " + "ab" * 32], ["3 9 9 ab"], ["3 0 0 ab", "9 0 1 " + "ab" * 32]])
async def test_D2_unusable_records_ask_for_tls_with_anybody(leaf, records):
    async with place({AT: {"TLSA": records}}, shows=leaf) as here:
        assert await here.send() == "250"
        assert here.under_tls() == [True]
        assert (await here.send(tls=Security.DANE_ONLY)).startswith("451")
    async with place({AT: {"TLSA": records}}, scripts={ONE: IN_THE_CLEAR}) as here:
        assert (await here.send()).startswith("451 4.7.10")
        assert not here.is_plain_mail_sent


@pytest.mark.parametrize("rdata", [SERVFAIL, b"", b"\x03", b"\x03\x01\x01", b"\x03\x01\x01\xab", "SILENT"])
async def test_D2_records_that_cant_be_had_skip_the_host(leaf, rdata):
    zone = {AT: {"TLSA": rdata}, "d.example": {"MX": [f"10 {MX1}.", "20 two.isp.example."]}}
    async with place(zone, scripts={ONE: UNDER_TLS, TWO: UNDER_TLS}, shows=leaf) as here:
        assert await here.send() == "250"
        assert here.under_tls(ONE) == []
        assert here.under_tls(TWO) == [True]
    async with place({AT: {"TLSA": rdata}}, shows=leaf) as here:
        assert (await here.send()).startswith("451 4.7.5")
        assert here.under_tls() == []


@pytest.mark.parametrize("secure", [(), ("d.example",), ("isp.example",)])
async def test_what_isnt_validated_counts_for_nothing(leaf, secure):
    record = tlsa(3, 1, 1, der(OTHER.cert_pem))
    async with place({AT: {"TLSA": [record]}}, shows=leaf, secure=secure) as here:
        assert await here.send() == "250"
        assert (await here.send(tls=Security.DANE_ONLY)).startswith("451 4.7.5")
        assert here.told.words[0] == f"d.example no-policy-found {MX1} fine"


async def test_both_the_addresses_and_the_records_are_validated_or_nothing_is(leaf):
    """A signed zone may hold a delegation that isn't signed, and the other way round (rfc7672#2.2.2)."""
    record = tlsa(3, 1, 1, der(OTHER.cert_pem))
    async with place({AT: {"TLSA": [record]}}, shows=leaf) as here:
        for insecure, code in ((AT.replace("PORT", str(here.port)), "250"), (MX1, "250"), ("", "451")):
            here.names.insecure = {insecure}
            here.resolver._known.clear()
            assert (await here.send())[:3] == code


@pytest.mark.parametrize(
    ("at_alias", "at_target", "secure", "code"),
    [
        ("other", "", ("isp.example",), "451"),  # a signed alias of an unsigned name: its own records count
        ("right", "other", ("isp.example",), "250"),  # and only those
        ("", "other", ("isp.example",), "250"),
        ("other", "other", ("else.example",), "250"),  # an alias that isn't signed may lead anywhere
        ("other", "right", ("isp.example", "else.example"), "250"),  # both are signed: the target's first
        ("other", "", ("isp.example", "else.example"), "451"),
    ],
)
async def test_records_of_an_alias(authority, at_alias, at_target, secure, code):
    target = "host.else.example"
    shown = authority.issue_cert(MX1)
    records = {"other": tlsa(3, 1, 1, der(OTHER.cert_pem)), "right": tlsa(3, 1, 1, _first(shown))}
    zone = {
        MX1: {"CNAME": ["middle.else.example."]},
        "middle.else.example": {"CNAME": [f"{target}."]},
        target: {"A": [ONE]},
    }
    if at_alias:
        zone[AT] = {"TLSA": [records[at_alias]]}
    if at_target:
        zone[f"_PORT._tcp.{target}"] = {"TLSA": [records[at_target]]}
    async with place(zone, shows=shown, secure=("d.example", *secure)) as here:
        assert (await here.send())[:3] == code
        assert (here.names.asked[MX1, "CNAME"] == 1) == ("else.example" not in secure or "isp.example" not in secure)
        is_by_dane = here.told.words[0].split()[1] == "tlsa"
        assert is_by_dane == (code == "451" or "right" in (at_alias, at_target))


async def test_AD_is_believed_from_trusted_servers_only(leaf):
    assert not Resolver(nameservers=["192.0.2.53"]).is_trusted
    assert not Resolver(nameservers=["127.0.0.1", "192.0.2.53"]).is_trusted
    assert Resolver(nameservers=["192.0.2.53"], trust_ad=True).is_trusted
    assert Resolver(nameservers=["127.0.0.53", "::1"]).is_trusted
    async with place({AT: {"TLSA": [tlsa(3, 1, 1, der(OTHER.cert_pem))]}}, shows=leaf) as here:
        here.resolver._nameservers().is_trusted = False
        assert await here.send() == "250"


async def test_a_domain_without_mx_has_its_records_at_its_own_name(authority):
    zone = {"alone.example": {"A": [ONE]}, "_PORT._tcp.alone.example": {"TLSA": [tlsa(3, 1, 1, der(OTHER.cert_pem))]}}
    shown = authority.issue_cert("alone.example")
    async with place(zone, shows=shown, secure=("alone.example",)) as here:
        assert (await here.send("ann@alone.example")).startswith("451 4.7.5")
    async with place(zone, shows=shown, secure=()) as here:
        assert await here.send("ann@alone.example") == "250"


async def test_a_relay_that_the_settings_name_goes_by_DANE_too(leaf):
    for record, code in ((tlsa(3, 1, 1, _first(leaf)), "250"), (tlsa(3, 1, 1, der(OTHER.cert_pem)), "451")):
        async with place({AT: {"TLSA": [record]}}, shows=leaf) as here:
            assert (await here.relay(MX1, tls=Security.DANE))[:3] == code
            assert await here.relay(MX1, tls=Security.STARTTLS) == "250"


async def test_the_levels_that_ask_nobody(authority, leaf):
    async with place({}, shows=leaf, trusts=authority) as here:
        for level in (Security.STARTTLS, Security.ENCRYPT, Security.REQUIRED, Security.PUBLISHED, Security.DANE):
            assert await here.send(tls=level) == "250"
        assert (await here.send(tls=Security.SECURE)).startswith("451 4.7.5")
        assert here.under_tls()[:5] == [True] * 5
        assert await here.send(tls=Security.NONE) == "250"
        assert here.under_tls()[6:] == [False]
    async with place({}, shows=authority.issue_cert("mail.d.example"), trusts=authority) as here:
        assert await here.send(tls=Security.SECURE) == "250"
        assert (await here.send(tls=Security.REQUIRED)).startswith("451 4.7.5")
        assert here.told.words[-1].endswith("certificate-host-mismatch")
    async with place({}, shows=leaf) as here:
        assert await here.send(tls=Security.ENCRYPT) == "250"
        for level in (Security.REQUIRED, Security.SECURE):
            assert (await here.send(tls=level)).startswith("451 4.7.5")
        assert not here.is_plain_mail_sent


async def test_rules_for_domains_and_hosts(leaf):
    for match in ("d.example", "*.isp.example", "*"):
        rules = [Rule(("other.example", "*.d.example"), Security.NONE), Rule((match,), Security.REQUIRED)]
        async with place({}, shows=leaf, rules=rules) as here:
            assert (await here.send()).startswith("451 4.7.5")
            assert (await here.relay(MX1, tls=Security.NONE))[:3] == ("250" if match == "d.example" else "451")


async def test_TLS_Required_No_wants_to_arrive(leaf):
    optional = b"TLS-Required: No\r\n" + CONTENT
    async with place({AT: {"TLSA": [tlsa(3, 1, 1, der(OTHER.cert_pem))]}}, shows=leaf) as here:
        assert await here.send(content=optional) == "250"
        assert (await here.send(content=b"TLS-Required: yes\r\n" + CONTENT)).startswith("451")
        assert (await here.send(content=optional, tls=Security.DANE_ONLY)).startswith("451")
        assert (await here.send(content=optional, requiretls=True)).startswith("451")
    async with place({AT: {"TLSA": SERVFAIL}}, scripts={ONE: IN_THE_CLEAR}) as here:
        assert await here.send(content=optional) == "250"


PROMISES = polite(("STARTTLS", UNDER_TLS[0][1]), offers="STARTTLS,REQUIRETLS")


async def test_REQUIRETLS_goes_by_proven_names_to_servers_that_promise_it(authority, leaf):
    async with place({}, scripts={ONE: PROMISES}, shows=leaf, trusts=authority) as here:
        assert await here.send(requiretls=True) == "250"
        assert here.peers[ONE].heard[0][3].endswith(" REQUIRETLS")
        assert await here.relay(MX1, tls=Security.STARTTLS, requiretls=True) == "250"
    async with place({}, scripts={ONE: PROMISES}, shows=leaf, trusts=authority, secure=()) as here:
        assert (await here.send(requiretls=True)).startswith("550 5.7.30 the message requires TLS, and nothing proves")
        assert await here.relay(MX1, tls=Security.STARTTLS, requiretls=True) == "250"
    async with place({}, scripts={ONE: PROMISES}, shows=leaf) as here:
        assert (await here.send(requiretls=True)).startswith("451 4.7.5")
    async with place({}, shows=leaf, trusts=authority) as here:
        assert (await here.send(requiretls=True)).startswith("550 5.7.30")
    async with place({AT: {"TLSA": [tlsa(3, 1, 1, _first(leaf))]}}, scripts={ONE: PROMISES}, shows=leaf) as here:
        assert await here.send(requiretls=True) == "250"


@pytest.mark.parametrize("script", SCRIPTS)
async def test_opportunistic_tls_that_fails_goes_in_the_clear(script):
    async with place({}, scripts={ONE: SCRIPTS[script]}, timeouts=QUICK) as here:
        answer = await here.send(tls=Security.STARTTLS)
        if script == "nonsense":  # T4: what follows the 220 in the clear was said by somebody else
            assert answer.startswith("451")
        else:
            assert answer == "250"


async def test_opportunistic_tls_takes_any_certificate(authority):
    old = authority.issue_cert("elsewhere.example", not_before=YESTERDAY, not_after=YESTERDAY.replace(month=2))
    async with place({}, shows=old) as here:
        assert await here.send(tls=Security.STARTTLS) == "250"
        assert here.under_tls() == [True]
    old = authority.issue_cert(MX1, not_before=YESTERDAY, not_after=YESTERDAY.replace(month=2))
    async with place({}, shows=old, trusts=authority) as here:
        assert (await here.send(tls=Security.REQUIRED)).startswith("451 4.7.5")
        assert here.told.words == [f"d.example no-policy-found {MX1} certificate-expired"]


async def test_a_server_of_TLS_1_3_only(authority):
    """Python 3.11 can't see which authority it shows: then mail waits, and never goes without. See decision 6."""
    leaf = authority.create_child_ca().issue_cert(MX1)
    for record, code in (
        (tlsa(3, 1, 1, _first(leaf)), ("250",)),
        (tlsa(2, 0, 0, der(authority.cert_pem)), ("250",)),
        (tlsa(2, 1, 1, der(authority.cert_pem)), ("451", "250") if sys.version_info >= (3, 13) else ("451",)),
    ):
        async with place({AT: {"TLSA": [record]}}, shows=leaf, least=ssl.TLSVersion.TLSv1_3) as here:
            assert (await here.send())[:3] in code
            assert not here.is_plain_mail_sent
