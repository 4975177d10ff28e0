"""MTA-STS (RFC 8461): reading, fetching from an HTTPS server on loopback, keeping, and what mail then does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trustme

from gatepost.delivery import Security
from gatepost.delivery.handshakes import Trouble
from gatepost.delivery.sts_policies import Found, Policies
from gatepost.net.certificates import client_context
from gatepost.net.https import Https
from gatepost.net.mta_sts import Fetcher, FetchFailed, Mode, Policy, PolicyInvalid, policy_id
from gatepost.net.resolver import StaticResolver
from gatepost.store.ledger import MemoryLedger
from unit.delivery.delivery_peer import TLS, polite
from unit.delivery.tls_town import IN_THE_CLEAR, MX1, MX2, ONE, TWO, UNDER_TLS, der, place, tlsa
from unit.net.name_server import SERVFAIL

ENFORCE = "version: STSv1\r\nmode: enforce\r\nmx: one.isp.example\r\nmx: *.far.example\r\nmax_age: 604800\r\n"
TXT = {"_mta-sts.d.example": {"TXT": ['"v=STSv1; id=20260101;"']}}
DAY = 86_400


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=a"], "a"),
        (["v=spf1 -all", "v=STSv1; other=1; id=a; "], "a"),
        (["v=STSv1; id=a;", "v=STSv1; id=b;"], None),
        (["v=STSv1; id=;"], None),
        (["v=STSv1; id=a-b;"], None),
        (["v=STSv1; id=" + "a" * 33], None),
        (["v=STSv1"], None),
        (["v=STSv10; id=a"], None),
        ([], None),
    ],
)
def test_the_record(records, found):
    assert policy_id(records) == found


def test_a_policy():
    policy = Policy.parse(ENFORCE + "mode: none\nextension: x\n\n")
    assert policy == Policy(Mode.ENFORCE, ("one.isp.example", "*.far.example"), 604800)
    assert policy.admits("One.ISP.example.")
    assert policy.admits("a.far.example")
    assert not policy.admits("a.b.far.example")
    assert not policy.admits("far.example")
    assert not policy.admits("two.isp.example")
    assert Policy.parse("\n".join(policy.lines)) == policy
    assert Policy.parse("version: STSv1\nmode: none\nmax_age: 99999999999999"[:-4]).max_age == 31_557_600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mode: enforce\nmx: a.example\nmax_age: 1",
        "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 1",
        "version: STSv1\nmode: strict\nmx: a.example\nmax_age: 1",
        "version: STSv1\nmode: enforce\nmax_age: 1",
        "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1",
        "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: ٣",
        "version: STSv1\nmode: enforce\nmx: a.example",
        "version: STSv1\nmode: enforce\nmx: *\nmax_age: 1",
        "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 1",
        "version: STSv1\nmode: enforce\nmx: a\x00b\nmax_age: 1",
        "<html>nothing here</html>",
        "version: STSv1\nmode: enforce\nmax_age: 1\n" + "mx: a.example\n" * 300,
    ],
)
def test_what_is_no_policy(text):
    with pytest.raises(PolicyInvalid):
        Policy.parse(text)


# ── fetching ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Web:
    """An HTTPS server that answers as it is told. `asked` has the requests' heads."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answer = ok(ENFORCE)
        self.asked: list[str] = []
        self.port = 0
        self._context = context

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode())
        writer.write(self.answer)
        if self.answer:
            writer.close()


def ok(text: str, kind: str = "text/plain") -> bytes:
    body = text.encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def web(shown: trustme.LeafCert) -> AsyncIterator[Web]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.configure_cert(context)
    here = Web(context)
    server = await asyncio.start_server(here.serve, "127.0.0.1", 0, ssl=context)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority) -> Callable[[], ssl.SSLContext]:
    def context() -> ssl.SSLContext:
        made = client_context(verify=True)
        authority.configure_trust(made)
        return made

    return context


