"""Sessions by number: the same for ever, and as various as they are meant to be."""

from collections import Counter
from hashlib import sha256

import pytest

from gatepost.testing.chaos import EDITION, Handshake, HangUp, Hear, Knobs, Send, Session, Shut, generate
from gatepost.testing.chaos.dice import Dice, Weighted

MANY = 600


def octets_of(session: Session) -> bytes:
    return b"".join(step.octets for step in session.steps if isinstance(step, Send))


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return [generate(seed) for seed in range(MANY)]


def test_a_number_is_the_same_session_for_ever(sessions):
    """If this changes, EDITION has to: somebody has written a number down."""
    digest = sha256("\n".join(map(repr, sessions)).encode())
    digest.update("\n".join(repr(generate(seed, Knobs(verbs=("XADR",), moves=5))) for seed in range(60)).encode())
    assert (EDITION, digest.hexdigest()[:16]) == (1, "a64dcc56228e1a68")


def test_the_dice_are_splitmix64():
    """The published generator's outputs for the state 1234567."""
    dice = Dice(0)
    dice._state = 1234567
    assert [dice._throw() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_weights_are_kept():
    dice = Dice(5)
    counts = Counter(dice.weighed(Weighted((3, "often"), (1, "seldom"))) for _ in range(4000))
    assert 2800 < counts["often"] < 3200
    assert {dice.between(2, 4) for _ in range(100)} == {2, 3, 4}
    assert len(dice.octets(13)) == 13


def test_sessions_end_in_every_way(sessions):
    ends = Counter(type(session.steps[-1]) for session in sessions)
    assert ends[Hear] > MANY / 2
    assert min(ends[Shut], ends[HangUp]) > MANY / 30
    assert set(ends) <= {Hear, Shut, HangUp, Send, Handshake}
    inner = [step for session in sessions for step in session.steps[:-1]]
    assert not any(isinstance(step, Shut | HangUp) for step in inner)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO ", b"HELO ", b"ehlo ", b"MAIL FROM:<>", b"RCPT TO:", b"DATA\r\n", b"BDAT ", b" LAST\r\n",
        b"RSET\r\n", b"QUIT\r\n",
        b"NOOP", b"VRFY ", b"EXPN ", b"HELP", b"STARTTLS\r\n", b"STARTTLS\r\nMAIL", b"AUTH PLAIN",
        b"AUTH LOGIN", b"XYZZY", b"GET / HTTP",
        b"\x16\x03\x01", b"\x00", b"\xff", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r\r\n", b"\r\n.\n",
        b"smuggler@", b"BDAT -1", b"BDAT 0x10",
        b"SMTPUTF8", b" PRDR", b"SIZE=18446744073709551616", b"NOTIFY=", b"ORCPT=", b"BODY=BINARYMIME",
        b"|/bin/sh", b"l" * 65 + b"@",
        b"\r\r\n", b"multipart/mixed", b"message/rfc822", b"Received: from",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_said_somewhere(sessions, octets):
    assert sum(octets in octets_of(session) for session in sessions) >= 2


@pytest.mark.parametrize("size", [511, 512, 513])
def test_lines_at_the_bound(sessions, size):
    lines = [line for session in sessions for line in octets_of(session).split(b"\r\n") if line.startswith(b"NOOP xx")]
    assert size in {len(line) + 2 for line in lines}


def test_pieces_are_torn_and_commands_are_pipelined(sessions):
    single = sum(len(step.octets) == 1 for session in sessions for step in session.steps if isinstance(step, Send))
    assert single > MANY
    pipelined = [
        session
        for session in sessions
        if any(isinstance(a, Send) and isinstance(b, Send) and b"\r\nMAIL" in b"\r\n" + b.octets
               for a, b in zip(session.steps, session.steps[1:], strict=False))
    ]  # fmt: skip
    assert len(pipelined) > MANY / 20


def test_knobs():
    knobs = Knobs(verbs=("XADR",), recipients=("only@here.example",), tls=False, prdr=False, hang_ups=False, moves=4)
    many = [generate(seed, knobs) for seed in range(MANY)]
    said = b"\n".join(map(octets_of, many))
    assert said.count(b"XADR") > MANY / 10
    assert b"only@here.example" in said
    assert b"STARTTLS\r\n" not in said and b" PRDR" not in said
    assert not any(isinstance(session.steps[-1], Shut | HangUp) for session in many)
    assert max(len(session.steps) for session in many) < max(len(generate(seed).steps) for seed in range(MANY))
