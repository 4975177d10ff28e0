"""How a client asks a proxy for a way to a server: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 §9.3.6).

Strategy: one small machine a way, with the same face: `begin()` and each `receive(data)` give what is to be said next;
then `rest` is set (the way is open, and these octets are the server's already), or `refusal` is. A proxy may answer
anything: what is kept of it is bounded, and nothing here raises on it. Names are given to the proxy as they are; who
wants them resolved here gives an address.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, ip_address
from typing import ClassVar

from gatepost.model.written import host_and_port

MAX_CREDENTIAL = 255  # octets of a name or password in SOCKS5  # rfc1929#2
MAX_HEADER = 16 * 1024  # octets that an HTTP proxy may say before the way is open
_MAX_WORDS = 100  # characters of a proxy's own words that are repeated
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?", re.ASCII)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?", re.ASCII)
_HTTP = b"HTTP/1."

_VERSION, _NO_AUTH, _PASSWORD, _NONE_FITS = 5, 0, 2, 0xFF  # rfc1928#3
_AUTH_VERSION = 1  # rfc1929#2
_IPV4, _NAME, _IPV6 = 1, 3, 4  # rfc1928#5
_REPLIES = {  # rfc1928#6
    1: "general failure",
    2: "its rules don't allow this connection",
    3: "the network can't be reached",
    4: "the host can't be reached",
    5: "the connection was refused",
    6: "the connection took too long",
    7: "it can't connect",
    8: "it doesn't know this kind of address",
}


class Way(Enum):
    """What a proxy speaks. The values are the schemes of the settings."""

    SOCKS5 = "socks5"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: what it speaks, where it is, and what it is told of us. Raises ValueError where it can't be told that.

    `str()` of it never has the password.
    """

    way: Way
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for word in (self.user or "", self.password):
            if any(ord(character) < 32 or ord(character) == 127 for character in word):
                raise ValueError("a proxy's user and password hold no control characters")
            if self.way is Way.SOCKS5 and self.user is not None and not 1 <= len(word.encode()) <= MAX_CREDENTIAL:
                raise ValueError(f"a SOCKS5 proxy's user and password have 1 to {MAX_CREDENTIAL} octets")
        if self.way is Way.HTTP and ":" in (self.user or ""):
            raise ValueError("an HTTP proxy's user has no colon")  # rfc7617#2

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.way.value}://{host}:{self.port}"

    def tunnel(self, host: str, port: int) -> Socks5 | Connect:
        """The machine that asks for a way to a server: a name, or an address as text. Raises ValueError for a host
        that can't be one.
        """
        return (Socks5 if self.way is Way.SOCKS5 else Connect)(self, host, port)


class _Machine:
    """What both have. Invariant: once `rest` or `refusal` is set, neither changes and nothing more is said."""

    __slots__ = ("_heard", "_host", "_port", "_proxy", "refusal", "rest")

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        if not _is_host(host):
            raise ValueError("this is no name or address that a proxy could be asked for")
        if not 0 < port < 1 << 16:
            raise ValueError("a port is a number from 1 to 65535")
        self._proxy = proxy
        self._host = host
        self._port = port
        self._heard = bytearray()
        self.rest: bytes | None = None
        """Once the way is open: what the server has said already, perhaps nothing."""
        self.refusal = ""
        """Why there is no way, in our words."""

    def _refuse(self, why: str) -> bytes:
        self.refusal = why
        self._heard.clear()
        return b""

    def _open(self, at: int) -> bytes:
        self.rest = bytes(self._heard[at:])
        self._heard.clear()
        return b""


