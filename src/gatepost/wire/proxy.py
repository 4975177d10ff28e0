"""The header that a load balancer says before its client's first octet: PROXY protocol, versions 1 and 2.

Source: "The PROXY protocol, Versions 1 & 2" (HAProxy, doc/proxy-protocol.txt), cited here as proxy-protocol. Strategy:
octets in, cut anywhere, until a `Proxied` or a `Malformed` comes out; what followed the header is the client's, and is
given back whole. Whether the peer may say it at all is not known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from gatepost.model import Address
from gatepost.model.peer import plain_address

LONGEST_LINE = 107  # octets with CRLF; proxy-protocol#2.1
LONGEST_BLOCK = 4096  # octets of addresses and TLVs that a header of version 2 may have here; the field could say 65535
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # proxy-protocol#2.2
_WORD = b"PROXY "
_FIXED = 16  # octets before the addresses: signature, version and command, family, length
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_LENGTHS = {_TCP4: 12, _TCP6: 36, _UNIX: 216}


@dataclass(frozen=True, slots=True)
class Proxied:
    """A header: who has called the proxy, and where. `source` is None where it doesn't say (UNKNOWN, LOCAL, a local
    socket): then the connection is the proxy's own, and its two ends are what counts.
    """

    source: tuple[Address, int] | None = None
    destination: tuple[Address, int] | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """This isn't a header, and nothing after it can be trusted; `why` is for the log."""

    why: str


class HeaderReader:
    """Reads one header. Invariant: it never keeps more than a header can have, and takes no octet beyond it."""

    def __init__(self) -> None:
        self._data = b""
        self._result: Proxied | Malformed | None = None

    def receive(self, data: bytes) -> Proxied | Malformed | None:
        """More octets; b"" is the end of them. The header once it is whole, None while more is needed."""
        if self._result is not None:
            raise RuntimeError("the header has been read")
        self._data += data
        if not data:
            self._result = Malformed("the connection ended before the header did")
        elif _begins(self._data, _SIGNATURE):
            self._result = self._binary()
        elif _begins(self._data, _WORD):
            self._result = self._text()
        else:
            self._result = Malformed("no PROXY header")
        return self._result

    @property
    def rest(self) -> bytes:
        """What came behind the header: the client's first octets."""
        return self._data if isinstance(self._result, Proxied) else b""

    def _text(self) -> Proxied | Malformed | None:
        end = self._data.find(b"\n", 0, LONGEST_LINE) + 1
        if not end:
            return Malformed("the line is too long") if len(self._data) >= LONGEST_LINE else None
        line, self._data = self._data[:end], self._data[end:]
        if not line.endswith(b"\r\n"):
            return Malformed("the line doesn't end with CRLF")
        if line == b"PROXY UNKNOWN\r\n" or line.startswith(b"PROXY UNKNOWN "):  # the rest of it is to be ignored
            return Proxied()
        if (match := _LINE.fullmatch(line)) is None:
            return Malformed("the line isn't well-formed")
        family, *words = (word.decode("ascii") for word in match.groups())
        try:
            kind = IPv4Address if family == "4" else IPv6Address
            source, destination = kind(words[0]), kind(words[1])
            ports = _port(words[2]), _port(words[3])
        except (AddressValueError, ValueError) as error:
            return Malformed(str(error))
        return Proxied((plain_address(source), ports[0]), (plain_address(destination), ports[1]))

    def _binary(self) -> Proxied | Malformed | None:
        data = self._data
        if len(data) < _FIXED:
            return None
        version, family, length = data[12], data[13], int.from_bytes(data[14:16])
        if version not in (0x20, 0x21):
            return Malformed(f"version and command are {version:#04x}")
        if length > LONGEST_BLOCK:
            return Malformed(f"{length} octets of addresses")
        is_local = version == 0x20
        if not is_local and family not in _LENGTHS and family >> 4:
            return Malformed(f"the family is {family:#04x}")
        if not is_local and length < _LENGTHS.get(family, 0):
            return Malformed(f"{length} octets are too few for the addresses")
        if len(data) < _FIXED + length:
            return None
        block, self._data = data[_FIXED : _FIXED + length], data[_FIXED + length :]
        if is_local or family not in (_TCP4, _TCP6):
            return Proxied()
        size = 4 if family == _TCP4 else 16
        ports = block[2 * size : 2 * size + 4]
        return Proxied(
            (_address(block[:size]), int.from_bytes(ports[:2])),
            (_address(block[size : 2 * size]), int.from_bytes(ports[2:])),
        )


def _begins(data: bytes, mark: bytes) -> bool:
    """Whether it begins so, as far as it goes."""
    return data[: len(mark)] == mark[: len(data)]


def _port(text: str) -> int:
    if (text[0] == "0" and text != "0") or int(text) > 65535:
        raise ValueError("a port isn't well-formed")
    return int(text)


def _address(octets: bytes) -> Address:
    return IPv4Address(octets) if len(octets) == 4 else plain_address(IPv6Address(octets))
