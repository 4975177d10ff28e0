"""Laws of the POP3 machine: where the stream is cut doesn't matter, nothing raises, each command has one reply, what is
stuffed comes out unstuffed, and no secret is told."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3.content import Outgoing
from gatepost.wire.pop3.offers import guard
from gatepost.wire.pop3.replies import MAX_LINE, Reply, encode, encode_lines
from gatepost.wire.pop3.server import Profile, ServerSession, State
from gatepost.wire.pop3.states import COMMAND_STATES, LEGAL, Ask, Verb
from scenes.pop3_machine.maildrop_house import STAMP, MaildropHouse, maildrop_house, opened

MARK = b"hush-hush"
pieces = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b" ", b"\0", b"a", b"\xc3\xa4", b"\xff", b"x" * 90, MARK])
commands = st.sampled_from(
    [b"USER ann\r\n", b"PASS secret\r\n", b"PASS wrong\r\n", b"USER J\xc3\xb6rg\r\n", b"APOP ann 0\r\n", b"CAPA\r\n",
     b"AUTH\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", b"AUTH PLAIN =\r\n", b"AUTH LOGIN YW5u\r\n",
     b"c2VjcmV0\r\n", b"*\r\n", b"\r\n", b"STLS\r\n", b"UTF8\r\n", b"LANG\r\n", b"LANG en\r\n", b"STAT\r\n",
     b"LIST\r\n", b"LIST 1\r\n", b"LIST 0\r\n", b"UIDL\r\n", b"UIDL 2147483648\r\n", b"RETR 1\r\n", b"RETR 2\r\n",
     b"TOP 1 1\r\n", b"TOP 2 0\r\n", b"TOP 1 -1\r\n", b"DELE 1\r\n", b"RSET\r\n", b"NOOP\r\n", b"NOOP\n",
     b"QUIT\r\n", b"XTND\r\n", b"x" * 300, b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"]
)  # fmt: skip
opening = st.sampled_from([b"", b"USER ann\r\nPASS secret\r\n", b"STLS\r\n", b"UTF8\r\nUSER ann\r\n"])
streams = st.tuples(opening, st.lists(commands | pieces | st.binary(max_size=8), max_size=25).map(b"".join)).map(
    b"".join
)
profiles = st.builds(
    Profile,
    command_line=st.sampled_from([40, 255]),
    errors=st.sampled_from([2, 1000]),
    commands=st.sampled_from([4, 1000]),
    auth_attempts=st.sampled_from([1, 1000]),
    bare_newline=st.booleans(),
    starttls=st.booleans(),
    auth=st.sampled_from([(), ("PLAIN", "LOGIN")]),
    auth_without_tls=st.booleans(),
    apop=st.booleans(),
    utf8=st.booleans(),
    response_codes=st.booleans(),
)
cuts_of = st.sets(st.integers(0, 300), max_size=6)
texts = st.text(max_size=600) | st.text(st.sampled_from("a[]<>.\r\n\0 \x85\u2028ä"), max_size=40)


def run(profile: Profile, stream: bytes, cuts: set[int]) -> tuple[MaildropHouse, set[int]]:
    """The stream in pieces; and after which octets the client must wait for a reply: its STLS."""
    made = MaildropHouse(ServerSession(profile, timestamp=STAMP))
    made.run()
    waits: set[int] = set()
    for start, end in pairwise(sorted({0, len(stream), *cuts})):
        made.receive(stream[start:end])
        if made.session.state is State.TLS:
            waits.add(end)
            made.session.tls_started()
            made.run()
        assert made.session.buffered <= profile.longest_line
    made.receive(b"")
    return made, waits


@settings(max_examples=400, deadline=None)
@given(profiles, streams, cuts_of)
def test_O6_where_a_pop3_stream_is_cut_does_not_matter(profile: Profile, stream: bytes, cuts: set[int]) -> None:
    slowly, waits = run(profile, stream, set(range(len(stream))))
    for chosen in ({cut for cut in cuts if cut < len(stream)} | waits, waits):
        at_once, _ = run(profile, stream, chosen)
        assert at_once.events == slowly.events
        assert at_once.output == slowly.output
        assert at_once.deleted == slowly.deleted


@settings(max_examples=300, deadline=None)
@given(profiles, st.binary(max_size=300) | streams)
def test_nothing_a_pop3_client_sends_raises(profile: Profile, stream: bytes) -> None:
    made, _ = run(profile, stream, set())
    assert made.session.state is State.CLOSED and isinstance(made.events[-1], ev.Ended)
    for line in made.output.split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[^\x00-\x1f\x7f]*", line) and len(line) <= MAX_LINE


def replies(output: bytes, lines: list[bytes]) -> int:
    """How many replies these octets are, read as the client does that has said these lines."""
    found, rest = 0, output
    while rest:
        first, end, rest = rest.partition(b"\r\n")
        assert end and re.match(rb"\+OK|-ERR|\+ ", first), first
        line = lines[found].upper().strip()
        if first.startswith(b"+OK") and (line in MULTI or line[:5] in (b"RETR ", b"TOP 1", b"TOP 2")):
            assert rest.startswith(b".\r\n") or b"\r\n.\r\n" in rest
            rest = rest[3:] if rest.startswith(b".\r\n") else rest.partition(b"\r\n.\r\n")[2]
        found += 1
    return found


MULTI = (b"CAPA", b"LIST", b"UIDL", b"LANG", b"AUTH")
whole_commands = commands.filter(lambda line: line.endswith(b"\r\n"))


@settings(max_examples=300, deadline=None)
@given(profiles, st.lists(whole_commands, min_size=1, max_size=25))
def test_each_line_of_a_client_has_one_reply(profile: Profile, lines: list[bytes]) -> None:
    made = MaildropHouse(ServerSession(profile, timestamp=STAMP))
    made.run()
    for line in lines:
        if made.session.wants_close:
            break
        made.output = b""
        answers_challenge = made.session.state is State.SASL
        made.receive(line)
        assert replies(made.output, [b"*" if answers_challenge else line]) == 1
        if made.session.state is State.TLS:
            made.session.tls_started()


# No secret is told

secret_lines = st.sampled_from(
    [b"PASS " + MARK, b"pass  " + MARK, b" PASS " + MARK, b"PASS\t" + MARK, b"\0PASS " + MARK, b"PASS" + MARK,
     b"PASS " + MARK + b"\xff", b"PASS " + MARK + b"\xc3\xa4", b"PASS " + MARK * 40, b"pAsSwOrD " + MARK,
     b"APOP ann " + MARK, b"APOP " + MARK, b"AUTH PLAIN " + MARK, b"AUTH X " + MARK, b"auth plain " + MARK * 2000,
     b"USER ann\rPASS " + MARK, b"AUTH PLAIN\r\n" + MARK, b"AUTH X\r\n" + MARK + b"\r\n" + MARK,
     b"AUTH LOGIN\r\n" + MARK + b"\0\r\n" + MARK, b"AUTH PLAIN\r\n" + MARK * 2000, b"AUTH\r\n" + MARK]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    profiles, st.lists(secret_lines | st.sampled_from([b"USER ann", b"CAPA", b"QUIT now"]), max_size=8), st.booleans()
)
def test_no_secret_is_told(profile: Profile, lines: list[bytes], one_by_one: bool) -> None:
    stream = b"".join(line + b"\r\n" for line in lines)
    made, _ = run(profile, stream, set(range(len(stream))) if one_by_one else set())
    told = [*made.refusals, *(event for event in made.events if not isinstance(event, ev.Refused))]
    assert not [event for event in told if MARK.decode() in repr(event)]
    assert MARK not in made.output


# What leaves

bodies = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\r\n.", b"\r\n.\r\n", b"\xff", b"\0", b"text"]),
    max_size=30,
).map(b"".join) | st.binary(max_size=60)


def sent(body: bytes, cuts: set[int], lines: int | None = None) -> bytes:
    outgoing = Outgoing(lines)
    found = b""
    for start, end in pairwise(sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})):
        found += outgoing.feed(body[start:end])
    return found + outgoing.end()


def received(octets: bytes) -> bytes:
    """What a client makes of it (rfc1939#3); nothing may follow the dot."""
    content = b""
    while True:
        line, end, octets = octets.partition(b"\r\n")
        assert end
        if line == b".":
            assert not octets
            return content
        content += (line[1:] if line.startswith(b".") else line) + b"\r\n"


def normal(body: bytes) -> bytes:
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"


@settings(max_examples=600, deadline=None)
@given(bodies, cuts_of)
@example(b"\r.\r\n", {1, 2})
@example(b"a\r\n.\r\nb", {2, 4})
def test_O1_F7_what_is_stuffed_comes_out_whole(body: bytes, cuts: set[int]) -> None:
    octets = sent(body, cuts)
    assert received(octets) == normal(body)
    # for the clients that see line ends elsewhere too
    assert not re.search(rb"(?:^|[\r\n])\.[\r\n]", octets[:-3])
    assert octets == sent(body, set(range(len(body))))


@settings(max_examples=600, deadline=None)
@given(bodies, cuts_of, st.integers(0, 6))
@example(b"\r\nbody\r\nmore", {1}, 1)
@example(b"A: b\n\n.\n.\n", {5, 6}, 1)
def test_O1_top_is_the_header_and_so_many_lines(body: bytes, cuts: set[int], lines: int) -> None:
    whole = normal(body)
    header, blank, rest = (b"", b"\r\n", whole[2:]) if whole.startswith(b"\r\n") else whole.partition(b"\r\n\r\n")
    expected = header + blank + b"".join(line + b"\r\n" for line in rest.split(b"\r\n")[:-1][:lines])
    assert received(sent(body, cuts, lines)) == expected


@settings(max_examples=300, deadline=None)
@given(texts, st.booleans(), st.booleans(), st.sampled_from(["", "AUTH", "SYS/TEMP", "UTF8"]), st.booleans())
@example("ä" * 600, True, True, "AUTH", True)
@example(" [AUTH] no", False, False, "", True)
def test_I1_a_pop3_reply_is_one_line(text: str, positive: bool, utf8: bool, code: str, codes: bool) -> None:
    line = encode(Reply(positive, text, code), utf8=utf8, codes=codes)
    assert line.endswith(b"\r\n") and len(line) <= MAX_LINE + 2
    shown = line[:-2].decode("utf-8" if utf8 else "ascii")
    assert re.match(r"(\+OK|-ERR)($| )", shown) and shown.isprintable()
    said = re.match(r"\S+ *\[([^\]]*)\]", shown)
    assert (said[1] if said else "") == (code if codes else "")
    assert (codes and code) or not re.match(r"\S+ *\[", shown)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=8), st.booleans())
