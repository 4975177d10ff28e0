"""SCRAM-SHA-256: a client that knows the password, and says something else all the same."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest

from gatepost.wire.sasl import Challenge, Exchange, Failure, NeedKeys, ScramKeys, Success

SALTED = hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 4096)
CLIENT_KEY = hmac.digest(SALTED, b"Client Key", "sha256")
KEYS = ScramKeys(b"salt", 4096, hashlib.sha256(CLIENT_KEY).digest(), hmac.digest(SALTED, b"Server Key", "sha256"))


def asked() -> tuple[Exchange, str]:
    """An exchange that waits for the proof, and what the server has said."""
    exchange = Exchange("SCRAM-SHA-256", nonce="servernonce")
    assert exchange.start(b"n,,n=ann,r=clientnonce") == NeedKeys("ann")
    said = exchange.keys(KEYS)
    assert isinstance(said, Challenge)
    return exchange, said.data.decode()


def final(said: str, bare: str, cut: int = 32) -> bytes:
    """A final message whose proof is right for just these words."""
    signature = hmac.digest(KEYS.stored_key, f"n=ann,r=clientnonce,{said},{bare}".encode(), "sha256")
    proof = bytes(a ^ b for a, b in zip(CLIENT_KEY, signature, strict=True))
    return f"{bare},p={b64encode(proof[:cut]).decode()}".encode()


def test_the_right_words_are_answered_by_a_signature_and_nothing_more_is_to_be_said() -> None:
    for last, outcome in ((b"", Success), (b"x", Failure)):
        exchange, said = asked()
        answer = exchange.respond(final(said, "c=biws,r=clientnonceservernonce"))
        assert isinstance(answer, Challenge) and answer.data.startswith(b"v=")
        assert isinstance(exchange.respond(last), outcome)
        assert isinstance(exchange.respond(b""), Failure)


@pytest.mark.parametrize(
    "bare",
    [
        "c=biws,r=clientnonce",
        "c=biws,r=clientnonceservernonceX",
        "c=biws,r=othernonceservernonce",
        "c=eSws,r=clientnonceservernonce",  # y,, where n,, was said (rfc5802#6)
        "r=clientnonceservernonce",
        "c=biws,r=clientnonceservernonce,x=more",
    ],
)
def test_a_proof_of_other_words_is_none(bare: str) -> None:
    """rfc5802#7: binding and nonce are what was said before."""
    exchange, said = asked()
    assert isinstance(exchange.respond(final(said, bare)), Failure)


@pytest.mark.parametrize("cut", [0, 1, 31])
def test_a_proof_that_is_cut_short_is_none(cut: int) -> None:
    exchange, said = asked()
    assert isinstance(exchange.respond(final(said, "c=biws,r=clientnonceservernonce", cut)), Failure)


@pytest.mark.parametrize("flag", ["p", "p=tls-unique", "p=tls-exporter", "", "N"])
def test_channel_binding_isnt_offered(flag: str) -> None:
    exchange = Exchange("SCRAM-SHA-256", nonce="servernonce")
    assert isinstance(exchange.start(f"{flag},,n=ann,r=clientnonce".encode()), Failure)


@pytest.mark.parametrize(("written", "user"), [("a=2Cb", "a,b"), ("a=3Db", "a=b"), ("a=3D2Cb", "a=2Cb")])
def test_a_name_is_unescaped_once(written: str, user: str) -> None:
    """rfc5802#5.1"""
    exchange = Exchange("SCRAM-SHA-256", nonce="servernonce")
    assert exchange.start(f"n,,n={written},r=clientnonce".encode()) == NeedKeys(user)
