"""PROXY protocol: both versions, cut anywhere; attack I6."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from gatepost.wire.proxy import LONGEST_BLOCK, HeaderReader, Malformed, Proxied

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(family: int, block: bytes, *, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block) if length is None else length) + block


def ends(source: str, destination: str, ports: tuple[int, int]) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", *ports)


FOUR = Proxied((ip_address("203.0.113.9"), 40000), (ip_address("192.0.2.1"), 25))
SIX = Proxied((ip_address("2001:db8::9"), 1), (ip_address("2001:db8::1"), 65535))
GOOD = {
    "v1 TCP4": (b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r\n", FOUR),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::9 2001:DB8::1 1 65535\r\n", SIX),
    "v1 TCP6, longest": (
        b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
        Proxied(*[(ip_address("ffff:" * 7 + "ffff"), 65535)] * 2),
    ),
    "v1 mapped": (
        b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 40000 25\r\n",
        FOUR,
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", Proxied()),
    "v1 UNKNOWN, 107 octets": (b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n", Proxied()),
    "v2 TCP4": (v2(0x11, ends("203.0.113.9", "192.0.2.1", (40000, 25))), FOUR),
    "v2 TCP4 with TLVs": (
        v2(0x11, ends("203.0.113.9", "192.0.2.1", (40000, 25)) + b"\x04\0\x02xy" + b"\xff" * 9),
        FOUR,
    ),
    "v2 TCP6": (v2(0x21, ends("2001:db8::9", "2001:db8::1", (1, 65535))), SIX),
    "v2 mapped": (v2(0x21, ends("::ffff:203.0.113.9", "::ffff:192.0.2.1", (40000, 25))), FOUR),
    "v2 LOCAL": (v2(0x00, b"", command=0x20), Proxied()),
    "v2 LOCAL with addresses": (v2(0x11, b"what", command=0x20), Proxied()),
    "v2 UNSPEC": (v2(0x00, b"\1" * 7), Proxied()),
    "v2 UNIX": (v2(0x31, b"/a".ljust(216, b"\0")), Proxied()),
    "v2 longest": (v2(0x00, b"\0" * LONGEST_BLOCK), Proxied()),
}
BEHIND = b"\x16\x03\x01PROXY UNKNOWN\r\nEHLO x\r\n"


def read(pieces: list[bytes]) -> tuple[Proxied | Malformed | None, bytes]:
    """The result, and every octet that isn't the header's."""
    reader, left = HeaderReader(), list(pieces)
    while left:
        if (result := reader.receive(left.pop(0))) is not None:
            return result, reader.rest + b"".join(left)
    return None, b""


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_wherever_it_is_cut_and_no_octet_behind_it_is_lost(name: str) -> None:
    header, expected = GOOD[name]
    whole = header + BEHIND
    for at in range(1, len(whole)):
        assert read([whole[:at], whole[at:]]) == (expected, BEHIND)
    if len(whole) < 500:
        assert read([bytes([octet]) for octet in whole]) == (expected, BEHIND)
    for at in range(1, len(header)):
        assert read([header[:at]]) == (None, b"")
        assert isinstance(read([header[:at], b""])[0], Malformed)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"\r\nEHLO",
        b"\0",
        b" PROXY UNKNOWN\r\n",
        b"proxy UNKNOWN\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        b"PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        b"PROXY TCP4 1.2.3.4\r 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\u0661\r\n".encode(),
        b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n",  # 108
        b"PROXY UNKNOWN ".ljust(107, b"f"),
        SIGNATURE[:-1] + b"X",
        v2(0x11, ends("192.0.2.1", "192.0.2.1", (1, 1)), command=0x11),
        v2(0x11, ends("192.0.2.1", "192.0.2.1", (1, 1)), command=0x22),
        v2(0x11, ends("192.0.2.1", "192.0.2.1", (1, 1))[:11]),
        v2(0x21, ends("192.0.2.1", "192.0.2.1", (1, 1))),
        v2(0x31, b"\0" * 215),
        v2(0x12, ends("192.0.2.1", "192.0.2.1", (1, 1))),
        v2(0x41, b"\0" * 216),
        v2(0x11, b"", length=LONGEST_BLOCK + 1),
        v2(0x00, b"", command=0x20, length=0xFFFF),
    ],
)
def test_attack_i6_what_is_no_header_is_told_at_once(octets: bytes) -> None:
    result, rest = read([octets])
    assert isinstance(result, Malformed)
    assert result.why.isprintable()
    assert rest == b""
    assert isinstance(read([bytes([octet]) for octet in octets])[0], Malformed)


def test_attack_i6_a_header_that_never_ends_is_bounded() -> None:
    for endless in (b"PROXY UNKNOWN ", v2(0x11, b"", length=LONGEST_BLOCK)):
        reader, count = HeaderReader(), len(endless)
        result = reader.receive(endless)
        while result is None:
            result = reader.receive(b"x")
            count += 1
        assert count <= 16 + LONGEST_BLOCK
        with pytest.raises(RuntimeError):
            reader.receive(b"x")
