"""PRDR: the content answered for each recipient, then once for all. What counts, is broken, is asked about."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import Path, Recipient, Reply
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    Asks,
    Closed,
    EndSession,
    Event,
    GiveUp,
    Go,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Purpose,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    Transaction,
)
from unit.wire_client.test_wire_client_session import Talk, message

OFFERS = ["PRDR", "PIPELINING,PRDR", "PIPELINING,CHUNKING,PRDR"]
SENDER = Path.parse("a@b.example")
NAMES = ("u@y.example", "v@y.example", "w@y.example")
TO = tuple(Recipient(Path.parse(name)) for name in NAMES)
NO = Reply(554, "5.7.1", "a plugin says no")
MAIL = "MAIL FROM:<a@b.example>"


def talk_to_end(offers: str = "PIPELINING,PRDR", *answers: str, mail_line: str | None = None) -> Talk:
    """A session in which the content for three recipients is over; `answers` are those to their RCPTs."""
    talk = Talk(offers=offers)
    talk.client.send(Transaction(SENDER, TO, 5), mail_line)
    talk.written()
    talk.said("250 sender")
    for answer in answers or ("250 ok",) * 3:
        talk.said(answer)
    if not talk.client.wants_content:
        talk.said("354 go")
    talk.content(b"hello\r\n")
    return talk


def codes(talk: Talk) -> list[tuple[int, str, bool]]:
    [outcomes] = [event for event in talk.events if isinstance(event, Outcomes)]
    assert tuple(o.recipient for o in outcomes.outcomes) == TO
    return [(o.reply.code, o.reply.text, o.is_ours) for o in outcomes.outcomes]


# ── Who is asked ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("offers", "what", "says"),
    [
        ("PRDR", {}, True),
        ("SIZE,PRDR", {}, True),
        ("SIZE", {}, False),
        ("PRDR", {"recipients": TO[:1]}, False),
        ("PRDR", {"purpose": Purpose.MESSAGE_TO_ALL}, False),
        ("PRDR", {"purpose": Purpose.PROBE}, False),
    ],
)
def test_prdr_is_asked_for_where_it_is_offered_and_makes_a_difference(
    offers: str, what: dict[str, object], says: bool
) -> None:
    talk = Talk(offers=offers)
    transaction = Transaction(**({"sender": SENDER, "recipients": TO, "size": 5} | what))  # type: ignore[arg-type]
    assert talk.client.mail_line(transaction).endswith(" PRDR") == says
    talk.client.send(transaction)
    assert talk.written().split("\r\n")[0].endswith(" PRDR") == says


def test_lmtp_answers_for_each_anyway() -> None:
    talk = Talk(protocol=Protocol.LMTP, offers="PIPELINING,PRDR")
    assert not talk.client.mail_line(Transaction(SENDER, TO, 5)).endswith("PRDR")
    talk.client.send(Transaction(SENDER, TO, 5), f"{MAIL} PRDR")  # whoever says so all the same
    talk.written()
    talk.said("250 a", "250 b", "250 b", "250 b", "354 go")
    talk.content(b"hello\r\n")
    talk.said("250 kept", "353 now what")
    assert [code for code, _, _ in codes(talk)] == [250, 451, 451]
    assert isinstance(talk.last, ProtocolError)


# ── What counts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offers", OFFERS)
def test_the_last_reply_is_for_all_who_were_not_refused(offers: str) -> None:
    talk = talk_to_end(offers)
    assert talk.said("353 one by one", "250 u", "550 5.7.1 not v") == ""
    assert talk.client.phase is Phase.END_OF_DATA
    assert not any(isinstance(event, Outcomes) for event in talk.events), "nothing is sure before the last reply"
    talk.said("452 not w", "250 kept")
    assert codes(talk) == [(250, "kept", False), (550, "not v", False), (452, "not w", False)]
    assert [phase for _, _, phase in talk.results()] == [Phase.END_OF_DATA] * 3
    assert talk.client.can_reuse
    talk.client.send(message("x@y.example"))
    assert talk.written().startswith("MAIL "), "there is nothing to take back"


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("code", [451, 550])
def test_a_last_reply_that_refuses_is_for_all_who_were_taken(offers: str, code: int) -> None:
    talk = talk_to_end(offers)
    talk.said("353 one by one", "250 u", "550 not v", "250 w", f"{code} nobody")
    assert codes(talk) == [(code, "nobody", False), (550, "not v", False), (code, "nobody", False)]


@pytest.mark.parametrize("offers", OFFERS)
def test_replies_are_those_of_the_recipients_taken_before(offers: str) -> None:
    talk = talk_to_end(offers, "250 ok", "550 who?", "250 ok")
    talk.said("353 one by one", "250 u", "550 not w", "250 kept")
    assert codes(talk) == [(250, "kept", False), (550, "who?", False), (550, "not w", False)]


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("code", [250, 451, 550])
def test_one_reply_for_all_is_as_before(offers: str, code: int) -> None:
    talk = talk_to_end(offers)
    talk.said(f"{code} all")
    assert codes(talk) == [(code, "all", False)] * 3
    assert talk.client.can_reuse


def test_all_refused_singly_whatever_the_last_reply_says() -> None:
    talk = talk_to_end()
    talk.said("353 one by one", "550 u", "451 v", "550 w", "250 kept for nobody")
    assert [code for code, _, _ in codes(talk)] == [550, 451, 550]


def test_a_refused_chunk_stays_refused() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING,PRDR")
    talk.sent(*NAMES)
    talk.said("250 a", "250 b", "250 b", "250 b")
    talk.content(b"hello\r\n", b"again\r\n")
    talk.said("552 too much", "353 one by one", "250 u", "250 v", "250 w", "554 no")
    assert codes(talk) == [(552, "too much", False)] * 3
    assert talk.client.is_idle


# ── What is broken ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("heard", range(4))
def test_U1_lost_among_the_replies_nobody_has_it_for_sure(heard: int) -> None:
    talk = talk_to_end()
    talk.said(*["353 one by one", "550 not u", "250 v", "250 w"][: heard + 1])
    talk.client.receive(b"")
    talk.written()
    assert [code for code, _, _ in codes(talk)] == [550 if heard else 451, 451, 451]
    assert [ours for _, _, ours in codes(talk)] == [not heard, True, True]
    assert isinstance(talk.last, Closed)


@pytest.mark.parametrize("heard", range(1, 5))
def test_U1_421_among_the_replies_is_for_all_who_have_none(heard: int) -> None:
    talk = talk_to_end()
    talk.said(*["353 one by one", "550 not u", "250 v", "250 w"][:heard], "421 4.3.2 bye", "250 forged")
    assert [code for code, _, _ in codes(talk)] == [550 if heard > 1 else 421, 421, 421]
    assert talk.last == Closed(Reply(421, "4.3.2", "bye"))


@pytest.mark.parametrize("place", range(1, 5))
@pytest.mark.parametrize("code", [353, 354, 334])
def test_U1_a_3xx_among_the_replies_breaks_the_protocol(place: int, code: int) -> None:
    talk = talk_to_end()
    talk.said(*["353 one by one", "250 u", "250 v", "250 w"][:place], f"{code} more", "250 kept")
    assert [(code, ours) for code, _, ours in codes(talk)] == [(451, True)] * 3
    assert isinstance(talk.last, ProtocolError)


def test_U1_fewer_replies_than_recipients_and_nobody_has_it() -> None:
    talk = talk_to_end()
    talk.said("353 one by one", "250 u", "250 v", "250 kept")
    assert not any(isinstance(event, Outcomes) for event in talk.events)
    talk.client.abandon(Reply(451, "4.4.2", "too slow"))
    talk.written()
    assert codes(talk) == [(451, "too slow", True)] * 3


def test_U1_more_replies_than_recipients_end_the_session() -> None:
    talk = talk_to_end()
    talk.said("353 one by one", "250 u", "250 v", "550 not w", "250 kept", "250 and more")
    assert [code for code, _, _ in codes(talk)] == [250, 250, 550]
    assert not talk.client.can_reuse


@pytest.mark.parametrize(
    ("offers", "mail_line"),
    [("PIPELINING", None), ("PIPELINING,PRDR", MAIL), ("PIPELINING,PRDR", f"{MAIL} ENVID=PRDR")],
)
def test_U1_353_without_having_asked_breaks_the_protocol(offers: str, mail_line: str | None) -> None:
    talk = talk_to_end(offers, mail_line=mail_line)
    talk.said("353 one by one", "250 u", "250 v", "250 w", "250 kept")
    assert [(code, ours) for code, _, ours in codes(talk)] == [(451, True)] * 3
    assert isinstance(talk.last, ProtocolError)


def test_U1_353_before_the_content_is_over_breaks_the_protocol() -> None:
    talk = Talk(offers="PIPELINING,PRDR")
    talk.sent(*NAMES)
    talk.said("250 a", "250 b", "250 b", "250 b", "354 go", "353 one by one")
    assert [code for code, _, _ in codes(talk)] == [451] * 3
    assert isinstance(talk.last, ProtocolError)


def test_a_line_said_instead_may_ask_too() -> None:
    talk = talk_to_end("PIPELINING,PRDR", mail_line=f"{MAIL} prdr")
    talk.said("353 one by one", "250 u", "550 not v", "250 w", "250 kept")
    assert [code for code, _, _ in codes(talk)] == [250, 550, 250]


# ── Questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def asked_to_end(steps: dict[str, Step], *replies: str) -> tuple[list[ReplyHeard], list[tuple[int, bool]], Client]:
    """What is asked about after the content, with these steps in answer to replies with that text; the outcomes."""
    client = Client("me.example", asks=Asks(replies=True))
    said = ["220 hi", "250-mx\r\n250-PIPELINING\r\n250 PRDR", "250 a", "250 b", "250 b", "250 b", "354 go", *replies]
    asked: list[ReplyHeard] = []
    outcomes: list[tuple[int, bool]] = []
    while True:
        event = client.next_event()
        if isinstance(event, ReplyHeard):
            if event.phase is Phase.END_OF_DATA:
                asked.append(event)
            client.go(steps.get(event.reply.text, Go()))
        elif isinstance(event, Outcomes):
            outcomes = [(o.reply.code, o.is_ours) for o in event.outcomes]
        elif client.wants_content:
            client.end_content()
        elif client.is_idle and not client.transactions:
            client.send(Transaction(SENDER, TO, 0))
        elif event is NEED_DATA:
            if not said:
                return asked, outcomes, client
            client.receive(f"{said.pop(0)}\r\n".encode())


REPLIES = ("353 each", "550 first", "250 second", "250 third", "250 last")


def test_each_reply_is_asked_about() -> None:
    asked, outcomes, _ = asked_to_end({}, *REPLIES)
    assert [(event.recipient, event.reply.text) for event in asked] == [
        (None, "each"), (TO[0], "first"), (TO[1], "second"), (TO[2], "third"), (None, "last"),
    ]  # fmt: skip
    assert outcomes == [(550, False), (250, False), (250, False)]


@pytest.mark.parametrize("step", [GiveUp(NO), EndSession(NO)], ids=["give up", "end session"])
@pytest.mark.parametrize("at", ["each", "first", "second", "third", "last"])
def test_what_the_server_took_is_taken_whatever_is_answered(at: str, step: Step) -> None:
    _, outcomes, client = asked_to_end({at: step}, *REPLIES)
    overruled = at == "first" and isinstance(step, GiveUp)
    assert outcomes == [(554, True) if overruled else (550, False), (250, False), (250, False)]
    assert (client.state is State.QUIT) == isinstance(step, EndSession)


def test_a_refusal_of_all_may_be_overruled() -> None:
    later = GiveUp(Reply(451, "4.7.1", "perhaps tomorrow"))
    _, outcomes, _ = asked_to_end({"last": later}, *REPLIES[:-1], "554 last")
    assert outcomes == [(550, False), (451, True), (451, True)]


def test_octets_instead_of_mail_ask_for_nothing_and_break_nothing() -> None:
    client = Client("me.example", asks=Asks(commands=frozenset({Phase.SENDER})))
    for line in (b"220 hi\r\n", b"250-mx\r\n250 PRDR\r\n"):
        client.receive(line)
        while client.next_event() is not NEED_DATA:
            pass
    client.send(Transaction(SENDER, TO, 0))
    client.next_event()
    client.go(SendOctets(f"{MAIL}\r\n".encode()))
    for line in (b"250 a\r\n", b"250 b\r\n", b"250 b\r\n", b"250 b\r\n", b"354 go\r\n"):
        client.receive(line)
        while client.next_event() is not NEED_DATA:
            pass
    client.end_content()
    client.receive(b"250 all\r\n")
    event = client.next_event()
    assert isinstance(event, Outcomes)
    assert [o.reply.code for o in event.outcomes] == [250] * 3


# ── However it is cut ─────────────────────────────────────────────────────────────────────────────────────────────────

ENDS = st.lists(st.sampled_from(["250 ok", "250-ok\r\n250 ok", "550 no", "452 later", "421 bye", "353 go"]), max_size=6)


def expected(replies: list[str]) -> list[int]:
    """The codes of the outcomes of three recipients, told by hand: one reply for all, or 353 and one for each."""
    heard = [int(reply[:3]) for reply in replies] + [0] * 6  # 0: the connection is lost
    first, singly, last = heard[0], heard[1:4], heard[4]
    if first != 353:
        return [first or 451] * 3
    outcomes = [0, 0, 0]
    for at, code in enumerate([*singly, last]):
        if code in (0, 353, 421) or at == 3:
            rest = 421 if code == 421 else 451 if code in (0, 353) else code
            return [outcome or rest for outcome in outcomes]
        if code >= 400:
            outcomes[at] = code
    raise AssertionError


@given(st.booleans() | st.just(True), ENDS, st.lists(st.integers(0, 200), max_size=6), st.sampled_from(OFFERS))
def test_law_only_a_last_reply_that_is_positive_delivers_however_cut(
    begins: bool, replies: list[str], places: list[int], offers: str
) -> None:
    replies = ["353 go", *replies] if begins else replies
    talk = talk_to_end(offers)
    talk.events.clear()
    data = "".join(f"{reply}\r\n" for reply in replies).encode()
    cuts = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for a, b in pairwise(cuts):
        if data[a:b] and talk.client.state is not State.CLOSED:
            talk.raw(data[a:b])
    talk.client.receive(b"")
    talk.written()
    assert [code for code, _, _ in codes(talk)] == expected(replies)
    ends: list[Event] = [event for event in talk.events if isinstance(event, Closed | ProtocolError)]
    assert len(ends) == 1