@example(["x" * 600, "."], False)
@example(["a\r\n.", "b"], False)
def test_I1_a_listing_has_the_lines_it_was_given(lines: list[str], utf8: bool) -> None:
    octets = encode_lines(lines, utf8=utf8)
    content = received(octets)
    assert content.count(b"\r\n") == len(lines)
    for line, shown in zip(lines, content.split(b"\r\n"), strict=False):
        assert len(shown) <= MAX_LINE
        assert shown.decode("utf-8" if utf8 else "ascii").isprintable()
        if line.isascii() and line.isprintable() and len(line) <= MAX_LINE:
            assert shown == line.encode()


@settings(max_examples=200, deadline=None)
@given(texts)
@example("x" * 600)
def test_the_timestamp_is_the_only_word_in_angle_brackets(text: str) -> None:
    session = ServerSession(Profile(apop=True), timestamp=STAMP)
    session.next_event()
    session.ok(text)
    line = session.data_to_send()
    assert len(line) <= MAX_LINE + 2
    assert re.findall(rb"<[^>]*>", line) == [STAMP.encode()]


# The table, walked

ARGUMENTS = {
    Verb.USER: "ann", Verb.PASS: "secret", Verb.APOP: "ann " + "0" * 32, Verb.AUTH: "PLAIN", Verb.RETR: "1",
    Verb.TOP: "1 1", Verb.DELE: "1", Verb.UNKNOWN: "XTND",
}  # fmt: skip
EVERYTHING = {"starttls": True, "auth": ("PLAIN",), "auth_without_tls": True, "apop": True}


