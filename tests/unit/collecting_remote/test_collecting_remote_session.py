"""A session on another server, with one that behaves: what is there, what it is, what becomes of it."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

import pytest
import trustme

from gatepost.collecting.ports import Found, Refused, TooLarge, Trouble
from gatepost.collecting.remote import Remotes, connect
from gatepost.collecting.remote_login import ways
from gatepost.net.proxies import Via
from gatepost.wire.pop3.client_events import NO_CAPABILITIES, Capabilities
from gatepost.wire.socks import Way
from unit.collecting_remote.bad_server import GOOD, BadServer
from unit.collecting_remote.sessions import MAIL, content, login, refused, session, trouble
from unit.net.proxy_peer import ProxyPeer, running


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(f"C: {line}")

    def heard(self, line: str) -> None:
        self.lines.append(f"S: {line}")


async def test_a_maildrop_is_emptied() -> None:
    server, talk = BadServer(list(MAIL)), Heard()
    async with session(server, talk) as remote:
        assert remote.has_uidl and remote.has_top
        found = await remote.messages()
        assert found == [Found(number, len(MAIL[number - 1]), f"uid{number}") for number in (1, 2, 3)]
        for one in found:
            assert await content(remote, one.number) == MAIL[one.number - 1]
            await remote.delete(one.number)
        assert len(server.mail) == 3
        await remote.quit()
        assert server.mail == []
    assert talk.lines[:6] == [
        "S: +OK ready <1896.697170952@pop.example.org>", "C: CAPA", "S: +OK",
        "C: APOP ann ***", "S: +OK", "C: LIST",
    ]  # fmt: skip
    assert "secret" not in "".join(talk.lines)


async def test_a_session_without_quit_deletes_nothing() -> None:
    server = BadServer(list(MAIL))
    async with session(server) as remote:
        await remote.delete(1)
        await remote.abort()
        assert len(server.mail) == 3
        assert (await trouble(remote.messages)).kind is Trouble.LOST
        await remote.abort()


async def test_the_header_alone() -> None:
    server = BadServer(list(MAIL))
    async with session(server) as remote:
        assert [await remote.header(number) for number in (1, 2, 3)] == [
            b"Subject: one\r\n", b"Subject: two\r\n", b"",
        ]  # fmt: skip
        server.says["TOP 1"] = b"+OK\r\nA: 1\r\n.\r\n"
        assert await remote.header(1) == b"A: 1\r\n"
        server.says["TOP 1"] = b"+OK\r\n.\r\n"
        assert await remote.header(1) == b""
        server.says["TOP 1"] = b"+OK\r\nA: 1\r\n\r\n" + b"body\r\n" * 50_000 + b".\r\n"
        assert await remote.header(1) == b"A: 1\r\n"
        server.says["TOP 1"] = b"+OK\r\n" + b"A: 1\r\n" * 100_000 + b".\r\n"
        assert await remote.header(1) == b"A: 1\r\n" * ((256 * 1024 - 2) // 6)
        assert await content(remote, 2) == MAIL[1]
        server.says = {"TOP": b"-ERR no\r\n"}
        assert await remote.header(1) is None and not remote.has_top
        assert await remote.header(1) is None and server.heard[-1] == "TOP 1 0"


async def test_too_large_and_refused_messages_leave_the_session_as_it_is() -> None:
    server = BadServer([b"x" * 100_000 + b"\r\n", *MAIL])
    async with session(server) as remote:
        with pytest.raises(TooLarge, match="1000"):
            await content(remote, 1, 1000)
        assert await content(remote, 2) == MAIL[0]
        with pytest.raises(Refused, match="no"):
            await content(remote, 99)
        with pytest.raises(Refused):
            await remote.delete(99)
        async for _ in remote.retrieve(1, 1 << 20):
            break  # nobody wants the rest
        await remote.delete(1)
        await remote.quit()
        assert server.mail == MAIL


@pytest.mark.parametrize("capa", [GOOD, tuple(tag for tag in GOOD if tag != "PIPELINING"), None])
async def test_many_are_deleted_at_once(capa: tuple[str, ...] | None) -> None:
    server = BadServer([b"%d\r\n" % number for number in range(300)], capa=capa)
    async with session(server) as remote:
        assert await remote.delete_all([*range(1, 251), 999]) == [999]
        await remote.quit()
        assert len(server.mail) == 50


async def test_an_empty_maildrop() -> None:
    server = BadServer([])
    async with session(server) as remote:
        assert await remote.messages() == [] and remote.has_uidl
        server.says |= {"LIST": b"-ERR nothing here\r\n", "UIDL": b"-ERR nothing here\r\n"}
        assert await remote.messages() == [] and remote.has_uidl
        server.says["STAT"] = b"+OK 3 100\r\n"
        assert (await trouble(remote.messages)).kind is Trouble.PROTOCOL


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context(authority: trustme.CA, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """A server's, and its certificate's fingerprint."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert(name)
    certificate.configure_cert(made)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    return made, hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls_with_whom_is_trusted(authority: trustme.CA, tls: str, tmp_path: Path) -> None:
    made, fingerprint = context(authority)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    server = BadServer(list(MAIL), tls=made, implicit=tls == "implicit")
    colons = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    remotes = Remotes()
    async with server.running():
        for trusting in ({"ca": ca}, {"fingerprint": fingerprint}, {"fingerprint": colons}, {"verify": False}):
            remote = await remotes.connect(login(server, tls=tls, **trusting))
            assert len(await remote.messages()) == 3
            await remote.quit()
        server.heard.clear()
        for trusting in ({}, {"fingerprint": "0" * 64}, {"ca": tmp_path / "none.pem"}):
            error = await trouble(partial(remotes.connect, login(server, tls=tls, **trusting)))
            assert error.kind is Trouble.TLS
    assert set(server.heard) <= {"STLS"}


