"""SASL as a client: the examples of the RFCs, mechanisms against the house's own server, servers that cheat."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest

from gatepost.wire import sasl
from gatepost.wire.sasl_client import MAX_CHALLENGES, MECHANISMS, Exchange, Failure, Secret

NONCE = "rOprNGfwEbeRWgbNEkqO"


def exchange(mechanism: str, user: str = "ann", word: str = "secret", **more: object) -> Exchange:
    return Exchange(mechanism, Secret(user, word, **more), nonce=NONCE)


def test_scram_as_in_rfc7677() -> None:
    made = exchange("SCRAM-SHA-256", "user", "pencil")
    assert made.initial == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert made.respond(nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") == (
        b"c=biws," + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not made.is_satisfied
    assert made.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert made.is_satisfied


def test_cram_md5_as_in_rfc2195() -> None:
    made = exchange("CRAM-MD5", "tim", "tanstaaftanstaaf")
    assert made.initial is None
    answer = made.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_oauthbearer_as_in_rfc7628() -> None:
    made = exchange("OAUTHBEARER", "user@example.com", "vF9dft4qmT==", host="server.example.com", port=143)
    assert made.initial == (b"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer vF9dft4qmT==\1\1")
    assert made.respond(b'{"status":"invalid_token"}') == b"\1"
    assert isinstance(made.respond(b"more"), Failure)


def test_xoauth2_hears_why() -> None:
    made = exchange("XOAUTH2", "ann@example.org", "ya29.token")
    assert made.initial == b"user=ann@example.org\1auth=Bearer ya29.token\1\1"
    assert made.respond(b'{"status":"400"}') == b""


def scram_keys(password: str, iterations: int = 4096) -> sasl.ScramKeys:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return sasl.ScramKeys(b"salt", iterations, stored, hmac.digest(salted, b"Server Key", "sha256"))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("user", ["ann", "a=b,c", "Jörg"])
@pytest.mark.parametrize("with_initial", [True, False])
def test_our_own_server_understands(mechanism: str, user: str, with_initial: bool) -> None:
    made = exchange(mechanism, user, "zwei Wörter, =")
    server = sasl.Exchange(mechanism, nonce="servernonce")
    outcome = server.start(made.initial if with_initial else None)
    if not with_initial and made.initial is not None:
        outcome = server.respond(made.initial)
    while not isinstance(outcome, sasl.Success | sasl.Credentials):
        if isinstance(outcome, sasl.NeedKeys):
            assert outcome.user == user
            outcome = server.keys(scram_keys("zwei Wörter, ="))
            continue
        assert isinstance(outcome, sasl.Challenge), outcome
        answer = made.respond(outcome.data)
        assert isinstance(answer, bytes), answer
        outcome = server.respond(answer)
    assert outcome == (
        sasl.Success(user) if mechanism.startswith("SCRAM") else sasl.Credentials(user, "zwei Wörter, =")
    )
    assert made.is_satisfied


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xff",
        b"r=" + NONCE.encode() + b",s=c2FsdA==,i=4096",  # nothing of its own
        b"r=other,s=c2FsdA==,i=4096",
        b"r=" + NONCE.encode() + b"x,s=?,i=4096",
        b"r=" + NONCE.encode() + b"x,s=,i=4096",
        b"r=" + NONCE.encode() + b"x,s=c2FsdA==,i=1",
        b"r=" + NONCE.encode() + b"x,s=c2FsdA==,i=-4096",
        b"r=" + NONCE.encode() + b"x,s=c2FsdA==,i=2147483647",
        b"m=new,r=" + NONCE.encode() + b"x,s=c2FsdA==,i=4096",
        b"e=other-error",
    ],
)
def test_scram_answers_no_server_that_cheats(first: bytes) -> None:
    made = exchange("SCRAM-SHA-256")
    assert isinstance(made.respond(first), Failure)
    assert not made.is_satisfied
    assert isinstance(made.respond(b""), Failure)


def test_scram_wants_to_be_shown_the_servers_side() -> None:
    made = exchange("SCRAM-SHA-256")
    assert isinstance(made.respond(b"r=" + NONCE.encode() + b"x,s=c2FsdA==,i=4096"), bytes)
    assert isinstance(made.respond(b"v=" + b64encode(bytes(32))), Failure)
    assert not made.is_satisfied


@pytest.mark.parametrize("challenge", [b"", b"Subject: x", b"<\xff@x>", b"<a@b"])
def test_cram_md5_takes_only_a_timestamp(challenge: bytes) -> None:
    assert isinstance(exchange("CRAM-MD5").respond(challenge), Failure)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_exchange_ends(mechanism: str) -> None:
    made = exchange(mechanism)
    answers = [made.respond(b"x") for _ in range(MAX_CHALLENGES + 2)]
    assert isinstance(answers[-1], Failure) and sum(isinstance(answer, bytes) for answer in answers) <= 2
    assert isinstance(exchange(mechanism).respond(b"x" * 9000), Failure)


@pytest.mark.parametrize("word", ["", "a\0b", "a\r\nb", "a\1b"])
def test_what_cannot_be_said_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="name or password"):
        exchange("PLAIN", word=word)
    with pytest.raises(ValueError, match="isn't one of"):
        exchange("GSSAPI")


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Secret("ann", "hush"))
