"""The SASL mechanisms; SCRAM against the exchange printed in RFC 7677 §3 and against a client of another hand."""

from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism

from gatepost.wire.sasl import (
    MECHANISMS,
    Challenge,
    Credentials,
    Exchange,
    Failure,
    NeedKeys,
    Proof,
    ScramKeys,
    Success,
)


def keys(password: str, salt: bytes, iterations: int = 4096) -> ScramKeys:
    _, stored, server, _ = ScramMechanism("SCRAM-SHA-256").make_auth_info(password, iterations, salt)
    return ScramKeys(salt, iterations, stored, server)


class TestPlain:
    @pytest.mark.parametrize("data", [b"\0ann\0secret", b"ann\0ann\0secret"])
    def test_initial_and_prompted(self, data: bytes) -> None:
        assert Exchange("PLAIN", nonce="x").start(data) == Credentials("ann", "secret")
        exchange = Exchange("PLAIN", nonce="x")
        assert exchange.start(None) == Challenge(b"")
        assert exchange.respond(data) == Credentials("ann", "secret")
        assert isinstance(exchange.respond(data), Failure)

    @pytest.mark.parametrize(
        "data", [b"", b"ann", b"\0ann", b"\0\0", b"\0ann\0", b"\0\0x", b"bob\0ann\0x", b"\0a\0b\0c", b"\0\xff\0x",
        b"\0a\0" + b"x" * 9000]
    )  # fmt: skip
    def test_what_is_not_well_formed_fails(self, data: bytes) -> None:
        assert isinstance(Exchange("PLAIN", nonce="x").start(data), Failure)


class TestLogin:
    def test_prompted(self) -> None:
        exchange = Exchange("LOGIN", nonce="x")
        assert exchange.start(None) == Challenge(b"Username:")
        assert exchange.respond(b"ann") == Challenge(b"Password:")
        assert exchange.respond("gehéim".encode()) == Credentials("ann", "gehéim")

    def test_initial(self) -> None:
        exchange = Exchange("LOGIN", nonce="x")
        assert exchange.start(b"ann") == Challenge(b"Password:")
        assert isinstance(exchange.respond(b""), Failure)

    def test_empty_name(self) -> None:
        assert isinstance(Exchange("LOGIN", nonce="x").start(b""), Failure)


class TestScram:
    FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    FINAL = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")

    def begun(self) -> Exchange:
        exchange = Exchange("SCRAM-SHA-256", nonce=self.NONCE)
        assert exchange.start(None) == Challenge(b"")
        assert exchange.respond(self.FIRST) == NeedKeys("user")
        return exchange

    def test_the_exchange_of_rfc7677(self) -> None:
        exchange = self.begun()
        assert exchange.keys(keys("pencil", self.SALT)) == Challenge(
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        )
        assert exchange.respond(self.FINAL) == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        assert exchange.respond(b"") == Success("user")
        assert isinstance(exchange.respond(b""), Failure)

    @pytest.mark.parametrize("name", ["ann", "a=b,c", "jürgen@example.org"])
    def test_against_another_client(self, name: str) -> None:
        client = ScramClient(["SCRAM-SHA-256"], name, "secret")
        exchange = Exchange("SCRAM-SHA-256", nonce="server")
        assert exchange.start(client.get_client_first().encode()) == NeedKeys(name)
        challenge = exchange.keys(keys("secret", b"salt" * 4))
        assert isinstance(challenge, Challenge)
        client.set_server_first(challenge.data.decode())
        outcome = exchange.respond(client.get_client_final().encode())
        assert isinstance(outcome, Challenge)
        client.set_server_final(outcome.data.decode())
        assert exchange.respond(b"") == Success(name)

    def test_a_wrong_password_and_an_unknown_user(self) -> None:
        exchange = self.begun()
        exchange.keys(keys("pen", self.SALT))
        assert exchange.respond(self.FINAL) == Failure("the proof is wrong")
        exchange = self.begun()
        assert isinstance(exchange.keys(None), Failure) and isinstance(exchange.respond(self.FINAL), Failure)

    def test_out_of_turn(self) -> None:
        exchange = self.begun()
        assert isinstance(exchange.respond(self.FINAL), Failure)
        assert isinstance(Exchange("PLAIN", nonce="x").keys(None), Failure)
        assert isinstance(Exchange("PLAIN", nonce="x").respond(b"\0a\0b"), Failure)

    @pytest.mark.parametrize(
        "first",
        [b"", b"n,,", b"n,,n=user", b"n,,n=,r=x", b"n,,n=user,r=", b"p=tls-unique,,n=user,r=x", b"x,,n=user,r=x",
         b"n,a=bob,n=user,r=x", b"n,,m=1,n=user,r=x", b"n,,n=us=er,r=x", b"n,,n=\xff,r=x", b"n,,n=u,r=\xc3\xa4"],
    )  # fmt: skip
    def test_first_messages_that_fail(self, first: bytes) -> None:
        assert isinstance(Exchange("SCRAM-SHA-256", nonce="n").start(first), Failure)

    @pytest.mark.parametrize(
        ("old", "new"), [(b"c=biws", b"c=eSws"), (b"$k0,p", b"$k1,p"), (b",p=", b",q="), (b"dHzb", b"dHz!"),
         (b"VQ=", b""), (b"r=rO", b"x=1,r=rO")]
    )  # fmt: skip
    def test_final_messages_that_fail(self, old: bytes, new: bytes) -> None:
        exchange = self.begun()
        exchange.keys(keys("pencil", self.SALT))
        assert isinstance(exchange.respond(self.FINAL.replace(old, new)), Failure)


