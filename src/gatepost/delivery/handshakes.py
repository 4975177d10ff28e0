"""The TLS handshake with a next server: with whom it may be made, and what went wrong in the words of reports.

Authorities are OpenSSL's matter. Ours is what it doesn't know: certificates that the DNS names (RFC 7672), and names
other than the host's.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum

from gatepost.delivery.connection import Unreachable, later, words
from gatepost.delivery.route import Host
from gatepost.delivery.security import Protection, Trust, Way
from gatepost.net import Stream
from gatepost.net.certificates import CertificateError
from gatepost.net.client_contexts import Contexts
from gatepost.net.dane import DANE_EE, DANE_TA, Tlsa, find_anchors, names_match, of_usage
from gatepost.net.glance import glance
from gatepost.wire.smtp.client_events import Phase

_REMEMBERED = 256  # records whose authorities are remembered
_OUT_OF_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_OTHER_NAME = 62  # X509_V_ERR_HOSTNAME_MISMATCH


class Trouble(Enum):
    """What kept a session from being protected, in the words of reports (RFC 8460 §4.3)."""

    NOT_OFFERED = "starttls-not-supported"
    NAME = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    UNTRUSTED = "certificate-not-trusted"
    HANDSHAKE = "validation-failure"
    DNSSEC = "dnssec-invalid"
    TLSA = "tlsa-invalid"
    DANE_REQUIRED = "dane-required"
    STS_FETCH = "sts-policy-fetch-error"
    STS_INVALID = "sts-policy-invalid"


@dataclass(frozen=True, slots=True)
class NoTls:
    """The protection that was asked for isn't to be had there. `asks_again`: something was learned, and another
    connection can tell.
    """

    trouble: Trouble
    why: Unreachable
    asks_again: bool = False


class Handshakes:
    """Makes them. Remembers which authorities DANE records mean, so that one connection is enough the next time."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        self._anchors: OrderedDict[tuple[Tlsa, ...], tuple[bytes, ...]] = OrderedDict()

    async def shake(self, protection: Protection, way: Way, stream: Stream, host: Host) -> NoTls | None:
        """TLS on a stream whose server waits for it, within the stream's deadline."""
        if way.trust is Trust.ANCHOR and not self._find(protection.records):
            return await self._learn(protection, stream, host)
        try:
            context = self._context(protection, way)
            if context is None:
                raise OSError("no TLS is configured here")
            await stream.start_tls(context, server_side=False, server_hostname=_asked_for(protection, host))
        except (OSError, ValueError) as error:  # ValueError: a name that can't be one of a server, our certificate
            failure = no_tls(_trouble(error), "4.7.5", host, words(error))
            is_stale = way.trust is Trust.ANCHOR and self._anchors.pop(protection.records, None) is not None
            return replace(failure, asks_again=True) if is_stale else failure  # the authority may be a newer one by now
        return self._judge(protection, way, stream, host)

    async def _learn(self, protection: Protection, stream: Stream, host: Host) -> NoTls:
        """Finds the authorities among the certificates the server shows; takes a connection for itself."""
        try:
            shown = await glance(stream, self.contexts.glancing(), _asked_for(protection, host))
        except (OSError, ValueError) as error:
            return no_tls(Trouble.HANDSHAKE, "4.7.5", host, words(error))
        found = find_anchors(protection.records, shown)
        failure = no_tls(Trouble.UNTRUSTED, "4.7.5", host, "it shows no authority that its TLSA records name")
        if not found:
            return failure
        self._anchors[protection.records] = found
        if len(self._anchors) > _REMEMBERED:
            self._anchors.popitem(last=False)
        return replace(failure, asks_again=True)

    def _context(self, protection: Protection, way: Way) -> ssl.SSLContext | None:
        contexts, identity = self.contexts, protection.identity
        match way.trust:
            case Trust.ANYBODY | Trust.LEAF:
                return contexts.anybody(identity)
            case Trust.HOST:
                return contexts.host(identity)
            case Trust.NAMES:
                return contexts.names(identity)
            case Trust.ANCHOR:
                return contexts.anchored(self._find(protection.records), identity)

    def _judge(self, protection: Protection, way: Way, stream: Stream, host: Host) -> NoTls | None:
        shown = stream.shown()
        if way.trust is Trust.LEAF:
            leaves = of_usage(protection.records, DANE_EE)  # rfc7672#3.1.1: neither names nor dates count
            if not any(record.matches(shown.certificate) for record in leaves):
                return no_tls(Trouble.UNTRUSTED, "4.7.5", host, "its certificate isn't the one of its TLSA records")
        if way.trust in (Trust.NAMES, Trust.ANCHOR) and not names_match(shown.names, protection.names):
            return no_tls(Trouble.NAME, "4.7.5", host, f"its certificate isn't for {' or '.join(protection.names)}")
        return None

    def _find(self, records: tuple[Tlsa, ...]) -> tuple[bytes, ...]:
        found = self._anchors.get(records)
        if found is not None:
            return found
        authorities = of_usage(records, DANE_TA)
        if all((one.selector, one.matching) == (0, 0) for one in authorities):  # whole: nothing has to be shown
            return find_anchors(authorities, ())
        return ()


def _asked_for(protection: Protection, host: Host) -> str | None:
    """The name said in SNI: with DANE that of the records (rfc7672#8.1)."""
    return (protection.names[0] if protection.records and protection.names else host.name) or None


def no_tls(trouble: Trouble, status: str, host: Host, why: str) -> NoTls:
    """The value for it; a reason to come back later."""
    return NoTls(trouble, Unreachable(Phase.TLS, later(status, host, why)))


def _trouble(error: BaseException) -> Trouble:
    cause = error.__cause__
    if isinstance(error, CertificateError) or not isinstance(cause, ssl.SSLCertVerificationError):
        return Trouble.HANDSHAKE
    if cause.verify_code in _OUT_OF_TIME:
        return Trouble.EXPIRED
    return Trouble.NAME if cause.verify_code == _OTHER_NAME else Trouble.UNTRUSTED