NAMES = StaticResolver({"mta-sts.d.example": "127.0.0.1"})


def _fetcher(here: Web, trusting: Callable[[], ssl.SSLContext], **how: object) -> Fetcher:
    return Fetcher(Https(NAMES, trusting, port=here.port, **{"allow_private": True, "timeout_s": 5, **how}))  # type: ignore[arg-type]


async def test_a_policy_is_fetched_from_its_server(authority, trusting):
    async with web(authority.issue_cert("mta-sts.d.example")) as here:
        assert (await _fetcher(here, trusting).fetch("d.example")).mode is Mode.ENFORCE
        [asked] = here.asked
        assert asked.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
        assert "\r\nHost: mta-sts.d.example\r\n" in asked
        here.answer = ok(ENFORCE, "text/plain; charset=utf-8")
        assert (await _fetcher(here, trusting).fetch("d.example")).mode is Mode.ENFORCE


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: https://mta-sts.d.example/other\r\nContent-Length: 0\r\n\r\n", FetchFailed),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", FetchFailed),
        (b"nonsense\r\n\r\n", FetchFailed),
        (ok(ENFORCE, "text/html"), PolicyInvalid),
        (ok(ENFORCE + "x: y\r\n" * 20_000), PolicyInvalid),
        (ok(ENFORCE)[:-50], FetchFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n\xff\xff", PolicyInvalid),
    ],
)
async def test_what_isnt_taken_for_a_policy(authority, trusting, answer, error):
    async with web(authority.issue_cert("mta-sts.d.example")) as here:
        here.answer = answer
        with pytest.raises(error):
            await _fetcher(here, trusting).fetch("d.example")
        assert len(here.asked) == 1


async def test_a_server_that_is_not_the_domains_or_not_on_the_internet_or_silent(authority, trusting):
    async with web(authority.issue_cert("d.example")) as here:
        with pytest.raises(FetchFailed, match="mismatch"):
            await _fetcher(here, trusting).fetch("d.example")
    async with web(trustme.CA().issue_cert("mta-sts.d.example")) as here:
        with pytest.raises(FetchFailed):
            await _fetcher(here, trusting).fetch("d.example")
    async with web(authority.issue_cert("mta-sts.d.example")) as here:
        with pytest.raises(FetchFailed, match="never called"):
            await _fetcher(here, trusting, allow_private=False).fetch("d.example")
        here.answer = b""
        with pytest.raises(FetchFailed, match=r"within 0\.2 s"):
            await _fetcher(here, trusting, timeout_s=0.2).fetch("d.example")


# ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Scripted:
    """A fetcher that gives what it is told to; `fetched` counts."""

    def __init__(self, policy: Policy | Exception) -> None:
        self.policy = policy
        self.fetched = 0

    async def fetch(self, domain: str) -> Policy:
        self.fetched += 1
        if isinstance(self.policy, Exception):
            raise self.policy
        return self.policy


class _Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


STRICT = Policy(Mode.ENFORCE, ("one.isp.example",), 7 * DAY)
LOOSE = Policy(Mode.NONE, (), DAY)


class Kept:
    """Policies with everything around them; `again()` is another process with the same ledger."""

    def __init__(self, policy: Policy | Exception = STRICT) -> None:
        self.clock = _Clock()
        self.zone: dict[str, str | dict[str, str]] = {"_mta-sts.d.example": {"TXT": "v=STSv1; id=1;"}}
        self.fetcher = Scripted(policy)
        self.ledger = MemoryLedger(self.clock)

    def again(self) -> Policies:
        return Policies(StaticResolver(self.zone), self.ledger, self.fetcher, clock=self.clock)


async def test_a_policy_is_kept_and_shared():
    kept = Kept()
    policies = kept.again()
    assert await asyncio.gather(*(policies.find("d.example") for _ in range(5))) == [Found(STRICT)] * 5
    assert await kept.again().find("d.example") == Found(STRICT)
    assert kept.fetcher.fetched == 1
    assert await policies.find("other.example") == Found()


