"""DANE with real DNSSEC: zones signed here, validated by unbound; one of them is forged, one isn't signed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.dnssec
import dns.name
import dns.rdata
import dns.zone
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from gatepost.delivery import Contexts, Destinations, Dialer, Mx, Security
from gatepost.delivery.attempt import Letter
from gatepost.delivery.protector import Protector
from gatepost.model import Bytes, Recipient
from gatepost.model import Path as Address
from gatepost.net.answers import NotFound, TemporaryFailure
from gatepost.net.certificates import client_context
from gatepost.net.mx import Exchangers
from gatepost.net.resolver import Resolver
from programs import program
from unit.delivery.delivery_peer import Peer
from unit.delivery.tls_town import CONTENT, IN_THE_CLEAR, ONE, TIMEOUTS, UNDER_TLS, der, server_context, tlsa

pytestmark = pytest.mark.needs("unbound")

SIGNED, FORGED, PLAIN = "signed.example", "forged.example", "plain.example"


def _zone(name: str, *lines: str) -> dns.zone.Zone:
    text = "\n".join(
        [
            "$TTL 300",
            "@ IN SOA ns admin 1 3600 600 86400 60",
            "@ IN NS ns",
            "ns IN A 127.0.0.1",
            "@ IN MX 10 mx",
            f"mx IN A {ONE}",
            *lines,
        ]
    )
    return dns.zone.from_text(text, origin=f"{name}.", relativize=False)


def _signed(zone: dns.zone.Zone) -> tuple[str, str]:
    """The signed zone as text, and the anchor it is to be trusted by."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
    now = datetime.now(UTC)
    dns.dnssec.sign_zone(
        zone,
        keys=[(key, public)],
        inception=now - timedelta(hours=1),
        expiration=now + timedelta(days=1),
        dnskey_ttl=300,
    )
    return zone.to_text(relativize=False), f"{zone.origin} IN DNSKEY {public.to_text()}"


def _free_port() -> int:
    """One that is free for both: unbound binds it itself, so somebody may still be faster."""
    while True:
        with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            port = int(stream.getsockname()[1])
            with suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                return port


@asynccontextmanager
async def unbound(folder: Path, zones: Iterable[tuple[str, str]], anchors: Iterable[str]) -> AsyncIterator[Resolver]:
    """A validating resolver that knows the zones, and ours that asks it."""
    (folder / "anchors").write_text("\n".join([*anchors, ""]))
    lines = [
        "server:",
        "  interface: 127.0.0.1\n  do-ip6: no\n  use-syslog: no\n  verbosity: 0",
        f'  username: ""\n  chroot: ""\n  directory: "{folder}"\n  pidfile: "{folder}/pid"',
        f'  trust-anchor-file: "{folder}/anchors"\n  module-config: "validator iterator"\n  num-threads: 1',
        "remote-control:\n  control-enable: no",
    ]
    for name, text in zones:
        (folder / name).write_text(text)
        lines.append(f'auth-zone:\n  name: "{name}"\n  zonefile: "{folder}/{name}"\n  for-downstream: no')
    for _ in range(5):
        port = _free_port()
        (folder / "conf").write_text("\n".join([*lines, "server:", f"  port: {port}", ""]))
        running = await asyncio.create_subprocess_exec(program("unbound"), "-d", "-c", str(folder / "conf"))
        if await _answers(port, running):
            break
    else:
        pytest.fail(f"unbound has ended with {running.returncode}")
    resolver = Resolver(nameservers=[("127.0.0.1", port)], timeout_s=2, lifetime_s=5)
    try:
        yield resolver
    finally:
        await resolver.close()
        if running.returncode is None:
            running.terminate()
        await running.wait()


async def _answers(port: int, running: asyncio.subprocess.Process) -> bool:
    """Waits for its first answer; False where it has ended."""
    while running.returncode is None:
        asking = Resolver(nameservers=[("127.0.0.1", port)], timeout_s=0.2, lifetime_s=0.2)
        try:
            await asking.find(f"mx.{PLAIN}", "A")
            return True
        except TemporaryFailure:
            await asyncio.sleep(0.02)
        finally:
            await asking.close()
    return False


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("mx.signed.example")