def brought_to(state: State) -> MaildropHouse:
    if state is State.TRANSACTION:
        return opened(tls=False, **EVERYTHING)
    made = maildrop_house(tls=False, **EVERYTHING)
    if state is State.NAMED:
        made.say("USER ann")
    assert made.session.state is state
    made.output, made.events = b"", []
    return made


@pytest.mark.parametrize("state", COMMAND_STATES)
@pytest.mark.parametrize("verb", Verb)
def test_the_pop3_machine_obeys_the_table(state: State, verb: Verb) -> None:
    made = brought_to(state)
    heard = made.say(f"{verb.value} {ARGUMENTS.get(verb, '')}".strip())
    decision = LEGAL[state, verb]
    if isinstance(decision, Reply):
        assert heard == encode(decision).decode()
        assert made.events == [ev.Refused(made.events[0].line, decision)]
        assert made.session.state is state
    else:
        assert type(made.events[0]).__name__ == decision.value.partition(",")[0]
        assert heard.startswith("+" if verb is not Verb.APOP else "-ERR [AUTH]")


def test_the_pop3_table_is_whole() -> None:
    assert set(LEGAL) == {(state, verb) for state in COMMAND_STATES for verb in Verb}
    assert {decision for decision in LEGAL.values() if isinstance(decision, Ask)} == set(Ask)