async def test_a_certificate_for_somebody_else(authority: trustme.CA, tmp_path: Path) -> None:
    made, _ = context(authority, "other.example")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = BadServer(tls=made, implicit=True)
    error = await refused(server, tls="implicit", ca=tmp_path / "ca.pem")
    assert error.kind is Trouble.TLS and "mismatch" in str(error)


async def test_tls_where_there_is_none() -> None:
    error = await refused(BadServer(), tls="implicit", verify=False)
    assert error.kind is Trouble.TLS


# Logging in


def offering(*mechanisms: str, user: bool = True) -> Capabilities:
    return Capabilities({"SASL": mechanisms, **({"USER": ()} if user else {})}, True)


EVERYTHING = offering("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
STAMP = "<a@b>"


async def a_token() -> str:
    return "the-token"


@pytest.mark.parametrize(
    ("facts", "offered", "stamp", "expected"),
    [
        ({}, EVERYTHING, STAMP, "scram-sha-256"),
        ({}, offering("CRAM-MD5", "PLAIN"), STAMP, "cram-md5"),
        ({}, offering("PLAIN"), STAMP, "apop"),
        ({}, offering("PLAIN"), "", "plain"),
        ({}, offering(), "", "user"),
        ({}, offering(user=False), "", "user"),
        ({}, NO_CAPABILITIES, "", "user"),
        ({"tls": "implicit"}, EVERYTHING, STAMP, "plain"),
        ({"tls": "starttls"}, offering("SCRAM-SHA-256"), STAMP, "user"),
        ({"tls": "starttls"}, offering("SCRAM-SHA-256", user=False), STAMP, "scram-sha-256"),
        ({"tls": "implicit", "verify": False}, EVERYTHING, STAMP, "scram-sha-256"),
        ({"tls": "implicit", "verify": False, "fingerprint": "00"}, EVERYTHING, STAMP, "plain"),
        ({"mechanisms": ("login", "user")}, EVERYTHING, STAMP, "login"),
        ({"mechanisms": ("xoauth2",)}, offering(), STAMP, "xoauth2"),
        ({"mechanisms": ("apop", "plain")}, EVERYTHING, "", "plain"),
        ({"mechanisms": ("apop",)}, EVERYTHING, "", ""),
        ({"token": a_token, "tls": "implicit"}, EVERYTHING, STAMP, "oauthbearer"),
        ({"token": a_token, "tls": "implicit"}, offering("XOAUTH2"), STAMP, "xoauth2"),
    ],
)
def test_how_an_account_logs_in(facts: dict[str, object], offered: Capabilities, stamp: str, expected: str) -> None:
    assert [*ways(login(BadServer(), **facts), offered, stamp), ""][0] == expected


async def test_apop_needs_a_timestamp() -> None:
    error = await refused(BadServer(says={"": b"+OK hi\r\n"}), mechanisms=("apop",))
    assert error.kind is Trouble.LOGIN and "timestamp" in str(error)


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
@pytest.mark.parametrize("is_good", [True, False])
async def test_a_token_instead_of_a_password(mechanism: str, is_good: bool) -> None:
    answer = b"+OK\r\n" if is_good else b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n"
    server = BadServer(capa=("SASL XOAUTH2 OAUTHBEARER",), says={"AUTH": answer})
    if is_good:
        async with session(server, mechanisms=(mechanism,), token=a_token) as remote:
            assert await remote.messages() == []
        assert server.heard[1].startswith(f"AUTH {mechanism.upper()} ")
    else:
        server.says["AQ=="] = b"-ERR [AUTH] expired\r\n"
        server.says[""] = lambda of, _: b"-ERR [AUTH] expired\r\n" if of.server.heard else b"+OK\r\n"
        error = await refused(server, mechanisms=(mechanism,), token=a_token)
        assert error.kind is Trouble.LOGIN and "expired" in str(error)


@pytest.mark.parametrize("user", ["a\r\nDELE 1", "a\0b"])
async def test_a_name_that_cannot_be_said(user: str) -> None:
    server = BadServer()
    for mechanism in "user", "apop", "plain":
        assert (await refused(server, user=user, mechanisms=(mechanism,))).kind is Trouble.LOGIN
    assert set(server.heard) <= {"CAPA", "AUTH PLAIN"}


@pytest.mark.parametrize("way", [Way.SOCKS5, Way.HTTP])
async def test_through_a_proxy(way: Way) -> None:
    server, proxy = BadServer(list(MAIL)), ProxyPeer(names={"pop.example.org": ("127.0.0.1", 0)})
    async with server.running(), running(proxy):
        proxy.names["pop.example.org"] = ("127.0.0.1", server.port)
        facts = proxy.facts(way)
        remotes = Remotes(via=Via(facts.host, facts.port, facts.tunnel))
        remote = await remotes.connect(login(server, host="pop.example.org"))
        assert len(await remote.messages()) == 3
        await remote.quit()
    assert proxy.asked == [("pop.example.org", server.port)]


async def test_nobody_is_there() -> None:
    async with BadServer().running() as server:
        facts = login(server)
    error = await trouble(lambda: connect(facts))
    assert error.kind is Trouble.LOST and error.args[0].startswith("127.0.0.1:")


async def test_what_fetches_the_token_may_fail() -> None:
    async def failing() -> str:
        raise LookupError("no token")

    server = BadServer()
    async with server.running():
        what: Awaitable[object] = connect(login(server, token=failing))
        with pytest.raises(LookupError):
            await what
    assert server.sessions == 0
