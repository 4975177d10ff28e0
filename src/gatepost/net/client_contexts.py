"""TLS as a client: the contexts for talking to other servers, made when they are wanted and kept.

A context holds the system's authorities, which takes long to read and much memory; so there is one for each way of
trusting and each certificate of ours that is shown.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from gatepost.net.certificates import CertificateError, Pair, client_context, load_pair
from gatepost.net.glance import glancing_context

_ANCHORED = 64  # contexts with authorities of their own that are kept
_PARTIAL_CHAIN = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


class _Made(Protocol):
    def __call__(self, *, verify: bool) -> ssl.SSLContext: ...


class Contexts:
    """`offered` checks nobody's name (opportunistic), `required` trusts the system's authorities; None: no TLS here.

    `identity` is the certificate of ours that servers are shown which ask for one. `make` makes contexts.
    """

    def __init__(
        self,
        offered: ssl.SSLContext | None = None,
        required: ssl.SSLContext | None = None,
        *,
        identity: Pair | None = None,
        make: _Made = client_context,
    ) -> None:
        self.offered = offered
        self.required = required
        self._identity = identity
        self._make = make
        self._kept: dict[object, ssl.SSLContext] = {}

    @classmethod
    def of_system(cls, identity: Pair | None = None) -> Contexts:
        """Trusting whom the system trusts. Made once: it reads all authorities."""
        return cls(offered=client_context(verify=False), required=client_context(verify=True), identity=identity)

    def anybody(self, identity: Pair | None = None) -> ssl.SSLContext | None:
        """Any certificate will do. Raises CertificateError where ours can't be used."""
        return self._with_ours(self.offered, False, identity)

    def host(self, identity: Pair | None = None) -> ssl.SSLContext | None:
        """A trusted certificate of the name that is asked for. Raises CertificateError."""
        return self._with_ours(self.required, True, identity)

    def names(self, identity: Pair | None = None) -> ssl.SSLContext | None:
        """A trusted certificate, whose names the caller looks at. Raises CertificateError."""
        if self.required is None:
            return None
        ours = identity or self._identity
        return self._keep(("names", _version(ours)), lambda: _nameless(_showing(self._make(verify=True), ours)))

    def anchored(self, anchors: tuple[bytes, ...], identity: Pair | None = None) -> ssl.SSLContext:
        """A certificate that one of the authorities (DER) answers for, and no other; names are the caller's to look at.

        Raises CertificateError, and ssl.SSLError for what isn't a certificate.
        """
        ours = identity or self._identity

        def make() -> ssl.SSLContext:
            context = _nameless(_showing(self._make(verify=False), ours))
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= _PARTIAL_CHAIN  # any certificate may be the authority (rfc7671#5.2.1)
            context.load_verify_locations(cadata=b"".join(anchors))
            return context

        return self._keep((anchors, _version(ours)), make)

    def glancing(self) -> ssl.SSLContext:
        """For a look at the certificates."""
        return self._keep("glancing", glancing_context)

    def _with_ours(self, plain: ssl.SSLContext | None, verify: bool, identity: Pair | None) -> ssl.SSLContext | None:
        ours = identity or self._identity
        if plain is None or ours is None:
            return plain
        return self._keep((verify, _version(ours)), lambda: _showing(self._make(verify=verify), ours))

    def _keep(self, key: object, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = self._kept.get(key)
        if context is None:
            if len(self._kept) >= _ANCHORED:
                self._kept.pop(next(iter(self._kept)))
            context = self._kept[key] = make()
        return context


def _version(ours: Pair | None) -> object:
    """Changes with the files, so that a renewed certificate is shown."""
    if ours is None:
        return None
    try:
        return ours, ours.version()
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror or error}") from error


def _showing(context: ssl.SSLContext, ours: Pair | None) -> ssl.SSLContext:
    if ours is not None:
        load_pair(context, ours)
    return context


def _nameless(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    return context


def check_pair(ours: Pair) -> None:
    """Raises CertificateError where a certificate can't be shown, whatever it is made for."""
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ours)


def ends_at(ours: Pair) -> datetime:
    """The end of a certificate's validity (UTC). Raises OSError, and ValueError for what is no certificate."""
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415  only asked by who looks around

    return load_pem_x509_certificate(ours.chain.read_bytes()).not_valid_after_utc