@given(st.sampled_from(MECHANISMS), st.none() | st.binary(), st.lists(st.binary(max_size=50), max_size=3))
def test_nothing_a_client_sends_raises(mechanism: str, initial: bytes | None, responses: list[bytes]) -> None:
    exchange = Exchange(mechanism, nonce="n")
    exchange.start(initial)
    for data in responses:
        exchange.respond(data)
        exchange.keys(ScramKeys(b"s" * 16, 4096, b"k" * 32, b"k" * 32))


@pytest.mark.parametrize(("mechanism", "nonce"), [("DIGEST-MD5", "x"), ("PLAIN", ""), ("PLAIN", "a,b"), ("PLAIN", "ä")])
def test_a_broken_contract_raises(mechanism: str, nonce: str) -> None:
    with pytest.raises(ValueError, match=r"nonce|isn't one of"):
        Exchange(mechanism, nonce=nonce)


class TestCramMd5:
    CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
    DIGEST = "b913a602c7eda7a495b4e6e7334d3890"

    def test_the_exchange_of_the_rfc(self) -> None:  # rfc2195#2
        exchange = Exchange("CRAM-MD5", nonce="1896.697170952", host="postoffice.reston.mci.net")
        assert exchange.start(None) == Challenge(self.CHALLENGE)
        proof = exchange.respond(f"tim {self.DIGEST}".encode())
        assert proof == Proof("tim", self.CHALLENGE, self.DIGEST)
        assert proof.fits("tanstaaftanstaaf")
        assert not any(map(proof.fits, ["", "tanstaaf", "\udcff"]))
        assert isinstance(exchange.respond(f"tim {self.DIGEST}".encode()), Failure)

    def test_a_name_may_hold_blanks(self) -> None:
        exchange = Exchange("CRAM-MD5", nonce="x")
        exchange.start(None)
        proof = exchange.respond(f"tim of sales {self.DIGEST}".encode())
        assert isinstance(proof, Proof) and proof.user == "tim of sales"

    @pytest.mark.parametrize("data", [b"", b"tim", DIGEST.encode(), b" " + DIGEST.encode(), b"tim " + b"g" * 32,
                                      b"tim " + DIGEST.upper().encode(), b"tim " + DIGEST.encode() + b"0",
                                      b"\xff " + DIGEST.encode()])  # fmt: skip
    def test_what_is_not_well_formed_fails(self, data: bytes) -> None:
        exchange = Exchange("CRAM-MD5", nonce="x")
        exchange.start(None)
        assert isinstance(exchange.respond(data), Failure)

    def test_there_is_no_initial_response(self) -> None:
        exchange = Exchange("CRAM-MD5", nonce="x")
        assert isinstance(exchange.start(f"tim {self.DIGEST}".encode()), Failure)
        assert isinstance(exchange.respond(f"tim {self.DIGEST}".encode()), Failure)
