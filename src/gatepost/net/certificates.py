"""Server certificates chosen by name (SNI) and reread when their files change; contexts for clients.

Every listener has contexts of its own, hence ticket keys of its own: a ticket of one listener means nothing to another.
A changed pair of files is loaded beside the old one and takes its place only when it works; a handshake that is under
way keeps the context it began with.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatepost.net.tls import Negotiation

CHECK_S = 1.0  # seconds between looks at the files
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: what has expired must still be readable, to be told of
log = logging.getLogger("gatepost.net")


class CertificateError(ValueError):
    """A chain and key that can't be used; the text names the file and how to mend it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of one certificate: the chain (own certificate first) and its private key, both PEM."""

    chain: Path
    key: Path

    def version(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when one of the files does. Raises OSError."""
        found = (self.chain.stat(), self.key.stat())
        return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in found)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One usable certificate: its files, their version, its names in lower case, the end of its validity."""

    pair: Pair
    version: tuple[tuple[int, int, int], ...]
    names: tuple[str, ...]
    not_after: datetime


class Certificates:
    """Several certificates, the first is the default. What `context()` returns works and never changes in place."""

    def __init__(self, pairs: Sequence[Pair], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Loads all pairs. Raises CertificateError for the first that doesn't work."""
        if not pairs:
            raise CertificateError("no certificate is given; name a chain and a key")
        self._clock = clock
        self._checked = clock()
        self._loaded = [_load(pair) for pair in pairs]
        self._complained: dict[Pair, object] = {}  # the version of the files that didn't work
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, listener_name: str) -> ssl.SSLContext:
        """The context for a new handshake at this listener; looks at the files, at most once a second."""
        if self._clock() - self._checked >= CHECK_S:
            self.refresh()
        context = self._contexts.get(listener_name)
        if context is None:
            context = self._contexts[listener_name] = _by_name(self._loaded)
        return context

    def refresh(self) -> bool:
        """Looks at the files now and takes over what has changed and works; True where something has.

        A pair that doesn't work is told to the log once and the old certificate stays.
        """
        self._checked = self._clock()
        fresh = [self._current(loaded) for loaded in self._loaded]
        if all(new is old for new, old in zip(fresh, self._loaded, strict=True)):
            return False
        try:
            contexts = {listener: _by_name(fresh) for listener in self._contexts}
        except (CertificateError, OSError) as error:  # the files changed once more in between: the next look will tell
            log.warning("the certificates are being changed: %s", error)
            return False
        self._loaded, self._contexts = fresh, contexts
        return True

    def expiry(self) -> list[tuple[str, datetime]]:
        """Each certificate's first name and the end of its validity (UTC)."""
        return [(one.names[0] if one.names else str(one.pair.chain), one.not_after) for one in self._loaded]

    def _current(self, loaded: _Loaded) -> _Loaded:
        """The certificate as its files are now, or the old one where they don't work."""
        pair = loaded.pair
        version: object = None
        try:
            version = pair.version()
            if version == loaded.version or (pair in self._complained and self._complained[pair] == version):
                return loaded
            fresh = _load(pair)
        except (CertificateError, OSError) as error:
            if pair not in self._complained or self._complained[pair] != version:
                log.error("the changed certificate is not used, the old one stays: %s", error)
            self._complained[pair] = version
            return loaded
        self._complained.pop(pair, None)
        log.info("new certificate from %s, valid until %s", pair.chain, fresh.not_after.date())
        return fresh


def client_context(*, verify: bool, ca_file: Path | str | None = None) -> ssl.SSLContext:
    """For talking to other servers. Without `verify` it is opportunistic: any certificate will do (rfc7435#3).

    Make it once and keep it: it holds the system's authorities.
    """
    if verify:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return _hardened(context)


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # rfc8996
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.sslobject_class = Negotiation
    return context


def _server_context(pair: Pair) -> ssl.SSLContext:
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1  # two are for browsers that open connections side by side
    load_pair(context, pair)
    return context


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Lets a context show a certificate. Raises CertificateError, which names the file that is to blame."""
    try:
        context.load_cert_chain(pair.chain, pair.key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise CertificateError(_why(pair, error)) from error
    except OSError as error:  # OpenSSL doesn't say which of the two
        raise _unreadable(pair, error) from error


def _unreadable(pair: Pair, error: OSError) -> CertificateError:
    for file in (pair.chain, pair.key):
        try:
            file.open("rb").close()
        except OSError as why:
            return CertificateError(f"{file}: {why.strerror or why}")
    return CertificateError(f"{pair.chain} and {pair.key}: {error.strerror or error}")


def _no_passphrase() -> str:
    """Asked for only by a key under a passphrase; nobody is there to type it."""
    return ""


def _why(pair: Pair, error: ssl.SSLError) -> str:
    match error.reason:
        case "KEY_VALUES_MISMATCH":
            return f"{pair.key} is not the key of {pair.chain}; name the key that was made with this certificate"
        case "NO_START_LINE" | "PEM_LIB" | None:
            return f"{pair.chain} and {pair.key} are no PEM certificate and key, or the key has a passphrase"
        case reason:
            return f"{pair.chain} with {pair.key}: {reason.replace('_', ' ').lower()}"


def _load(pair: Pair) -> _Loaded:
    """Reads the files. Raises CertificateError."""
    try:
        version = pair.version()
        shown = _shown(pair)
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            raise CertificateError(f"{pair.chain}: {error.reason}") from error
        raise CertificateError(f"{error.filename or pair.chain}: {error.strerror or error}") from error
    alternatives = shown.get("subjectAltName", ())
    names = [value.lower() for kind, value in alternatives if kind == "DNS"]
    if not names:  # rfc6125#6.4.4: the common name counts only without alternatives
        names = [value.lower() for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    not_after = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    return _Loaded(pair, version, tuple(names), not_after)


def _shown(pair: Pair) -> Mapping[str, Any]:
    """The certificate's fields, as a client sees them that trusts exactly this chain: we shake hands with ourselves.

    The only way of the standard library to read a certificate; it also proves that the pair works.
    """
    showing = _server_context(pair)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.load_verify_locations(pair.chain)
    trusting.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(back, there)
    server = showing.wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert() or {}


def _by_name(loaded: Sequence[_Loaded]) -> ssl.SSLContext:
    """A context that shows each client the certificate of the name it asks for, the first one otherwise."""
    contexts = [_server_context(one.pair) for one in loaded]
    named = {name: context for one, context in reversed([*zip(loaded, contexts, strict=True)]) for name in one.names}

    def choose(session: ssl.SSLObject | ssl.SSLSocket, asked_for: str | None, _: ssl.SSLContext) -> None:
        if asked_for is None:
            return
        name = asked_for.lower()
        if isinstance(session, Negotiation):
            session.asked_for = name
        chosen = named.get(name) or named.get("*." + name.partition(".")[2])  # rfc6125#6.4.3: one label only
        if chosen is not None:
            session.context = chosen

    contexts[0].sni_callback = choose
    return contexts[0]
