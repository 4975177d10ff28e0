"""Laws of the SMTP server machine: where the stream is cut doesn't matter, nothing raises, only CRLF.CRLF ends DATA."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatepost.model import Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp.content import Content
from gatepost.wire.smtp.profile import BareNewline, Profile
from gatepost.wire.smtp.replies import MAX_LINE, encode
from gatepost.wire.smtp.server import ServerSession, State
from gatepost.wire.smtp.states import COMMAND_STATES, LEGAL, TRANSACTION_STATES, Ask, Protocol, Verb
from scenes.smtp_machine.house import HOST, SYNCHRONISED, YES, House, coalesced, house, in_transaction

pieces = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0", b"\r\n.", b"\r\n.\r\n", b"x" * 40, b"\xc3\xa4", b" "]
)
contents = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=60)
commands = st.sampled_from(
    [b"EHLO me\r\n", b"HELO me\r\n", b"LHLO me\r\n", b"MAIL FROM:<a@example.org>\r\n", b"MAIL FROM:<> SIZE=9 PRDR\r\n",
     b"MAIL FROM:<a@b> RET=FULL ENVID=a+2Bb\r\n", b"RCPT TO:<b@c> NOTIFY=DELAY ORCPT=rfc822;a+00\r\n",
     b"RCPT TO:<b@example.org>\r\n", b"RCPT TO:<bad@example.org>\r\n", b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 0 LAST\r\n",
     b"BDAT 7 LAST\r\n", b"BDAT x\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN =\r\n",
     b"AUTH LOGIN\r\n", b"AUTH\r\n",
     b"YW5u\r\n", b"*\r\n", b"STARTTLS\r\n", b"VRFY a\r\n", b"XYZZY\r\n", b"Hi: x\r\n", b".\r\n",
     b"NOOP\n", b"x" * 700, b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"]
)  # fmt: skip
opening = st.sampled_from([b"", b"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n", b"EHLO me\r\n"])
streams = st.tuples(opening, st.lists(commands | pieces | st.binary(max_size=8), max_size=25).map(b"".join)).map(
    b"".join
)
profiles = st.builds(
    Profile,
    hostname=st.just(HOST),
    protocol=st.sampled_from(Protocol),
    text_line=st.sampled_from([0, 40, 1000]),
    message_size=st.sampled_from([0, 20, 10_000]),
    errors=st.sampled_from([3, 1000]),
    junk=st.sampled_from([2, 1000]),
    bare_newline=st.sampled_from(BareNewline),
    starttls=st.booleans(),
    auth=st.sampled_from([(), ("PLAIN", "LOGIN")]),
    auth_without_tls=st.booleans(),
    ask_lines=st.booleans(),
    ask_replies=st.booleans(),
)


def is_auth(event: ev.Event) -> bool:
    return isinstance(event, ev.Refused) and event.line == b"AUTH"


def run(profile: Profile, stream: bytes, cuts: set[int]) -> tuple[House, set[int]]:
    """The stream in pieces; and after which octets the client must wait for a reply."""
    made = House(ServerSession(profile), answers=[("Rcpt", "bad@", Reply(550, "5.1.1", "nobody"))])
    made.run()
    waits: set[int] = set()
    edges = sorted({0, len(stream), *cuts})
    for start, end in pairwise(edges):
        before, answering = len(made.events), made.session.state is State.AUTH
        made.receive(stream[start:end])
        news = made.events[before:]
        if (answering and news) or any(isinstance(event, SYNCHRONISED) or is_auth(event) for event in news):
            waits.add(end)
        if made.session.state is State.TLS:
            made.session.tls_started()
            made.run()
        assert made.session.buffered <= max(profile.longest_line, 12289)
    made.receive(b"")
    return made, waits


@settings(max_examples=400, deadline=None)
@given(profiles, streams, st.sets(st.integers(0, 300), max_size=6))
def test_F3_where_the_stream_is_cut_does_not_matter(profile: Profile, stream: bytes, cuts: set[int]) -> None:
    slowly, waits = run(profile, stream, set(range(len(stream))))
    for chosen in ({cut for cut in cuts if cut < len(stream)} | waits, waits):
        at_once, _ = run(profile, stream, chosen)
        assert coalesced(at_once.events) == coalesced(slowly.events)
        assert at_once.output == slowly.output
        assert at_once.messages == slowly.messages
        assert at_once.session.state is State.CLOSED


@settings(max_examples=300, deadline=None)
@given(profiles, st.binary(max_size=300) | streams)
def test_nothing_a_client_sends_raises(profile: Profile, stream: bytes) -> None:
    made, _ = run(profile, stream, set())
    assert made.session.state is State.CLOSED and isinstance(made.events[-1], ev.Ended)
    for line in made.output.split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[2-5][0-9][0-9][ -][^\x00-\x1f\x7f]*", line) and len(line) <= MAX_LINE


def naively(stream: bytes) -> tuple[bytes, bytes] | None:
    """Content and what follows it, octet by octet (rfc5321#4.5.2)."""
    seen, content, at = b"\r\n", b"", 0
    while at < len(stream):
        if seen.endswith(b"\r\n") and stream[at : at + 3] == b".\r\n":
            return content, stream[at + 3 :]
        if not (seen.endswith(b"\r\n") and stream[at : at + 1] == b"."):
            content += stream[at : at + 1]
        seen += stream[at : at + 1]
        at += 1
    return None


def scan(content: Content, stream: bytes, cuts: set[int]) -> tuple[bytes, bytes] | None:
    found = b""
    edges = sorted({0, len(stream), *cuts})
    for start, end in pairwise(edges):
        text, rest = content.dotted(stream[start:end])
        found += text
        if rest is not None:
            return found, rest + stream[end:]
    return None


@settings(max_examples=500, deadline=None)
@given(contents, st.sets(st.integers(0, 200), max_size=6))
@example(b"\r\n.\r\r\n.\r\n", {3, 4})
@example(b".\r\n", {1, 2})
def test_F1_F2_only_crlf_dot_crlf_ends_data(stream: bytes, cuts: set[int]) -> None:
    content = Content(Profile(HOST, text_line=0))
    expected = naively(stream)
    found = scan(content, stream, {cut for cut in cuts if cut < len(stream)})
    if expected is None:
        assert found is None
        return
    assert found is not None and found[1] == expected[1]
    if re.search(rb"\r(?!\n)|(?<!\r)\n", expected[0]):
        assert content.failure is not None and content.failure.status == "5.6.11"
    else:
        assert found[0] == expected[0] and content.failure is None and content.size == len(expected[0])


@settings(max_examples=300, deadline=None)
@given(contents, st.sets(st.integers(0, 200), max_size=6))
def test_F4_normalised_content_has_only_crlf_and_loses_nothing_else(stream: bytes, cuts: set[int]) -> None:
    content = Content(Profile(HOST, text_line=0, bare_newline=BareNewline.NORMALISE))
    found = scan(content, stream, {cut for cut in cuts if cut < len(stream)})
    expected = naively(stream)
    if expected is None or found is None:
        assert expected is found is None
        return
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", found[0])
    assert found[0] == re.sub(rb"\r\n|\r|\n", b"\r\n", expected[0])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=20).map(lambda line: re.sub(rb"[\r\n]", b".", line)), max_size=10))
