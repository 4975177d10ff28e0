"""Where a client's patience is tried: long lines, too many of anything, whatever isn't POP3."""

from __future__ import annotations

import pytest

from fuzz import fuzz_pop3
from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3.server import Profile, Reply, ServerSession, State
from scenes.pop3_machine.maildrop_house import MaildropHouse, maildrop_house, opened


def test_a_command_of_255_octets_is_read_and_of_256_is_not() -> None:
    made = maildrop_house()
    made.say("CAPA")
    assert made.say("USER " + "x" * 248) == "+OK and the password?\r\n"
    assert made.say("USER " + "x" * 249) == "-ERR the line is too long\r\n"
    assert made.say("PASS " + "x" * 248).startswith("-ERR [AUTH]")


def test_auth_may_be_longer() -> None:
    made = maildrop_house(auth=("PLAIN",))
    assert made.say("AUTH PLAIN " + "QUFB" * 2000) == "-ERR [AUTH] not so\r\n"
    assert made.say("AUTH PLAIN " + "QUFB" * 4000) == "-ERR the line is too long\r\n"
    assert made.say("AUTH PLAIN") == "+ \r\n"
    assert made.say("QUFB" * 4000) == "-ERR the line is too long\r\n"
    assert made.session.state is State.AUTHORIZATION
    assert made.say("USER " + "x" * 249) == "-ERR the line is too long\r\n"


def test_R1_an_endless_line_takes_no_memory() -> None:
    made = opened()
    for _ in range(1000):
        made.receive(b"x" * 4096)
        assert made.session.buffered == 0
    made.receive(b"\r\nNOOP\r\n")
    assert made.output == b"-ERR the line is too long\r\n+OK go on\r\n"
    assert made.refusals[0].line == b"x" * 255


def test_R1_an_endless_first_line_is_turned_away() -> None:
    made = maildrop_house()
    made.receive(b"x" * 300)
    assert made.session.wants_close and made.output == b"-ERR the line is too long\r\n"


@pytest.mark.parametrize("word", ["GET", "POST", "PRI", "OPTIONS"])
def test_T6_http_is_turned_away_whenever_it_comes(word: str) -> None:
    made = opened()
    assert made.say("NOOP", f"{word} / HTTP/1.1", "DELE 1").endswith("-ERR this is POP3, not HTTP\r\n")
    assert made.session.wants_close and not made.marked


def test_errors_are_counted_over_the_whole_session() -> None:
    made = maildrop_house(errors=2)
    made.say("XTND", "USER ann", "PASS secret", "XTND", "NOOP")
    assert made.say("XTND", "NOOP") == "-ERR too many errors\r\n"
    assert made.session.wants_close and made.events[-1] == ev.Ended(clean=False)


def test_what_the_house_refuses_is_no_error() -> None:
    made = opened(errors=0)
    assert made.say(*["RETR 9"] * 50) == "-ERR no such message\r\n" * 50
    assert not made.session.wants_close


def test_commands_before_the_login_are_counted() -> None:
    made = maildrop_house(commands=3)
    assert made.say("CAPA", "USER ann", "USER ann", "PASS secret").endswith(
        "-ERR too many commands without a login\r\n"
    )
    assert made.session.wants_close and made.refusals[0].line == b"PASS"
    made = maildrop_house(commands=3)
    made.say("CAPA", "USER ann", "PASS secret", *["NOOP"] * 100)
    assert not made.refusals and not made.session.wants_close


def test_failed_logins_are_counted_however_they_come() -> None:
    made = maildrop_house(tls=True, apop=True, auth=("PLAIN",), auth_attempts=4)
    made.say("USER ann", "PASS x", "APOP ann " + "0" * 32, "AUTH PLAIN =", "AUTH PLAIN", "*")
    assert not made.session.wants_close
    assert made.each("USER ann", "PASS secret") == "-ERR too many failed logins\r\n"
    assert made.session.wants_close


@pytest.mark.parametrize("lines", [["AUTH PLAIN %"], ["AUTH PLAIN", "%"]])
def test_a_login_that_isnt_base64_is_a_failed_one(lines: list[str]) -> None:
    made = maildrop_house(tls=True, auth=("PLAIN",), auth_attempts=1)
    assert made.say(*lines).endswith("-ERR that isn't base64\r\n")
    assert made.each("USER ann", "PASS secret") == "-ERR too many failed logins\r\n"


