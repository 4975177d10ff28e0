"""TLS as a value machine: records in, plaintext out, and back; the stream moves the records.

Driven over two `ssl.MemoryBIO`s by us and never by the event loop, whose own upgrade lets octets reach the protocol
before the switch. A memory BIO never gives memory back, so it is fed in small slices and emptied by every call: what an
idle connection keeps is bounded whatever once went through it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from gatepost.model import Tls
from gatepost.net.buffers import shared
from gatepost.net.errors import HandshakeFailed

RECORD = 16 * 1024  # rfc8446#5.1: the plaintext of one record is at most 2^14 octets
_SLICE = 2 * 1024  # octets put into the BIO at once; it keeps a third more for good. 8 KiB is faster by half, in bulk
_SCRATCH = 5 * RECORD  # what one read of the socket (64 KiB) and a record begun earlier can open to


class Negotiation(ssl.SSLObject):
    """An SSLObject that remembers which server name the client asked for; contexts of `Certificates` make it."""

    asked_for: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The peer's own certificate: its octets (DER), b"" without one, and its DNS names, known where it is trusted."""

    certificate: bytes = b""
    names: tuple[str, ...] = ()


class Layer:
    """One TLS session over no socket. After each call the incoming BIO is empty and `take()` has what is to be sent."""

    __slots__ = ("_incoming", "_object", "_outgoing", "ended")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self.ended = False  # the peer has said close_notify

    def take(self) -> bytes:
        """The records that are due to the peer."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def handshake(self, records: bytes) -> bytes | None:
        """Goes on with the handshake: None while it needs more, then what is still to be given to `open`, even if b"".

        Raises HandshakeFailed; `take()` then holds the alert.
        """
        for at in range(0, len(records) or 1, _SLICE):
            self._incoming.write(records[at : at + _SLICE])
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                raise HandshakeFailed(_reason(error)) from error
            return records[at + _SLICE :]
        return None

    def open(self, records: memoryview | bytes) -> bytes:
        """The plaintext that has become complete; sets `ended` at the peer's close_notify. Raises ssl.SSLError."""
        incoming, session, scratch = self._incoming, self._object, shared("plaintext", _SCRATCH)
        filled = 0
        for at in range(0, len(records) or 1, _SLICE):
            incoming.write(records[at : at + _SLICE])
            try:
                while True:
                    octets = cast(int, session.read(_SCRATCH, scratch[filled:]))  # into a buffer: their number
                    if octets == 0:
                        self.ended = True
                        return bytes(scratch[:filled])
                    filled += octets
                    if not incoming.pending and not session.pending():
                        break  # saves the exception in the common case of whole records
            except ssl.SSLWantReadError:
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self.ended = True
                break
        return bytes(scratch[:filled])

    def seal(self, data: bytes) -> Iterator[bytes]:
        """The records for `data`, one at a time."""
        if len(data) <= RECORD:
            self._object.write(data)
            yield self._outgoing.read()
            return
        view = memoryview(data)
        at = 0
        while at < len(view):
            at += self._object.write(view[at : at + RECORD])
            yield self._outgoing.read()

    def closing(self) -> bytes:
        """Says close_notify and returns it; the peer's own is not waited for (rfc8446#6.1)."""
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's close_notify, or the session is broken already
            self._object.unwrap()
        return self.take()

    def shown(self) -> Shown:
        """What the peer has shown in the handshake."""
        certificate = self._object.getpeercert(binary_form=True)
        fields: Mapping[str, Any] = self._object.getpeercert() or {}
        alternatives = fields.get("subjectAltName", ())
        return Shown(certificate or b"", tuple(name for kind, name in alternatives if kind == "DNS"))

    def facts(self) -> Tls:
        """What was agreed on, once the handshake is done."""
        cipher = self._object.cipher()
        certificate = self._object.getpeercert() if self._object.server_side else None
        asked_for = self._object.asked_for if isinstance(self._object, Negotiation) else None
        return Tls(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            server_name=asked_for if self._object.server_side else self._object.server_hostname,
            client_subject=_subject(certificate) if certificate else None,
        )


def _subject(certificate: object) -> str | None:
    """`commonName=…, organizationName=…` of a verified client certificate."""
    if not isinstance(certificate, dict):
        return None
    parts = [f"{key}={value}" for relative in certificate.get("subject", ()) for key, value in relative]
    return ", ".join(parts) or None


def _reason(error: ssl.SSLError) -> str:
    """The cause in words: OpenSSL's reason (`WRONG_VERSION_NUMBER`), or why the certificate isn't trusted."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
