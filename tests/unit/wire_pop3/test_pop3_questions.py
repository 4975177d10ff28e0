"""What a driver may do when: one question at a time, the shape of its answer, content that streams, the ends."""

from __future__ import annotations

import gc

import pytest

from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3.server import NEED_DATA, Profile, Reply, ServerSession, State
from scenes.pop3_machine.maildrop_house import STAMP, MaildropHouse, maildrop_house, opened


def asked(*lines: str, **profile: object) -> ServerSession:
    """A session of ann's whose last line has raised a question."""
    session = opened(**profile).session
    session.receive("".join(f"{line}\r\n" for line in lines).encode())
    return session


def test_nothing_moves_while_a_question_is_open() -> None:
    session = asked("STAT")
    assert session.next_event() == ev.Stat()
    with pytest.raises(RuntimeError, match="still open"):
        session.next_event()
    assert session.data_to_send() == b""
    session.ok("0 0")
    assert session.next_event() is NEED_DATA
    assert session.data_to_send() == b"+OK 0 0\r\n"
    with pytest.raises(RuntimeError, match="no question"):
        session.ok()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("LIST", lambda session: session.ok()),
        ("LIST 1", lambda session: session.listing("", [])),
        ("RETR 1", lambda session: session.ok()),
        ("RETR 1", lambda session: session.listing("", [])),
        ("STAT", lambda session: session.content()),
        ("STAT", lambda session: session.logged_in()),
        ("STAT", lambda session: session.challenge(b"")),
        ("STAT", lambda session: session.feed(b"x")),
        ("STAT", lambda session: session.end()),
        ("STAT", lambda session: session.tls_started()),
    ],
)
def test_an_answer_of_another_shape_is_a_bug(line: str, wrong: object) -> None:
    session = asked(line)
    question = session.next_event()
    with pytest.raises(RuntimeError):
        wrong(session)  # type: ignore[operator]  # a lambda of the table above
    session.err("no")
    assert question is not NEED_DATA and session.data_to_send() == b"-ERR no\r\n"


def test_a_login_is_answered_by_logged_in() -> None:
    made = maildrop_house()
    made.session.receive(b"USER ann\r\nPASS x\r\n")
    made.session.next_event()
    made.session.ok()
    made.session.next_event()
    for wrong in (made.session.ok, lambda: made.session.challenge(b"")):
        with pytest.raises(RuntimeError):
            wrong()
    assert made.session.state is State.NAMED
    made.session.logged_in("in")
    assert made.session.state is State.TRANSACTION


def test_content_streams_and_the_rest_waits() -> None:
    session = asked("RETR 1", "NOOP")
    session.next_event()
    session.content("it comes")
    assert session.data_to_send() == b"+OK it comes\r\n"
    assert session.feed(b"a\r") and session.data_to_send() == b"a"
    with pytest.raises(RuntimeError, match="content is still open"):
        session.next_event()
    assert session.feed(b"\n.") and session.data_to_send() == b"\r\n.."
    session.end()
    assert session.data_to_send() == b"\r\n.\r\n"
    with pytest.raises(RuntimeError, match="no content"):
        session.feed(b"x")
    assert session.next_event() == ev.Noop()


def test_top_says_when_it_has_enough() -> None:
    session = asked("TOP 1 1")
    session.next_event()
    session.content()
    assert session.feed(b"A: b\n")
    assert session.feed(b"\n")
    assert not session.feed(b"one\ntwo\n")
    assert not session.feed(b"three\n")
    session.end()
    assert session.data_to_send() == b"+OK\r\nA: b\r\n\r\none\r\n.\r\n"


def test_content_that_cannot_be_finished_has_no_dot() -> None:
    session = asked("RETR 1", "QUIT")
    session.next_event()
    session.content()
    session.feed(b"half\n")
    session.close()
    assert session.data_to_send() == b"+OK\r\nhalf\r\n"
    assert session.wants_close and session.next_event() == ev.Ended(clean=False)
    assert session.next_event() is NEED_DATA


def test_closing_over_an_open_question_needs_no_answer() -> None:
    session = asked("QUIT")
    assert session.next_event() == ev.Quit(update=True) and session.state is State.UPDATE
    session.close()
    assert session.next_event() == ev.Ended(clean=False) and session.data_to_send() == b""


def test_err_may_close() -> None:
    session = asked("STAT", "NOOP")
    session.next_event()
    session.err("shutting down", "SYS/TEMP", closes=True)
    assert session.data_to_send() == b"-ERR [SYS/TEMP] shutting down\r\n"
    assert session.wants_close and session.next_event() == ev.Ended(clean=False)


