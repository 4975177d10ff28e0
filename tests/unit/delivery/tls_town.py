"""A domain whose mail servers, name server and certificates a test scripts: what TLS to other servers needs."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatepost.delivery import Contexts, Destinations, Dialer, Mx, Relay, Security, Timeouts
from gatepost.delivery.attempt import Answered, Letter
from gatepost.delivery.handshakes import Trouble
from gatepost.delivery.protector import Protector, Rule
from gatepost.delivery.route import Host
from gatepost.delivery.security import PolicyFound
from gatepost.delivery.sts_policies import Policies
from gatepost.model import Bytes, Path, Recipient
from gatepost.net.certificates import client_context
from gatepost.net.mx import Exchangers
from gatepost.net.resolver import Resolver
from unit.delivery.delivery_peer import TLS, Peer, Script, polite
from unit.net.name_server import NameServer, Zone, name_server

ONE, TWO = "127.0.0.11", "127.0.0.12"
MX1, MX2 = "one.isp.example", "two.isp.example"
TIMEOUTS = Timeouts(connect=10, greeting=10, command=10, data=10, block=10, end=10)
QUICK = Timeouts(connect=10, greeting=10, command=0.3, data=10, block=10, end=10)
"""For servers that say nothing: nobody waits for long."""
UNDER_TLS = polite(("STARTTLS", TLS), offers="PIPELINING,STARTTLS")
IN_THE_CLEAR = polite()  # or somebody has cut STARTTLS out
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
YESTERDAY = datetime(2020, 1, 2, tzinfo=UTC)


def der(pem: trustme.Blob) -> bytes:
    """A certificate's octets."""
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


def tlsa(usage: int, selector: int, matching: int, certificate: bytes) -> str:
    """The record about a certificate."""
    content = certificate
    if selector:
        key = x509.load_der_x509_certificate(certificate).public_key()
        content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    data = [content, hashlib.sha256(content).digest(), hashlib.sha512(content).digest()][matching]
    return f"{usage} {selector} {matching} {data.hex()}"


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """What a mail server shows it with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class Counted:
    """What reports would be made of, as words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def negotiated(self, host: Host, found: PolicyFound, trouble: Trouble | None) -> None:
        self.words.append(f"{found.domain} {found.kind.value} {host.name} {trouble.value if trouble else 'fine'}")


class Place:
    """Where it all is. `told` are the counted sessions."""

    def __init__(self, peers: Mapping[str, Peer], names: NameServer, resolver: Resolver, port: int) -> None:
        self.peers, self.names, self.resolver, self.port = peers, names, resolver, port
        self.told = Counted()
        self.destinations: Destinations

    async def send(
        self,
        recipient: str = "ann@d.example",
        *,
        tls: Security = Security.PUBLISHED,
        content: bytes = CONTENT,
        requiretls: bool = False,
    ) -> str:
        """One message by MX: `250`, or the code with the words that went into the queue."""
        mx = Mx(recipient.rpartition("@")[2], self.port, tls, allow_private=True)
        return await self._deliver(mx, recipient, content, requiretls)

    async def relay(self, host: str, *, tls: Security, requiretls: bool = False) -> str:
        """One message to a host that the settings name."""
        hop = Relay((Host(host, self.port, address=ONE),), tls)
        return await self._deliver(hop, "ann@d.example", CONTENT, requiretls)

    async def _deliver(self, hop: Mx | Relay, recipient: str, content: bytes, requiretls: bool) -> str:
        people = (Recipient(Path.parse(recipient)),)
        letter = Letter(Path.parse("a@b.example"), people, Bytes(content), requiretls=requiretls)
        [answer] = await self.destinations.deliver(hop, letter)
        return _words(answer)

    def under_tls(self, address: str = ONE) -> list[bool]:
        """For each connection to a server, whether TLS came about."""
        return self.peers[address].under_tls

    @property
    def is_plain_mail_sent(self) -> bool:
        """Whether any message went out in the clear."""
        return any(
            any(line.startswith("MAIL") for line in lines) and not tls
            for peer in self.peers.values()
            for lines, tls in zip(peer.heard, peer.under_tls, strict=True)
        )


def _words(answer: Answered) -> str:
    reply = answer.outcome.reply
    return str(reply.code) if reply.is_positive else f"{reply.code} {reply.status} {reply.text}"


@asynccontextmanager
async def place(
    zone: Zone,
    *,
    scripts: Mapping[str, Script] | None = None,
    shows: trustme.LeafCert | None = None,
    trusts: trustme.CA | None = None,
    secure: Iterable[str] = ("d.example", "isp.example"),
    rules: Iterable[Rule] = (),
    policies: Any = None,
    trust_ad: bool = True,
    timeouts: Timeouts = TIMEOUTS,
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> AsyncIterator[Place]:
    """d.example, with one.isp.example as its mail server unless `zone` says otherwise."""
    async with AsyncExitStack() as stack:
        peers: dict[str, Peer] = {}
        port = 0
        tls = None if shows is None else server_context(shows)
        if tls is not None:
            tls.minimum_version = least
        for address, script in (scripts or {ONE: UNDER_TLS}).items():
            peers[address] = await stack.enter_async_context(Peer(script, tls=tls, at=address, port=port))
            port = peers[address].port
        whole: dict[str, Any] = {
            "d.example": {"MX": [f"10 {MX1}."]},
            MX1: {"A": [ONE]},
            MX2: {"A": [TWO]},
            **{name.replace("PORT", str(port)): kinds for name, kinds in zone.items()},
        }
        resolver, names = await stack.enter_async_context(
            name_server(whole, trust_ad=trust_ad, timeout_s=0.5, lifetime_s=1)
        )
        names.secure = {*secure}
        here = Place(peers, names, resolver, port)

        def make(*, verify: bool) -> ssl.SSLContext:
            context = client_context(verify=verify)
            if verify and trusts is not None:
                trusts.configure_trust(context)
            return context

        contexts = Contexts(make(verify=False), make(verify=True), make=make)
        asked: Policies | None = None if policies is None else policies(resolver)
        here.destinations = Destinations(
            Dialer("me.example", timeouts=timeouts, contexts=contexts, observer=here.told),
            exchangers=Exchangers(resolver, chance=lambda: 0.999, names=["me.example"]),
            protector=Protector(resolver, asked, tuple(rules), observer=here.told),
            kept_s=0,
        )
        try:
            yield here
        finally:
            await here.destinations.close()
            if asked is not None:
                await asked.close()
