"""TLSA records: which are usable, which certificate they mean, and the certificates a server shows."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatepost.net import HandshakeFailed
from gatepost.net.client_contexts import Contexts
from gatepost.net.dane import DANE_EE, DANE_TA, Tlsa, find_anchors, names_match, usable
from gatepost.net.glance import certificates, glance, glancing_context


def _der(pem: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


def _spki(der: bytes) -> bytes:
    key = x509.load_der_x509_certificate(der).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def leaf(authority) -> bytes:
    return _der(authority.issue_cert("mx.example.org").cert_chain_pems[0])


@pytest.mark.parametrize("key_type", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
@pytest.mark.parametrize("selector", [0, 1])
def test_all_selectors_and_matching_types(authority, key_type, selector):
    der = _der(authority.issue_cert("mx.example.org", key_type=key_type).cert_chain_pems[0])
    other = _der(authority.issue_cert("mx.example.org", key_type=key_type).cert_chain_pems[0])
    selected = _spki(der) if selector else der
    for matching, data in enumerate([selected, hashlib.sha256(selected).digest(), hashlib.sha512(selected).digest()]):
        record = Tlsa.parse(f"3 {selector} {matching} {data.hex()}")
        assert record is not None
        assert record.is_usable
        assert record.matches(der)
        assert not record.matches(other)


@pytest.mark.parametrize(
    "text",
    [
        "3 1 1 ",  # three octets of rdata (D2)
        "3 1 1 abcd",
        "0 0 1 " + "ab" * 32,  # PKIX usages
        "1 1 1 " + "ab" * 32,
        "3 2 1 " + "ab" * 32,
        "3 1 3 " + "ab" * 32,
        "255 255 255 " + "ab" * 32,
        "3 1 2 " + "ab" * 32,
        "3 0 0 " + "ab" * 32,  # no certificate
        "2 0 0 3082ffff00",
        "3 1 0 30",
        "3 0 0 3084",
    ],
)
def test_what_is_nonsense_is_unusable(text):
    record = Tlsa.parse(text)
    assert record is not None
    assert not record.is_usable
    assert usable([record]) == ()


@pytest.mark.parametrize("text", ["", "3", "3 1", "x y z", "3 1 1 zz", "3 1 1 abc"])
def test_what_is_no_record(text):
    assert Tlsa.parse(text) is None


def test_only_the_stronger_hash_counts(leaf):
    weak = Tlsa(DANE_EE, 0, 1, hashlib.sha256(leaf).digest())
    strong = Tlsa(DANE_EE, 0, 2, bytes(64))
    broken = Tlsa(DANE_EE, 0, 2, bytes(63))
    elsewhere = Tlsa(DANE_TA, 0, 2, bytes(64))
    assert usable([weak, strong, elsewhere]) == (strong, elsewhere)
    assert usable([weak, broken]) == (weak,)


def test_matching_survives_every_cut(leaf):
    record = Tlsa(DANE_EE, 1, 1, hashlib.sha256(_spki(leaf)).digest())
    assert [at for at in range(len(leaf)) if record.matches(leaf[:at])] == []


@pytest.mark.parametrize(
    ("certified", "wanted", "matches"),
    [
        ("mx.example.org", "mx.example.org", True),
        ("MX.Example.ORG", "mx.example.org.", True),
        ("*.example.org", "mx.example.org", True),
        ("*.example.org", "a.mx.example.org", False),
        ("*.example.org", "example.org", False),
        ("m*.example.org", "mx.example.org", False),
        ("mx.example.org", ".example.org", True),
        ("example.org", ".example.org", False),
        ("badexample.org", ".example.org", False),
        ("*.example.org", ".example.org", True),
        ("", "mx.example.org", False),
    ],
)
def test_names(certified, wanted, matches):
    assert names_match([certified], [wanted]) is matches


def _contexts_of_server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.org").configure_cert(context)
    return context


async def test_a_glance_finds_the_authority_in_the_chain_and_openssl_judges_with_it(two_streams):
    root = trustme.CA()
    middle = root.create_child_ca()
    server_tls = _contexts_of_server(middle)
    async with two_streams() as (server, client):
        serving = asyncio.ensure_future(server.start_tls(server_tls, server_side=True))
        client.deadline = asyncio.get_running_loop().time() + 5
        shown = await glance(client, glancing_context(), "mx.example.org")
        client.abort()
        await asyncio.gather(serving, return_exceptions=True)
    authority = _der(middle.cert_pem)
    assert authority in shown
    record = Tlsa(DANE_TA, 1, 1, hashlib.sha256(_spki(authority)).digest())
    assert find_anchors([record], shown) == (authority,)
    assert find_anchors([Tlsa(DANE_EE, 1, 1, record.data)], shown) == ()

    trusting = Contexts().anchored((authority,))
    async with two_streams() as (server, client):
        await asyncio.gather(
            server.start_tls(server_tls, server_side=True),
            client.start_tls(trusting, server_side=False, server_hostname="another.example"),
        )
        assert client.shown().certificate == shown[0]
        assert client.shown().names == ("mx.example.org",)
    other = _contexts_of_server(trustme.CA())
    async with two_streams() as (server, client):
        results = await asyncio.gather(
            server.start_tls(other, server_side=True),
            client.start_tls(trusting, server_side=False, server_hostname="mx.example.org"),
            return_exceptions=True,
        )
        assert isinstance(results[1], HandshakeFailed)


async def test_a_glance_at_nonsense_and_at_a_closed_door(two_streams):
    for octets in (b"550 no\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b""):
        async with two_streams() as (server, client):
            server.write(octets)
            await server.close(0)
            client.deadline = asyncio.get_running_loop().time() + 5
            with pytest.raises(OSError):
                await glance(client, glancing_context(), "mx.example.org")


def test_certificates_in_records_are_found_whole_or_not_at_all():
    body = b"\x00\x00\x0a" + b"\x00\x00\x03abc" + b"\x00\x00\x01d"
    message = b"\x02\x00\x00\x01x" + b"\x0b" + len(body).to_bytes(3, "big") + body
    for size in (1, 5, len(message)):
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        records = b"".join(b"\x16\x03\x03" + len(one).to_bytes(2, "big") + one for one in pieces)
        assert [*certificates(records)] == [b"abc", b"d"]
        assert not [at for at in range(len(records)) if [*certificates(records[:at])]]
    assert [*certificates(b"\x16\x03\x03\xff\xff")] == []
