"""Laws of the POP3 client machine: where the stream is cut doesn't matter, nothing raises, a message comes out as it
was put in, and no message speaks for its server."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_pop3_client import check, play
from gatepost.wire.pop3.client_content import Incoming
from gatepost.wire.pop3.content import Outgoing
from gatepost.wire.sasl_client import MECHANISMS, Exchange, Failure, Secret

pieces = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b" ", b"\0", b"a", b"\xff", b"x" * 90, b".\r\n", b"+", b"1 "])
answers = st.sampled_from(
    [b"+OK\r\n", b"-ERR no\r\n", b"-ERR [IN-USE] no\r\n", b"+OK 2 320\r\n", b"+ \r\n", b"+ cj14\r\n", b"+OK <1@x>\r\n",
     b"+OK\r\n1 5\r\n2 7\r\n.\r\n", b"+OK\r\n1 uid1\r\n.\r\n", b"+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n", b".\r\n",
     b"+OK\r\nA: b\r\n\r\n..text\r\n.\r\n", b"+OK\nA: b\n\n..text\n.\n", b"+OK\r\na\n.\n+OK\r\n.\r\n", b"* OK\r\n",
     b"+OK\r\n99999999999 1\r\n.\r\n", b"+OK\r\n.\r\n"]
)  # fmt: skip
streams = st.lists(answers | pieces | st.binary(max_size=8), max_size=20).map(b"".join)
cuts_of = st.sets(st.integers(0, 300), max_size=6)
said = st.binary(max_size=8)


def cut(data: bytes, cuts: set[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place for place in cuts if place < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


@settings(max_examples=200, deadline=None)
@given(said, streams, cuts_of)
@example(b"\0", b"+OK\r\n1 5\r\n+OK\r\n" + b"x" * 5000, set())
def test_O7_where_a_servers_stream_is_cut_does_not_matter(calls: bytes, stream: bytes, cuts: set[int]) -> None:
    slowly = play(calls, cut(stream, set(range(len(stream)))), ahead=True)
    check(slowly)
    for chosen in (cuts, set()):
        assert play(calls, cut(stream, chosen), ahead=True).told() == slowly.told()


@settings(max_examples=200, deadline=None)
@given(said, streams | st.binary(max_size=300), cuts_of, st.booleans())
def test_nothing_a_pop3_server_says_raises(calls: bytes, stream: bytes, cuts: set[int], ahead: bool) -> None:
    check(play(calls, cut(stream, cuts), ahead=ahead))


bodies = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\r\n.", b"\n.\n", b"\r.\r", b"\xff", b"\0", b"+OK\r\n"]
    ),
    max_size=30,
).map(b"".join) | st.binary(max_size=60)


def normal(body: bytes) -> bytes:
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"


def stuffed(body: bytes, end: bytes) -> bytes:
    """As a server gives it that knows this line end, and leaves every other as it is."""
    whole = body if not body or body.endswith(end) else body + end
    dotted = b"." + whole if whole.startswith(b".") else whole
    return dotted.replace(end + b".", end + b"..") + b"." + end


def taken(octets: bytes, cuts: set[int], *, is_bare: bool = False) -> tuple[bytes, bytes]:
    """What a message is, and what followed it."""
    incoming = Incoming(is_bare=is_bare)
    found, after = b"", None
    for piece in cut(octets, cuts):
        if after is not None:
            after += piece
            continue
        text, after = incoming.feed(piece)
        found += text
    assert after is not None and incoming.size == len(found)
    return found, after


@settings(max_examples=300, deadline=None)
@given(bodies, cuts_of, st.binary(max_size=6))
@example(b"a\n.\n+OK\r\n", set(), b"")
@example(b"", {1, 2}, b"\n")
@example(b".\r", {3}, b"")
def test_F7_T4_a_message_of_a_server_ends_where_the_server_ends_it(body: bytes, cuts: set[int], after: bytes) -> None:
    octets = stuffed(body, b"\r\n")
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    assert taken(octets + after, cuts) == (normal(whole), after)
    assert taken(octets + after, set(range(len(octets + after)))) == (normal(whole), after)


@settings(max_examples=200, deadline=None)
@given(bodies, cuts_of)
def test_a_message_of_a_server_with_bare_newlines(body: bytes, cuts: set[int]) -> None:
    body = body.replace(b"\r", b"")
    expected = (normal(body), b"+OK\n")
    octets = stuffed(body, b"\n") + b"+OK\n"
    assert taken(octets, cuts, is_bare=True) == expected
    assert taken(octets, set(range(len(octets))), is_bare=True) == expected


@settings(max_examples=150, deadline=None)
@given(bodies, cuts_of)
def test_what_our_server_sends_our_client_takes(body: bytes, cuts: set[int]) -> None:
    outgoing = Outgoing()
    octets = outgoing.feed(body) + outgoing.end()
    assert taken(octets, cuts) == (normal(body), b"")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(MECHANISMS), st.lists(st.binary(max_size=60) | st.text(max_size=20).map(str.encode), max_size=12)
)
@example("SCRAM-SHA-256", [b"r=noncex,s=c2FsdA==,i=4096", b"v=x"])
def test_no_challenge_raises(mechanism: str, challenges: list[bytes]) -> None:
    exchange = Exchange(mechanism, Secret("ann", "secret"), nonce="nonce")
    has_failed = False
    for challenge in challenges:
        answer = exchange.respond(challenge)
        assert isinstance(answer, Failure) or not has_failed
        has_failed = has_failed or isinstance(answer, Failure)
    assert mechanism != "SCRAM-SHA-256" or not exchange.is_satisfied
