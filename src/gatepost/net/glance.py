"""The certificates that a server shows, before any of them is trusted.

Python 3.11 gives a program the server's own certificate only. TLS 1.2 sends the chain in the clear (RFC 5246 §7.4.2),
and the records pass through our hands: so a handshake is begun that offers TLS 1.2 at most, the Certificate message
is read from the records, and the connection is dropped. Nothing learned here is trusted: DANE looks for the certificate
whose hash the DNS has published, and the real session is judged by OpenSSL with that one as the only authority. A
server that speaks nothing but TLS 1.3 is asked where Python has a way to tell (3.13).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

from gatepost.net.errors import HandshakeFailed
from gatepost.net.stream import Stream

_MAX_OCTETS = 128 * 1024  # of a handshake; a chain is a few thousand
_MAX_CERTIFICATES = 16
_HANDSHAKE = 22  # rfc5246#6.2.1
_CERTIFICATE = 11  # rfc5246#7.4
_RECORD_HEAD = 5
_CAN_TELL = hasattr(ssl.SSLObject, "get_unverified_chain")


def glancing_context() -> ssl.SSLContext:
    """The context to glance with: it trusts nobody and everybody, and its sessions carry nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not _CAN_TELL:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


async def glance(stream: Stream, context: ssl.SSLContext, server_hostname: str | None) -> tuple[bytes, ...]:
    """The certificates (DER) the peer shows, its own first. The stream is of no more use, and still to be closed.

    Raises HandshakeFailed, and OSError for what the network does; the stream's deadline is the time for it.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, False, server_hostname)
    heard = bytearray()
    while True:
        is_done = _go_on(session)
        stream.write(outgoing.read())
        if (shown := list(certificates(bytes(heard)))) or is_done:
            return tuple(shown) or _told(session)
        await stream.drain()
        records = await stream.receive()
        heard += records
        if not records or len(heard) > _MAX_OCTETS:
            raise HandshakeFailed("it showed no certificate")
        incoming.write(records)


def _go_on(session: ssl.SSLObject) -> bool:
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError as error:
        raise HandshakeFailed((error.reason or str(error)).replace("_", " ").lower()) from error
    return True


def _told(session: Any) -> tuple[bytes, ...]:
    return tuple(session.get_unverified_chain()) if _CAN_TELL else ()


def certificates(records: bytes) -> Iterator[bytes]:
    """The certificates in the records of a TLS 1.2 server so far; none while the message isn't whole."""
    body = _message(b"".join(_fragments(records)))
    at = 3
    for _ in range(_MAX_CERTIFICATES):
        if at + 3 > len(body):
            return
        length = int.from_bytes(body[at : at + 3], "big")
        at += 3 + length
        if at > len(body) or not length:
            return
        yield body[at - length : at]


def _fragments(records: bytes) -> Iterator[bytes]:
    """The handshake's octets, up to the first record that is encrypted or not whole."""
    at = 0
    while at + _RECORD_HEAD <= len(records) and records[at] == _HANDSHAKE:
        length = int.from_bytes(records[at + 3 : at + 5], "big")
        begin = at + _RECORD_HEAD
        at = begin + length
        if at > len(records):
            return
        yield records[begin:at]


def _message(handshake: bytes) -> bytes:
    """The body of the Certificate message, b"" where there is none yet."""
    at = 0
    while at + 4 <= len(handshake):
        length = int.from_bytes(handshake[at + 1 : at + 4], "big")
        if handshake[at] == _CERTIFICATE:
            body = handshake[at + 4 : at + 4 + length]
            return body if len(body) == length else b""
        at += 4 + length
    return b""
