"""Fuzz target: any octets from a proxy that a way was asked for, SOCKS5 or HTTP CONNECT, whole and cut.

The first octets choose the proxy, the host and the cuts; the rest is what the proxy says.
"""

from __future__ import annotations

from fuzz.hunting import hunt, pieces
from gatepost.wire.socks import MAX_HEADER, Proxy, Way

CUTS = 4
TOP = 2 + CUTS
LONGEST_SOCKS = 2 + 2 + 262  # octets that a SOCKS5 proxy is listened to before the way is open
HOSTS = ("mx.example.org", "192.0.2.1", "2001:db8::1")
PROXIES = tuple(
    Proxy(way, "127.0.0.1", 1080, user, password)
    for way in Way
    for user, password in ((None, ""), ("ann", "hidden-word"))
)
SEEDS = tuple(
    bytes((proxy, 0)) + b"\x01\x02\x03\x09" + said
    for proxy, said in (
        (0, b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38220 mx\r\n"),
        (1, b"\x05\x02\x01\x00\x05\x00\x00\x03\x04name\x04\x38220 mx\r\n"),
        (1, b"\x05\x02\x01\x01"),
        (0, b"\x05\xff"),
        (0, b"\x05\x00\x05\x05\x00\x04" + bytes(18)),
        (2, b"HTTP/1.1 200 Connection established\r\n\r\n220 mx\r\n"),
        (2, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\nVia: x\r\n\r\n220 mx\r\n"),
        (3, b"HTTP/1.1 407 Who\x1b[0m are you?\r\nContent-Length: 2\r\n\r\nno"),
    )
)


def ask(proxy: Proxy, host: str, parts: list[bytes]) -> tuple[bytes, str, bytes | None]:
    """What was said, why there is no way, and what is the server's."""
    machine = proxy.tunnel(host, 25)
    said = machine.begin()
    for at, part in enumerate(parts):
        if machine.rest is not None:  # from here on the stream is the server's
            return said, machine.refusal, machine.rest + b"".join(parts[at:])
        said += machine.receive(part)
        assert len(machine._heard) <= (MAX_HEADER + len(part) if proxy.way is Way.HTTP else LONGEST_SOCKS)
    return said, machine.refusal, machine.rest


def one_input(data: bytes) -> None:
    """The same however an HTTP proxy's words are cut; one answer at most; nothing of the password is repeated."""
    if len(data) <= TOP:
        return
    proxy, host = PROXIES[data[0] % len(PROXIES)], HOSTS[data[1] % len(HOSTS)]
    words = data[TOP:]
    octets = [words[at : at + 1] for at in range(min(len(words), 600))]
    for parts in ([words], pieces(words, data[2:TOP]), [*octets, *([words[600:]] if len(words) > 600 else [])]):
        said, refusal, rest = ask(proxy, host, parts)
        assert rest is None or not refusal
        assert refusal.isprintable()
        assert refusal.isascii()
        assert "hidden-word" not in refusal
        assert len(refusal) < 200
        assert len(said) < 1024
        if rest is not None:
            assert words.endswith(rest)


if __name__ == "__main__":
    hunt(one_input, SEEDS)