async def _send(resolver: Resolver, domain: str, port: int, level: Security = Security.PUBLISHED) -> str:
    contexts = Contexts(client_context(verify=False), client_context(verify=True))
    destinations = Destinations(
        Dialer("me.example", timeouts=TIMEOUTS, contexts=contexts),
        exchangers=Exchangers(resolver, chance=lambda: 0.5, names=["me.example"]),
        protector=Protector(resolver),
    )
    mx = Mx(domain, port, level, allow_private=True)
    people = (Recipient(Address.parse(f"ann@{domain}")),)
    try:
        [answer] = await destinations.deliver(mx, Letter(Address.parse("a@b.example"), people, Bytes(CONTENT)))
    finally:
        await destinations.close()
    reply = answer.outcome.reply
    return str(reply.code) if reply.is_positive else f"{reply.code} {reply.status}"


async def test_what_unbound_has_validated_decides(tmp_path: Path, leaf: trustme.LeafCert):
    shown: ssl.SSLContext = server_context(leaf)
    right = tlsa(3, 1, 1, der(leaf.cert_chain_pems[0]))
    wrong = tlsa(3, 1, 1, der(trustme.CA().cert_pem))
    async with Peer(UNDER_TLS, tls=shown, at=ONE) as peer:
        at = f"_{peer.port}._tcp"
        zones, anchors = [], []
        for name, record in ((SIGNED, right), ("other.example", wrong), (FORGED, right)):
            text, anchor = _signed(_zone(name, f"{at}.mx IN TLSA {record}"))
            if name == FORGED:  # somebody has put in records of his own
                assert text.count(right.split()[-1]) == 1
                text = text.replace(right.split()[-1], wrong.split()[-1])
            zones.append((name, text))
            anchors.append(anchor)
        zones.append((PLAIN, _zone(PLAIN, f"{at}.mx IN TLSA {wrong}").to_text(relativize=False)))
        async with unbound(tmp_path, zones, anchors) as resolver:
            assert resolver.is_trusted
            found = await resolver.find(SIGNED, "MX")
            assert (found.records, found.is_secure) == ((f"10 mx.{SIGNED}.",), True)
            assert not (await resolver.find(PLAIN, "MX")).is_secure
            with pytest.raises(NotFound):
                await resolver.find(f"nobody.{SIGNED}", "A")

            assert await _send(resolver, SIGNED, peer.port) == "250"
            assert await _send(resolver, SIGNED, peer.port, Security.DANE_ONLY) == "250"
            assert await _send(resolver, "other.example", peer.port) == "451 4.7.5"
            assert await _send(resolver, PLAIN, peer.port) == "250"  # what isn't signed counts for nothing
            assert await _send(resolver, PLAIN, peer.port, Security.DANE_ONLY) == "451 4.7.5"
            assert await _send(resolver, FORGED, peer.port) == "451 4.7.5"  # whether there are records can't be told
            assert all(tls for tls, lines in zip(peer.under_tls, peer.heard, strict=True) if "DATA" in lines)


async def test_T4_who_cuts_STARTTLS_out_gets_no_mail(tmp_path: Path, leaf: trustme.LeafCert):
    async with Peer(IN_THE_CLEAR, at=ONE) as peer:
        record = tlsa(3, 1, 1, der(leaf.cert_chain_pems[0]))
        text, anchor = _signed(_zone(SIGNED, f"_{peer.port}._tcp.mx IN TLSA {record}"))
        plain = (PLAIN, _zone(PLAIN).to_text(relativize=False))
        async with unbound(tmp_path, [(SIGNED, text), plain], [anchor]) as resolver:
            assert await _send(resolver, SIGNED, peer.port) == "451 4.7.10"
            assert peer.mail == []
            assert await _send(resolver, PLAIN, peer.port) == "250"