@pytest.mark.parametrize("code", ["IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM"])
def test_a_login_that_fails_for_another_reason_is_no_failed_one(code: str) -> None:
    """rfc2449#8.1, rfc3206#4"""
    made = maildrop_house(tls=True, auth_attempts=1)
    made.answers.append(("Login", "ann", Reply(False, "not now", code)))
    for _ in range(3):
        assert made.each("USER ann", "PASS secret") == f"-ERR [{code}] not now\r\n"
    made.answers.clear()
    assert made.each("USER ann", "PASS secret") == "+OK welcome\r\n"


@pytest.mark.parametrize("line", ["USER ann", "APOP ann " + "0" * 32, "AUTH PLAIN"])
def test_no_way_to_log_in_is_open_before_tls(line: str) -> None:
    """rfc2595#2.3"""
    made = maildrop_house(tls=False, starttls=True, apop=True, auth=("PLAIN",), auth_without_tls=False)
    assert made.say(line) == "-ERR a login needs TLS; say STLS first\r\n"
    without = maildrop_house(tls=False, apop=True, auth=("PLAIN",), auth_without_tls=False)
    assert without.say(line) == "-ERR a login needs TLS\r\n"
    assert not {"USER", "SASL PLAIN"} & set(without.session.capabilities())


@pytest.mark.parametrize(
    ("expire", "varies", "said"), [(None, False, "EXPIRE NEVER"), (0, False, "EXPIRE 0"), (30, True, "EXPIRE 30 USER")]
)
def test_expire_is_told(expire: int | None, varies: bool, said: str) -> None:
    """rfc2449#6.7: 0 is that nothing is kept."""
    assert said in maildrop_house(expire=expire, expire_varies=varies).session.capabilities()


def test_failed_logins_leave_the_session_when_there_are_too_many() -> None:
    made = maildrop_house(tls=True, auth_attempts=2)
    made.say("USER ann", "PASS x", "USER ann", "PASS y")
    assert made.each("USER ann", "PASS secret") == "-ERR too many failed logins\r\n"
    assert made.session.wants_close


def test_a_failed_login_survives_stls() -> None:
    made = maildrop_house(tls=False, starttls=True, auth_without_tls=True, auth_attempts=1)
    made.say("USER ann", "PASS x", "STLS")
    made.session.tls_started()
    assert made.each("USER ann", "PASS secret") == "-ERR too many failed logins\r\n"


def test_what_is_sent_before_the_greeting_is_answered_after_it() -> None:
    made = MaildropHouse(ServerSession(Profile(auth=("LOGIN",)), tls=True))
    made.receive(b"AUTH LOGIN\r\nYW5u\r\nc2VjcmV0\r\nSTAT\r\nQUIT\r\n")
    assert (
        made.output == b"+OK POP3 ready\r\n+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n+OK welcome\r\n+OK 2 81\r\n+OK bye\r\n"
    )


def test_blanks_around_arguments_are_nothing_but_in_a_password() -> None:
    made = maildrop_house()
    made.say("USER  ann ", "PASS  secret ")
    assert [event for event in made.events if isinstance(event, ev.Login)] == [ev.Login("ann", " secret ")]
    made.say("USER ann  smith", "PASS secret")
    assert ev.Login("ann  smith", "secret") in made.events


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "0x1", "10000000000", "9" * 200, "\N{SUPERSCRIPT ONE}"])
def test_O1_what_no_message_can_have_is_not_asked(number: str) -> None:
    made = opened()
    for line in ("LIST {}", "UIDL {}", "RETR {}", "TOP {} 1", "DELE {}"):
        assert made.say(line.format(number)).startswith("-ERR")
    assert made.events == made.refusals


@pytest.mark.parametrize("line", ["STAT 1", "NOOP x", "RSET x", "QUIT x", "CAPA x", "STLS x", "UTF8 x"])
def test_no_argument_where_there_is_none(line: str) -> None:
    made = opened() if line[:4] in ("STAT", "NOOP", "RSET", "QUIT") else maildrop_house(tls=False, starttls=True)
    assert made.say(line) == "-ERR no argument is allowed\r\n"
    assert made.say(line[:4] + "  ").startswith("+OK")


def test_idle_sessions_share_their_profile() -> None:
    profile = Profile()
    assert profile.longest_line == 255 and Profile(auth=("PLAIN",)).longest_line == 12288
    with pytest.raises(AttributeError):
        profile.errors = 1


@pytest.mark.parametrize("seed", fuzz_pop3.SEEDS)
def test_the_fuzz_target_and_the_beginnings_of_its_seeds(seed: bytes) -> None:
    for end in range(len(seed) + 1):
        fuzz_pop3.one_input(seed[:end])
    assert fuzz_pop3.play(fuzz_pop3.profile_of(seed[0]), [seed[5:]], b"")[0].session.wants_close
