"""Certificates: chosen by name, reread when they change, kept when that is broken; tickets stay with their listener."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatepost.net import connect, listen
from gatepost.net.certificates import CertificateError, Certificates, Pair, client_context


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session=None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory, the client having read its ticket."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there, server_hostname=name, session=session)
    for side in (theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    ours.write(b"x")
    assert theirs.read(1) == b"x"
    return ours, theirs


def _names(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> set[str]:
    client.check_hostname = False
    _, theirs = _shaken(server, client, name)
    return {value for kind, value in theirs.getpeercert()["subjectAltName"]}


def _replace(pair: Pair, other: Pair) -> None:
    """As an ACME client does: new files are renamed over the old ones."""
    other.chain.rename(pair.chain)
    other.key.rename(pair.key)


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = client_context(verify=True)
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize(
    ("asked_for", "shown"),
    [
        ("mx.example.org", "mx.example.org"),
        ("MX.Example.ORG", "mx.example.org"),
        ("mail.example.net", "*.example.net"),
        ("a.mail.example.net", "mx.example.org"),  # a star stands for one label
        ("example.net", "mx.example.org"),
        ("unknown.example", "mx.example.org"),
        (None, "mx.example.org"),
    ],
)
def test_the_certificate_is_chosen_by_name(tmp_path, issue, trusting, asked_for, shown):
    pairs = [issue(tmp_path, "mx.example.org", file="one"), issue(tmp_path, "*.example.net", file="two")]
    assert _names(Certificates(pairs).context("mx"), trusting, asked_for) == {shown}


def test_a_name_in_two_certificates_belongs_to_the_first(tmp_path, issue, trusting):
    pairs = [issue(tmp_path, f"{file}.example", "both.example", file=file) for file in ("one", "two", "three")]
    certificates = Certificates([pairs[0], pairs[1], pairs[2]])
    assert _names(certificates.context("mx"), trusting, "both.example") == {"one.example", "both.example"}


def test_T8_changed_files_are_reread_at_most_once_a_second(tmp_path, issue, trusting):
    clock = _Clock()
    pair = issue(tmp_path, "old.example")
    certificates = Certificates([pair], clock=clock)
    before = certificates.context("mx")
    _replace(pair, issue(tmp_path, "new.example", file="fresh"))
    clock.now = 0.9
    assert certificates.context("mx") is before
    clock.now = 1.0
    assert _names(certificates.context("mx"), trusting, None) == {"new.example"}
    assert certificates.expiry()[0][0] == "new.example"


def test_unchanged_files_keep_the_context_and_so_the_tickets(tmp_path, issue):
    certificates = Certificates([issue(tmp_path, "mx.example")])
    context = certificates.context("mx")
    assert certificates.refresh() is False
    assert certificates.context("mx") is context


async def test_T8_reload_in_the_middle_of_a_handshake(tmp_path, issue, trusting, connected):
    pair = issue(tmp_path, "old.example")
    certificates = Certificates([pair])
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(there, back, server_hostname="old.example")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = back.read()
        upgrade = asyncio.ensure_future(stream.start_tls(certificates.context("mx"), server_side=True))
        peer.send(hello[:50])
        await asyncio.sleep(0)
        _replace(pair, issue(tmp_path, "new.example", file="fresh"))
        assert certificates.refresh() is True
        peer.send(hello[50:])
        while not upgrade.done():
            there.write(await loop.sock_recv(peer, 65536))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
            peer.send(back.read())
            await upgrade
        assert {value for _, value in client.getpeercert()["subjectAltName"]} == {"old.example"}
        client.write(b"EHLO a\r\n")
        peer.send(back.read())
        assert await stream.receive() == b"EHLO a\r\n"
    assert _names(certificates.context("mx"), trusting, None) == {"new.example"}


@pytest.mark.parametrize("broken", ["garbage", "another key", "missing", "empty"])
def test_T8_a_broken_new_file_keeps_the_old_one_and_is_told_once(tmp_path, issue, trusting, caplog, broken):
    pair = issue(tmp_path, "old.example")
    certificates = Certificates([pair])
    before = certificates.context("mx")
    match broken:
        case "garbage":
            pair.chain.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")
        case "another key":
            issue(tmp_path, "new.example", file="fresh").key.rename(pair.key)
        case "missing":
            pair.key.unlink()
        case "empty":
            pair.chain.write_text("")
    with caplog.at_level(logging.ERROR, "gatepost.net"):
        assert certificates.refresh() is False
        assert certificates.refresh() is False
    assert certificates.context("mx") is before
    assert len(caplog.records) == 1
    assert str(tmp_path) in caplog.text
    issue(tmp_path, "new.example")
    assert certificates.refresh() is True
    assert _names(certificates.context("mx"), trusting, None) == {"new.example"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_T5_a_ticket_of_one_listener_is_refused_by_another(pair, trusting, version):
    certificates = Certificates([pair])
    trusting.maximum_version = version
    _, first = _shaken(certificates.context("mx"), trusting, "mx.example.org")
    _, again = _shaken(certificates.context("mx"), trusting, "mx.example.org", session=first.session)
    _, other = _shaken(certificates.context("submission"), trusting, "mx.example.org", session=first.session)
    assert not first.session_reused
    assert again.session_reused
    assert not other.session_reused


def test_expiry_tells_the_end_of_each_certificate(tmp_path, authority, issue):
    end = datetime(2040, 5, 17, 12, 30, tzinfo=UTC)
    certificate = authority.issue_cert("dated.example", not_after=end)
    dated = Pair(tmp_path / "dated.pem", tmp_path / "dated.key")
    certificate.cert_chain_pems[0].write_to_path(str(dated.chain))
    certificate.private_key_pem.write_to_path(str(dated.key))
    found = Certificates([dated, issue(tmp_path, "mx.example")]).expiry()
    assert found[0] == ("dated.example", end)
    assert found[1][0] == "mx.example"


def test_an_expired_certificate_is_used_and_its_end_told(tmp_path, authority):
    begin, end = datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    certificate = authority.issue_cert("old.example", not_after=end, not_before=begin)
    pair = Pair(tmp_path / "old.pem", tmp_path / "old.key")
    certificate.cert_chain_pems[0].write_to_path(str(pair.chain))
    certificate.private_key_pem.write_to_path(str(pair.key))
    assert Certificates([pair]).expiry() == [("old.example", end)]


def test_what_cannot_be_used_is_refused_by_name(tmp_path, issue):
    one, two = issue(tmp_path, "one.example", file="one"), issue(tmp_path, "two.example", file="two")
    with pytest.raises(CertificateError, match=r"two\.key is not the key of .*one\.pem"):
        Certificates([Pair(one.chain, two.key)])
    with pytest.raises(CertificateError, match=r"absent\.pem: No such file"):
        Certificates([Pair(tmp_path / "absent.pem", one.key)])
    with pytest.raises(CertificateError, match="no PEM"):
        Certificates([Pair(Path(os.devnull), one.key)])
    with pytest.raises(CertificateError, match="no certificate is given"):
        Certificates([])


async def test_a_listener_takes_the_new_certificate_without_a_restart(tmp_path, issue, trusting):
    clock = _Clock()
    pair = issue(tmp_path, "old.example")
    certificates = Certificates([pair], clock=clock)

    async def nothing(stream) -> None:
        await stream.receive()

    listener = await listen(("127.0.0.1", 0), nothing, tls=lambda: certificates.context("mx"))
    for name in ("old.example", "new.example"):
        client = await connect(*listener.address, timeout=5)
        await client.start_tls(trusting, server_side=False, server_hostname=name)
        await client.close()
        if name == "old.example":
            _replace(pair, issue(tmp_path, "new.example", file="fresh"))
            clock.now += 1
    await listener.close()
    await listener.finished()


@pytest.mark.parametrize("which", ["chain", "key"])
def test_the_file_that_cant_be_read_is_named(issue, tmp_path, monkeypatch, which):
    """Root may read everything, so the system's refusal is played: OpenSSL's has no file name in it."""
    pair = issue(tmp_path, "mx.example.org")
    closed = getattr(pair, which)
    real = Path.open

    def guarded(file: Path, *args, **kwargs):
        if file == closed:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **kwargs)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", guarded)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refused)
    with pytest.raises(CertificateError, match=f"^{closed}: Permission denied$"):
        Certificates([pair])