async def test_a_policy_outlives_its_record_and_its_server():
    kept = Kept()
    assert await kept.again().find("d.example") == Found(STRICT)
    kept.fetcher.policy = FetchFailed("cut off")
    for record in ({"TXT": "v=STSv1; id=2;"}, "SERVFAIL", {"TXT": "nothing"}):
        kept.zone["_mta-sts.d.example"] = record
        kept.clock.now += DAY + 1
        assert await kept.again().find("d.example") == Found(STRICT)
    kept.clock.now += 7 * DAY
    assert await kept.again().find("d.example") == Found()


async def test_a_policy_is_fetched_anew_by_its_id_and_daily():
    kept = Kept()
    policies = kept.again()
    await policies.find("d.example")
    kept.fetcher.policy = LOOSE
    kept.clock.now += 3600
    assert await policies.find("d.example") == Found(STRICT)
    kept.zone["_mta-sts.d.example"] = {"TXT": "v=STSv1; id=2;"}
    assert await kept.again().find("d.example") == Found(LOOSE)
    assert kept.fetcher.fetched == 2
    kept = Kept()
    await kept.again().find("d.example")
    kept.fetcher.policy = LOOSE
    kept.clock.now += DAY + 1
    assert await kept.again().find("d.example") == Found(LOOSE)


async def test_a_fetch_that_failed_isnt_repeated_at_once():
    for error, trouble in ((FetchFailed("x"), Trouble.STS_FETCH), (PolicyInvalid("x"), Trouble.STS_INVALID)):
        kept = Kept(error)
        policies = kept.again()
        for _ in range(3):
            assert await policies.find("d.example") == Found(None, trouble)
            kept.clock.now += 61
        assert kept.fetcher.fetched == 1
        kept.fetcher.policy = STRICT
        kept.clock.now += 300
        assert await policies.find("d.example") == Found(STRICT)


# ── mail ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _under(policy: Policy | Exception) -> Callable[[object], Policies]:
    return lambda resolver: Policies(
        resolver,  # type: ignore[arg-type]
        MemoryLedger(_Clock()),
        Scripted(policy),
        clock=_Clock(),
    )


async def test_an_enforced_policy_wants_the_right_name_on_the_right_host(authority):
    for shown, told in (
        (authority.issue_cert(MX1), "fine"),
        (authority.issue_cert("other.example"), "certificate-host-mismatch"),
        (trustme.CA().issue_cert(MX1), "certificate-not-trusted"),
    ):
        async with place(TXT, shows=shown, trusts=authority, secure=(), policies=_under(STRICT)) as here:
            assert (await here.send())[:9] == ("250" if told == "fine" else "451 4.7.5")
            assert here.told.words == [f"d.example sts {MX1} {told}"]
            assert not here.is_plain_mail_sent
            assert await here.send(tls=Security.STARTTLS) == "250"
            assert await here.send(tls=Security.DANE) == "250"
    async with place(TXT, scripts={ONE: IN_THE_CLEAR}, secure=(), policies=_under(STRICT)) as here:
        assert (await here.send()).startswith("451 4.7.10")
        assert here.told.words == [f"d.example sts {MX1} starttls-not-supported"]


async def test_only_hosts_that_the_policy_names(authority):
    zone = {**TXT, "d.example": {"MX": [f"5 {MX2}.", f"10 {MX1}."]}}
    scripts = {ONE: UNDER_TLS, TWO: UNDER_TLS}
    shown = authority.issue_cert(MX1, MX2)
    async with place(zone, scripts=scripts, shows=shown, trusts=authority, policies=_under(STRICT)) as here:
        assert await here.send() == "250"
        assert here.under_tls(TWO) == []
    zone["d.example"] = {"MX": [f"5 {MX2}."]}
    async with place(zone, scripts=scripts, shows=shown, trusts=authority, policies=_under(STRICT)) as here:
        answer = await here.send()
        assert answer.startswith("451 4.7.5")
        assert "doesn't name it" in answer


