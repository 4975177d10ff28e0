"""Fuzz target: any octets as a PROXY header, whole and cut. The first octets choose the cuts."""

from __future__ import annotations

from fuzz.hunting import hunt, pieces
from gatepost.wire.proxy import LONGEST_BLOCK, LONGEST_LINE, HeaderReader, Malformed, Proxied

CUTS = 4
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SEEDS = tuple(
    b"\x05\x0b\x02\x09" + stream
    for stream in (
        b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r\nEHLO x\r\n",
        b"PROXY TCP6 2001:db8::9 ::ffff:192.0.2.1 1 65535\r\n\x16\x03",
        b"PROXY UNKNOWN ffff\r\n",
        SIGNATURE + b"\x21\x11\x00\x0c" + bytes(range(12)) + b"EHLO x\r\n",
        SIGNATURE + b"\x21\x21\x00\x27" + bytes(range(36)) + b"\x04\x00\x00",
        SIGNATURE + b"\x20\x00\x00\x00QUIT\r\n",
        SIGNATURE + b"\x21\x31\x00\xd8" + b"/" * 216,
        SIGNATURE + b"\x21\x11\xff\xff",
    )
)


def read(parts: list[bytes]) -> tuple[Proxied | Malformed | None, int]:
    """The result, and how many octets it took."""
    reader, taken = HeaderReader(), 0
    for part in parts:
        taken += len(part)
        if (result := reader.receive(part)) is not None:
            return result, taken - len(reader.rest)
    return None, taken


def one_input(data: bytes) -> None:
    """The same however cut; nothing behind the header is taken, and no header is longer than one can be."""
    stream = data[CUTS:]
    if not stream:
        return
    whole, taken = read([stream])
    cut, cut_taken = read(pieces(stream, data[:CUTS]))
    assert type(cut) is type(whole)
    if isinstance(whole, Proxied):
        assert (cut, cut_taken) == (whole, taken)
        assert taken <= (LONGEST_LINE if stream[:1] == b"P" else 16 + LONGEST_BLOCK)
        assert read([stream[:taken]]) == (whole, taken)
    elif whole is None:
        assert len(stream) < 16 + LONGEST_BLOCK
    else:
        assert whole.why.isprintable()


if __name__ == "__main__":
    hunt(one_input, SEEDS)