def test_F7_what_is_stuffed_comes_out_unstuffed(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    made = in_transaction()
    made.say("DATA")
    made.receive(stuffed + b".\r\nNOOP\r\n")
    assert made.messages == [message]
    assert made.output.endswith(b"250 2.0.0 ok\r\n")


@settings(max_examples=200, deadline=None)
@given(contents, st.sets(st.integers(0, 200), max_size=4), st.sampled_from([5, 40, 1000]))
def test_a_line_is_too_long_wherever_it_is_cut(stream: bytes, cuts: set[int], limit: int) -> None:
    content = Content(Profile(HOST, text_line=limit, bare_newline=BareNewline.NORMALISE))
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in pairwise(edges):
        content.counted(stream[start:end], last=end == len(stream))
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", stream).split(b"\r\n")
    too_long = any(len(line) + 2 > limit for line in lines[:-1]) or len(lines[-1]) > limit
    assert (content.failure is not None) is too_long


@settings(max_examples=300, deadline=None)
@given(st.integers(200, 599), st.text(max_size=600), st.booleans())
def test_I1_a_reply_is_one_reply(code: int, text: str, smtputf8: bool) -> None:
    *lines, rest = encode(Reply(code, "", text), smtputf8=smtputf8).split(b"\r\n")
    assert rest == b"" and lines
    for line in lines:
        assert len(line) <= MAX_LINE and line[:3] == str(code).encode()
        assert not any(octet < 32 or octet == 127 for octet in line)
        line.decode("utf-8" if smtputf8 else "ascii")
    assert all(line[3:4] == b"-" for line in lines[:-1]) and lines[-1][3:4] == b" "


# The table, walked

ARGUMENTS = {
    Verb.EHLO: "me", Verb.HELO: "me", Verb.LHLO: "me", Verb.AUTH: "PLAIN", Verb.MAIL: "FROM:<a@example.org>",
    Verb.RCPT: "TO:<b@example.org>", Verb.BDAT: "0", Verb.VRFY: "a", Verb.EXPN: "a", Verb.UNKNOWN: "XYZZY",
    Verb.XCLIENT: "ADDR=203.0.113.9", Verb.XFORWARD: "NAME=[UNAVAILABLE]",
}  # fmt: skip


def brought_to(state: State, protocol: Protocol) -> House:
    """A session in that state."""
    hello = "LHLO me" if protocol is Protocol.LMTP else "EHLO me"
    lines = {
        State.REFUSED: [],
        State.START: [],
        State.READY: [hello],
        State.MAIL: [hello, "MAIL FROM:<a@example.org>"],
        State.NOBODY: [hello, "MAIL FROM:<a@example.org>", "RCPT TO:<bad@example.org>"],
        State.RCPT: [hello, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"],
        State.BDAT: [hello, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "BDAT 0"],
    }
    trusted = {"xclient": True, "xforward": True}
    profile = Profile(HOST, protocol=protocol, starttls=True, auth=("PLAIN",), auth_without_tls=True, **trusted)
    made = House(ServerSession(profile), answers=[("Rcpt", "bad@", Reply(550))])
    if state is State.REFUSED:
        made.answers.append(("Connect", "", Reply(554, "", "no")))
    made.run()
    for line in lines[state]:
        made.say(line)
    assert made.session.state is state
    made.output, made.events = b"", []
    return made


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("state", COMMAND_STATES)
@pytest.mark.parametrize("verb", Verb)
def test_the_machine_obeys_the_table(protocol: Protocol, state: State, verb: Verb) -> None:
    made = brought_to(state, protocol)
    replies = made.say(f"{verb.value} {ARGUMENTS.get(verb, '')}".strip())
    decision = LEGAL[protocol][state, verb]
    if isinstance(decision, Reply):
        assert replies == encode(decision).decode()
        assert made.events == [ev.Refused(made.events[0].line, decision)]
        left = State.READY if verb is Verb.BDAT and state in TRANSACTION_STATES else state
        assert made.session.state is left
    elif decision is Ask.BDAT:
        assert replies.startswith("250") and made.session.state is State.BDAT
    else:
        assert type(made.events[0]).__name__ == decision.value
        reply = YES.get(type(made.events[0]), Reply(334))
        assert replies.startswith(str(reply.code))


@pytest.mark.parametrize("protocol", Protocol)
def test_the_table_is_whole(protocol: Protocol) -> None:
    assert set(LEGAL[protocol]) == {(state, verb) for state in COMMAND_STATES for verb in Verb}
    assert {decision for decision in LEGAL[protocol].values() if isinstance(decision, Ask)} == set(Ask)


@settings(max_examples=100, deadline=None)
@given(st.lists(commands, max_size=30))
def test_S4_a_transaction_exists_exactly_in_its_states(lines: list[bytes]) -> None:
    made = house()
    for line in lines:
        made.receive(line)
        if made.session.state is State.CLOSED:
            return
        assert (made.session.sender is not None) is (made.session.state in TRANSACTION_STATES)
        if made.session.sender is None:
            assert made.session.recipients == 0 and not made.session.smtputf8 and not made.session.parameters
