"""How a client logs in: the first line of AUTH and the answers to the server's challenges, for PLAIN and LOGIN."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection

from gatepost.wire.smtp.client_events import Credentials

MAX_COMMAND = 512  # octets with CRLF for which a server must have room; rfc5321#4.5.3.1.4


def opening(credentials: Credentials, mechanisms: Collection[str]) -> tuple[bytes, list[bytes]] | None:
    """The AUTH line and the answers to each 334 after it; None where the server offers neither mechanism.

    Raises ValueError for credentials with NUL, CR or LF.
    """
    user, password = _secret(credentials.user), _secret(credentials.password)
    if "PLAIN" in mechanisms:
        response = b64encode(b"\0" + user + b"\0" + password)  # rfc4616#2
        line = b"AUTH PLAIN " + response + b"\r\n"
        if len(line) > MAX_COMMAND:  # rfc4954#4
            return b"AUTH PLAIN\r\n", [response + b"\r\n"]
        return line, []
    if "LOGIN" in mechanisms:
        return b"AUTH LOGIN\r\n", [b64encode(user) + b"\r\n", b64encode(password) + b"\r\n"]
    return None


def _secret(text: str) -> bytes:
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError("credentials can't hold CR, LF or NUL")
    return text.encode()