class Socks5(_Machine):
    """SOCKS5: the method, perhaps a name and password, the request. At most 262 octets are waited for."""

    __slots__ = ("_step",)
    _FURTHER: ClassVar[dict[int, int]] = {_IPV4: 4, _IPV6: 16}

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        super().__init__(proxy, host, port)
        self._step: Callable[[], bytes | None] = self._method

    def begin(self) -> bytes:
        """The first words."""
        methods = (_NO_AUTH,) if self._proxy.user is None else (_NO_AUTH, _PASSWORD)
        return bytes((_VERSION, len(methods), *methods))

    def receive(self, data: bytes) -> bytes:
        """What is said next, b"" for nothing."""
        if self.refusal or self.rest is not None:
            return b""
        self._heard += data
        said = self._step()
        return said or b""

    def _method(self) -> bytes | None:
        if self._heard and self._heard[0] != _VERSION:
            return self._refuse("what answers isn't a SOCKS5 proxy")
        if len(self._heard) < 2:
            return None
        if len(self._heard) > 2:
            return self._refuse("it says more than it was asked for")
        method = self._heard[1]
        self._heard.clear()
        if method == _NO_AUTH:
            self._step = self._reply
            return self._request()
        if method == _PASSWORD and self._proxy.user is not None:
            user, password = self._proxy.user.encode(), self._proxy.password.encode()
            self._step = self._auth
            return bytes((_AUTH_VERSION, len(user))) + user + bytes((len(password),)) + password  # rfc1929#2
        if method == _NONE_FITS:
            wants = "the user and password it is given" if self._proxy.user is not None else "anybody without a user"
            return self._refuse(f"it doesn't take {wants}")
        return self._refuse("it wants to be told who we are in a way that it wasn't offered")

    def _auth(self) -> bytes | None:
        if self._heard and self._heard[0] != _AUTH_VERSION:
            return self._refuse("its answer to user and password isn't one")
        if len(self._heard) < 2:
            return None
        if self._heard[1] != 0:
            return self._refuse("it doesn't take the user and password it is given")
        if len(self._heard) > 2:
            return self._refuse("it says more than it was asked for")
        self._heard.clear()
        self._step = self._reply
        return self._request()

    def _request(self) -> bytes:
        try:
            address = ip_address(self._host)
        except ValueError:
            name = self._host.encode("ascii")
            where = bytes((_NAME, len(name))) + name
        else:
            where = bytes((_IPV4 if isinstance(address, IPv4Address) else _IPV6,)) + address.packed
        return bytes((_VERSION, 1, 0)) + where + self._port.to_bytes(2, "big")

    def _reply(self) -> bytes | None:
        heard = self._heard
        if heard and heard[0] != _VERSION:
            return self._refuse("its answer isn't one of SOCKS5")
        if len(heard) < 2:
            return None
        if heard[1] != 0:
            return self._refuse(_REPLIES.get(heard[1], f"failure {heard[1]}"))
        if len(heard) < 5:
            return None
        further = 1 + heard[4] if heard[3] == _NAME else self._FURTHER.get(heard[3])
        if further is None:
            return self._refuse("its answer isn't one of SOCKS5")
        end = 4 + further + 2
        return None if len(heard) < end else self._open(end)


class Connect(_Machine):
    """HTTP CONNECT. At most MAX_HEADER octets are read before the way is open."""

    __slots__ = ("_seen",)

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        super().__init__(proxy, host, port)
        self._seen = 0  # octets of interim responses

    def begin(self) -> bytes:
        """The request."""
        where = host_and_port(self._host, self._port)
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if self._proxy.user is not None:
            secret = b64encode(f"{self._proxy.user}:{self._proxy.password}".encode()).decode()  # rfc7617#2
            lines.append(f"Proxy-Authorization: Basic {secret}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def receive(self, data: bytes) -> bytes:
        """Nothing is said after the request."""
        if self.refusal or self.rest is not None:
            return b""
        begin = max(0, len(self._heard) - 3)
        self._heard += data
        while not self.refusal and self.rest is None:
            if not self._heard.startswith(_HTTP[: len(self._heard)]):
                return self._refuse("what answers isn't an HTTP proxy")
            end = self._heard.find(b"\r\n\r\n", begin)
            if self._seen + (len(self._heard) if end < 0 else end) > MAX_HEADER:
                return self._refuse("its answer doesn't end")
            if end < 0:
                break
            self._head(end + 4)
            begin = 0
        return b""

    def _head(self, end: int) -> None:
        """One header section: an interim response is passed over, the last one decides."""
        status = _STATUS.fullmatch(self._heard[: self._heard.index(b"\r\n")])
        if status is None:
            self._refuse("what answers isn't an HTTP proxy")
            return
        code = int(status[1])
        if 200 <= code < 300:
            self._open(end)  # rfc9110#9.3.6: what a length says there is ignored
        elif code < 200:
            self._seen += end
            del self._heard[:end]
        else:
            words = "".join(chr(octet) if 32 <= octet < 127 else "?" for octet in status[2] or b"")
            self._refuse(f"it said {code} {words[:_MAX_WORDS]}".rstrip())


def _is_host(host: str) -> bool:
    try:
        return "%" not in str(ip_address(host))
    except ValueError:
        return len(host) <= 255 and _HOST.fullmatch(host) is not None