def test_quit_closes_even_if_something_could_not_be_deleted() -> None:
    session = asked("QUIT")
    session.next_event()
    session.err("some messages are still there")  # rfc1939#6
    assert session.data_to_send() == b"-ERR some messages are still there\r\n"
    assert session.wants_close and session.next_event() == ev.Ended(clean=True)


def test_quit_before_the_login_updates_nothing() -> None:
    made = maildrop_house()
    assert made.say("QUIT") == "+OK bye\r\n"
    assert made.events == [ev.Quit(update=False), ev.Ended(clean=True)]


def test_a_response_code_is_well_formed() -> None:
    session = asked("STAT")
    session.next_event()
    for code in ("auth", "A]", "SYS//TEMP", "SYS/", "A B", "\r\n"):
        with pytest.raises(ValueError, match="response code"):
            session.err("no", code)
    session.err("no", "X-OWN/DEEP")
    assert session.data_to_send() == b"-ERR [X-OWN/DEEP] no\r\n"


def test_without_response_codes_none_is_said_or_told_of() -> None:
    made = maildrop_house(response_codes=False)
    assert "RESP-CODE" not in made.say("CAPA")
    assert made.each("USER ann", "PASS no") == "-ERR not so\r\n"


@pytest.mark.parametrize("stamp", ["", "1896@host", "<1896 @host>", "<1896>", "<a@b>\r\n", "<" + "9" * 300 + "@host>"])
def test_apop_needs_a_timestamp(stamp: str) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        ServerSession(Profile(apop=True), timestamp=stamp)


def test_without_apop_there_is_no_timestamp() -> None:
    made = MaildropHouse(ServerSession(Profile(auth_without_tls=True), timestamp=STAMP))
    made.run()
    assert made.output == b"+OK POP3 ready\r\n"
    assert made.say("APOP ann " + "0" * 32) == "-ERR not offered here\r\n"


def test_apop_proves_the_secret() -> None:
    """The example of rfc1939#7."""
    made = MaildropHouse(ServerSession(Profile(apop=True), tls=True, timestamp="<1896.697170952@dbc.mtview.ca.us>"))
    made.users["mrose"] = "tanstaaf"
    made.run()
    assert made.say("APOP mrose c4c9334bac560ecc979e58001b3e22fb") == "+OK welcome\r\n"
    login = next(event for event in made.events if isinstance(event, ev.Login))
    assert (login.user, login.password, login.mechanism) == ("mrose", None, "APOP")


def test_secrets_are_in_no_repr_and_not_kept() -> None:
    made = maildrop_house(auth=("PLAIN",))
    made.say("USER ann", "PASS hush-hush", "AUTH PLAIN AGFubgBodXNoLWh1c2g=")
    assert "hush" not in repr(made.events)
    made.events.clear()
    made.exchange = None
    kept = [thing for thing in gc.get_referents(made.session) if isinstance(thing, ev.Login | ev.Auth | str | bytes)]
    assert not [thing for thing in kept if "hush" in str(getattr(thing, "password", thing))]


def test_utf8_replies_only_where_they_were_asked_for() -> None:
    made = opened()
    made.answers.append(("Noop", "", Reply(True, "schön")))
    assert made.say("NOOP") == "+OK sch?n\r\n"
    made = maildrop_house()
    made.say("UTF8", "USER ann", "PASS secret")
    made.answers.append(("Noop", "", Reply(True, "schön")))
    assert made.say("NOOP") == "+OK schön\r\n"


def test_tls_forgets_utf8_and_language() -> None:
    made = maildrop_house(tls=False, starttls=True)
    made.say("UTF8", "LANG i-default")
    assert made.session.utf8 and made.session.language == "i-default"
    made.say("STLS")
    made.session.tls_started()
    assert (made.session.utf8, made.session.language, made.session.tls) == (False, "en", True)


def test_a_refused_stls_changes_nothing() -> None:
    made = maildrop_house(tls=False, starttls=True, auth_without_tls=True)
    made.answers.append(("StartTls", "", Reply(False, "not now")))
    assert made.each("USER ann", "STLS") == "-ERR not now\r\n"
    assert made.say("PASS secret") == "+OK welcome\r\n" and not made.session.discarded


def test_what_came_with_stls_is_counted() -> None:
    made = maildrop_house(tls=False, starttls=True)
    made.receive(b"STLS\r\nUSER ann\r\n")
    made.session.receive(b"PASS x\r\n")
    assert made.session.discarded == len(b"USER ann\r\nPASS x\r\n")
    made.session.tls_started()
    made.run()
    assert made.output == b"+OK go on\r\n"