async def test_a_policy_on_trial_is_told_of_and_not_kept_to(authority):
    testing = Policy(Mode.TESTING, (MX1,), DAY)
    for shown, told in ((authority.issue_cert(MX1), "fine"), (trustme.CA().issue_cert(MX1), "certificate-not-trusted")):
        async with place(TXT, shows=shown, trusts=authority, policies=_under(testing)) as here:
            assert await here.send() == "250"
            assert here.told.words == [f"d.example sts {MX1} {told}"]
            assert not here.is_plain_mail_sent
    async with place(TXT, scripts={ONE: IN_THE_CLEAR}, policies=_under(testing)) as here:
        assert await here.send() == "250"
        assert here.told.words == [f"d.example sts {MX1} starttls-not-supported"]


async def test_no_policy_and_none_that_can_be_fetched_leave_it_opportunistic(authority):
    for policy in (LOOSE, FetchFailed("x")):
        async with place(TXT, scripts={ONE: IN_THE_CLEAR}, policies=_under(policy)) as here:
            assert await here.send() == "250"
            if policy is not LOOSE:
                assert here.told.words[0] == f"d.example sts {MX1} sts-policy-fetch-error"
    async with place(
        {"_mta-sts.d.example": {"TXT": SERVFAIL}}, scripts={ONE: IN_THE_CLEAR}, policies=_under(STRICT)
    ) as here:
        assert await here.send() == "250"


async def test_REQUIRETLS_is_content_with_a_policy(authority):
    promises = polite(("STARTTLS", TLS), offers="STARTTLS,REQUIRETLS")
    testing = Policy(Mode.TESTING, (MX1,), DAY)
    for policy, code in ((STRICT, "250"), (testing, "250"), (LOOSE, "550"), (FetchFailed("x"), "451")):
        here = place(
            TXT,
            scripts={ONE: promises},
            shows=authority.issue_cert(MX1),
            trusts=authority,
            secure=(),
            policies=_under(policy),
        )
        async with here as there:
            assert (await there.send(requiretls=True))[:3] == code


async def test_DANE_goes_before_MTA_STS(authority):
    leaf = trustme.CA().issue_cert(MX1)
    own = tlsa(3, 1, 1, der(leaf.cert_chain_pems[0]))
    other = tlsa(3, 1, 1, der(trustme.CA().cert_pem))
    for record, shown, code in ((own, leaf, "250"), (other, authority.issue_cert(MX1), "451")):
        zone = {**TXT, f"_PORT._tcp.{MX1}": {"TLSA": [record]}}
        async with place(zone, shows=shown, trusts=authority, policies=_under(STRICT)) as here:
            assert (await here.send())[:3] == code
            assert here.told.words[0].startswith("d.example tlsa")


async def test_a_name_that_nobody_can_have_is_a_failed_fetch(authority, trusting):
    async with web(authority.issue_cert("mta-sts.d.example")) as here:
        name = "a" * 64 + ".example"
        names = StaticResolver({f"mta-sts.{name}": "127.0.0.1"})
        fetcher = Fetcher(Https(names, trusting, port=here.port, allow_private=True, timeout_s=5))
        with pytest.raises(FetchFailed):
            await fetcher.fetch(name)


async def test_a_certificate_of_ours_that_is_gone_is_a_failed_fetch(authority):
    def gone() -> ssl.SSLContext:
        raise FileNotFoundError(2, "No such file or directory", "us.pem")

    async with web(authority.issue_cert("mta-sts.d.example")) as here:
        with pytest.raises(FetchFailed, match="can't be shown"):
            await _fetcher(here, gone).fetch("d.example")