def test_what_each_state_is_for() -> None:
    raised = {
        state: {verb for verb in Verb if isinstance(LEGAL[state, verb], Ask) and verb not in ALWAYS}
        for state in COMMAND_STATES
    }
    before = {Verb.USER, Verb.APOP, Verb.AUTH, Verb.STLS, Verb.UTF8}
    assert raised[State.AUTHORIZATION] == before
    assert raised[State.NAMED] == before | {Verb.PASS}
    assert raised[State.TRANSACTION] == set(Verb) - ALWAYS - before - {Verb.PASS, Verb.UNKNOWN}
    assert all(isinstance(LEGAL[state, verb], Ask) for state in COMMAND_STATES for verb in ALWAYS)


ALWAYS = {Verb.CAPA, Verb.LANG, Verb.QUIT}


@pytest.mark.parametrize("verb", [Verb.USER, Verb.PASS, Verb.APOP, Verb.AUTH, Verb.STLS, Verb.UTF8, Verb.LANG])
def test_what_is_not_offered_is_refused(verb: Verb) -> None:
    nothing = Profile(user=False, utf8=False, languages=())
    assert isinstance(guard(nothing, verb, tls=False, timestamp=""), Reply)
    assert isinstance(guard(nothing, verb, tls=True, timestamp=""), Reply)


@settings(max_examples=200, deadline=None)
@given(profiles, st.lists(whole_commands, max_size=25))
def test_the_maildrop_is_open_only_after_a_login(profile: Profile, lines: list[bytes]) -> None:
    made = MaildropHouse(ServerSession(profile, timestamp=STAMP))
    made.run()
    for line in lines:
        before = len(made.events)
        was_open = made.session.state is State.TRANSACTION
        made.receive(line)
        asked = [event for event in made.events[before:] if isinstance(event, MAILDROP)]
        assert was_open or not asked
        if made.session.state is State.TLS:
            assert not was_open
            made.session.tls_started()
            made.run()


MAILDROP = (ev.Stat, ev.List, ev.Uidl, ev.Retrieve, ev.Top, ev.Delete, ev.Reset, ev.Noop)
