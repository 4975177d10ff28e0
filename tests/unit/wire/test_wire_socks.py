"""Asking proxies for a way: whole dialogues, cut at every place, and proxies that mean no good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire.socks import MAX_HEADER, Connect, Proxy, Socks5, Way

PLAIN = Proxy(Way.SOCKS5, "127.0.0.1", 1080)
NAMED = Proxy(Way.SOCKS5, "127.0.0.1", 1080, "ann", "s3cret")
WEB = Proxy(Way.HTTP, "127.0.0.1", 3128)
WEB_NAMED = Proxy(Way.HTTP, "127.0.0.1", 3128, "ann", "a:b")

Dialogue = list[tuple[bytes, bytes]]
"""(what the proxy says, what is said then)."""

FOUR = b"\x05\x01\x00\x01\xc0\x00\x02\x19\x00\x19"
NAME = b"\x05\x01\x00\x03\x0amx.example\x00\x19"
SIX = b"\x05\x01\x00\x04" + bytes.fromhex("20010db8000000000000000000000001") + b"\x02\x4b"
DONE_FOUR = b"\x05\x00\x00\x01\x0a\x00\x00\x01\x10\x00"
DONE_SIX = b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x00"
DONE_NAME = b"\x05\x00\x00\x03\x05proxy\x00\x01"

SOCKS: list[tuple[Proxy, str, int, bytes, Dialogue]] = [
    (PLAIN, "192.0.2.25", 25, b"\x05\x01\x00", [(b"\x05\x00", FOUR), (DONE_FOUR, b"")]),
    (PLAIN, "mx.example", 25, b"\x05\x01\x00", [(b"\x05\x00", NAME), (DONE_NAME, b"")]),
    (PLAIN, "2001:db8::1", 587, b"\x05\x01\x00", [(b"\x05\x00", SIX), (DONE_SIX, b"")]),
    (NAMED, "mx.example", 25, b"\x05\x02\x00\x02", [(b"\x05\x00", NAME), (DONE_FOUR, b"")]),
    (
        NAMED,
        "mx.example",
        25,
        b"\x05\x02\x00\x02",
        [(b"\x05\x02", b"\x01\x03ann\x06s3cret"), (b"\x01\x00", NAME), (DONE_FOUR, b"")],
    ),
]


@pytest.mark.parametrize(("proxy", "host", "port", "first", "dialogue"), SOCKS)
@pytest.mark.parametrize("rest", [b"", b"220 mx.example\r\n"])
def test_socks_octet_by_octet_and_whole(proxy, host, port, first, dialogue, rest):
    for is_cut in (False, True):
        machine = proxy.tunnel(host, port)
        assert isinstance(machine, Socks5)
        assert machine.begin() == first
        for at, (heard, said) in enumerate(dialogue):
            is_last = at == len(dialogue) - 1
            pieces = [heard[i : i + 1] for i in range(len(heard))] if is_cut else [heard]
            if is_last and rest:
                pieces[-1] += rest
            answers = [machine.receive(piece) for piece in pieces]
            assert answers == [b""] * (len(pieces) - 1) + [said]
            assert machine.refusal == ""
            assert machine.rest == (rest if is_last else None)


@pytest.mark.parametrize(
    ("proxy", "heard", "why"),
    [
        (PLAIN, [b"\x04"], "what answers isn't a SOCKS5 proxy"),
        (PLAIN, [b"HTTP/1.0 400 Bad\r\n"], "what answers isn't a SOCKS5 proxy"),
        (PLAIN, [b"\x05\xff"], "it doesn't take anybody without a user"),
        (NAMED, [b"\x05\xff"], "it doesn't take the user and password it is given"),
        (PLAIN, [b"\x05\x02"], "it wants to be told who we are in a way that it wasn't offered"),
        (NAMED, [b"\x05\x01"], "it wants to be told who we are in a way that it wasn't offered"),
        (PLAIN, [b"\x05\x00garbage"], "it says more than it was asked for"),
        (NAMED, [b"\x05\x02", b"\x01\x01"], "it doesn't take the user and password it is given"),
        (NAMED, [b"\x05\x02", b"\x05\x00"], "its answer to user and password isn't one"),
        (NAMED, [b"\x05\x02", b"\x01\x00\x05\x00"], "it says more than it was asked for"),
        (PLAIN, [b"\x05\x00", b"\x04\x00"], "its answer isn't one of SOCKS5"),
        (PLAIN, [b"\x05\x00", b"\x05\x02"], "its rules don't allow this connection"),
        (PLAIN, [b"\x05\x00", b"\x05\x05\x00\x01" + bytes(6)], "the connection was refused"),
        (PLAIN, [b"\x05\x00", b"\x05\x2a"], "failure 42"),
        (PLAIN, [b"\x05\x00", b"\x05\x00\x00\x09\x00"], "its answer isn't one of SOCKS5"),
    ],
)
def test_socks_refuses_in_words(proxy, heard, why):
    machine = proxy.tunnel("mx.example", 25)
    machine.begin()
    for data in heard:
        machine.receive(data)
    assert (machine.refusal, machine.rest) == (why, None)
    assert machine.receive(DONE_FOUR) == b""
    assert (machine.refusal, machine.rest) == (why, None)


def test_connect_says_where_and_who():
    assert WEB.tunnel("mx.example", 25).begin() == b"CONNECT mx.example:25 HTTP/1.1\r\nHost: mx.example:25\r\n\r\n"
    assert WEB.tunnel("2001:db8::1", 25).begin().startswith(b"CONNECT [2001:db8::1]:25 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic YW5uOmE6Yg==\r\n\r\n" in WEB_NAMED.tunnel("mx.example", 25).begin()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\nVia: x\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n",
    ],
)
@pytest.mark.parametrize("rest", [b"", b"220 mx.example\r\n\r\n250 x\r\n"])
def test_connect_octet_by_octet_and_whole(head, rest):
    for is_cut in (False, True):
        machine = WEB.tunnel("mx.example", 25)
        assert isinstance(machine, Connect)
        pieces = [head[at : at + 1] for at in range(len(head))] if is_cut else [head]
        for piece in pieces[:-1]:
            assert machine.receive(piece) == b""
            assert (machine.rest, machine.refusal) == (None, "")
        assert machine.receive(pieces[-1] + rest) == b""
        assert (machine.rest, machine.refusal) == (rest, "")


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (b"SSH-2.0-x\r\n", "what answers isn't an HTTP proxy"),
        (b"\x05\x00", "what answers isn't an HTTP proxy"),
        (b"HTTP/2 200\r\n\r\n", "what answers isn't an HTTP proxy"),
        (b"HTTP/1.1 2000 x\r\n\r\n", "what answers isn't an HTTP proxy"),
        (b"HTTP/1.1 200\n\n\r\n\r\n", "what answers isn't an HTTP proxy"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it said 407 Proxy Authentication Required"),
        (b"HTTP/1.1 403\r\n\r\n<html>", "it said 403"),
        (b"HTTP/1.1 502 a\x1b[2Jb\xff" + b"c" * 500 + b"\r\n\r\n", "it said 502 a?[2Jb?" + "c" * 93),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEADER, "its answer doesn't end"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEADER + b"\r\n\r\n", "its answer doesn't end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, "its answer doesn't end"),
    ],
)
def test_connect_refuses_in_words(heard, why):
    machine = WEB.tunnel("mx.example", 25)
    machine.begin()
    machine.receive(heard)
    assert (machine.refusal, machine.rest) == (why, None)


def test_an_endless_answer_is_cut_off_and_forgotten():
    machine = WEB.tunnel("mx.example", 25)
    machine.receive(b"HTTP/1.1 200 OK\r\n")
    fed = 0
    while not machine.refusal:
        machine.receive(b"A: b\r\n")
        fed += 6
        assert len(machine._heard) <= MAX_HEADER
    assert fed <= MAX_HEADER
    assert not machine._heard


@given(st.sampled_from([PLAIN, NAMED, WEB, WEB_NAMED]), st.lists(st.binary(max_size=40), max_size=8))
def test_nothing_a_proxy_says_raises_or_is_kept_without_end(proxy, pieces):
    machine = proxy.tunnel("mx.example", 25)
    machine.begin()
    for piece in pieces:
        before = (machine.rest, machine.refusal)
        machine.receive(piece)
        assert before == (None, "") or (machine.rest, machine.refusal) == before
        assert not (machine.refusal and machine.rest is not None)


@pytest.mark.parametrize(
    "host", ["", "a b", "a\r\nX: y", "a" * 256, "fe80::1%eth0", "mx.example:25", "é.example", "-a"]
)
@pytest.mark.parametrize("proxy", [PLAIN, WEB])
def test_hosts_that_nobody_can_be_asked_for(proxy, host):
    with pytest.raises(ValueError, match="name or address"):
        proxy.tunnel(host, 25)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_that_nobody_can_be_asked_for(port):
    with pytest.raises(ValueError, match="port"):
        WEB.tunnel("mx.example", port)


@pytest.mark.parametrize(
    ("way", "user", "password"),
    [
        (Way.SOCKS5, "a" * 256, "x"),
        (Way.SOCKS5, "", "x"),
        (Way.SOCKS5, "ann", ""),
        (Way.SOCKS5, "ann", "é" * 128),
        (Way.HTTP, "a:b", "x"),
        (Way.HTTP, "ann", "x\r\ny"),
    ],
)
def test_credentials_that_cannot_be_said(way, user, password):
    with pytest.raises(ValueError, match="prox"):
        Proxy(way, "h", 1, user, password)


def test_the_password_is_never_shown():
    assert str(NAMED) == "socks5://127.0.0.1:1080"
    assert "s3cret" not in repr(NAMED)
    assert str(Proxy(Way.HTTP, "::1", 3128)) == "http://[::1]:3128"
