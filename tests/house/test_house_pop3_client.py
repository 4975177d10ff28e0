"""The collector's POP3 client with real servers: ours in a process of its own, and Dovecot."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dovecot import Dovecot, dovecot
from gatepost.collecting.ports import Login, Refused, RemoteError, Trouble
from gatepost.collecting.remote import PopRemote, Remotes
from house.premises import LOCAL, PASSWORD, USER, Premises, fresh_mark, listener, message
from house.server_process import LOOPBACK

SASL = ("plain", "login", "scram-sha-256", "cram-md5")


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(line)

    def heard(self, line: str) -> None:
        self.lines.append(line)


async def content(remote: PopRemote, number: int) -> bytes:
    return b"".join([piece async for piece in remote.retrieve(number, 1 << 20)])


# Ours


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    settings = (
        '[pop3]\nfailure_delay = "10ms"\n',
        listener("mx"),
        listener("pop", "pop3"),
        listener("pops", "pop3", tls="implicit"),
        LOCAL,
    )
    with Premises(tmp_path_factory.mktemp("house"), *settings).running() as premises:
        yield premises


def ours(house: Premises, name: str = "pop") -> Login:
    tls = "implicit" if name == "pops" else "starttls"
    return Login(LOOPBACK, house.port(name), tls, USER, PASSWORD, ca=house.ca)


async def test_our_own_server(house: Premises) -> None:
    marks = [fresh_mark() for _ in range(3)]
    for mark in marks:
        with smtplib.SMTP(LOOPBACK, house.port("mx"), "client.example") as client:
            client.sendmail("dave@bobo.example", [USER], message(mark).encode())
        house.delivered(mark)
    remotes, talk = Remotes(), Heard()
    ways = [
        ours(house),
        *(replace(ours(house), mechanisms=(way,)) for way in ("user", "plain", "login", "scram-sha-256")),
        ours(house, "pops"),
    ]
    for way in ways:
        remote = await remotes.connect(way, talk)
        assert isinstance(remote, PopRemote) and remote.has_uidl and remote.has_top
        found = await remote.messages()
        texts = [await content(remote, one.number) for one in found]
        assert [mark.encode() in text for mark, text in zip(marks, texts, strict=True)] == [True] * 3
        for one, text in zip(found, texts, strict=True):
            assert one.size == len(text) and text.endswith(b"\r\n\r\nhello\r\n.\r\n..dots\r\n")
            header = await remote.header(one.number)
            assert header is not None and text.startswith(header + b"\r\n")
        await remote.quit()
    assert not any(PASSWORD in line for line in talk.lines)
    remote = await remotes.connect(ways[0])
    with pytest.raises(RemoteError, match="IN-USE") as busy:
        await remotes.connect(ways[0])
    assert busy.value.kind is Trouble.TEMPORARY
    assert isinstance(remote, PopRemote)
    assert await remote.delete_all([1, 3, 9]) == [9]
    with pytest.raises(Refused):
        await content(remote, 1)
    await remote.quit()
    assert [bool(house.mail(mark)) for mark in marks] == [False, True, False]


async def test_our_own_server_keeps_strangers_out(house: Premises) -> None:
    remotes = Remotes()
    for way in "user", "plain", "scram-sha-256":
        with pytest.raises(RemoteError, match="AUTH") as wrong:
            await remotes.connect(replace(ours(house), password="wrong", mechanisms=(way,)))
        assert wrong.value.kind is Trouble.LOGIN
    with pytest.raises(RemoteError, match="needs TLS"):
        await remotes.connect(replace(ours(house), tls="none"))
    with pytest.raises(RemoteError, match="not trusted") as unknown:
        await remotes.connect(replace(ours(house), ca=None))
    assert unknown.value.kind is Trouble.TLS


# Dovecot

MAIL = [
    b"Subject: one\n\nfirst\n.\n..dots\n",
    b"Subject: two\n\nwithout a last line end",
    b"Subject: three\n\n" + b"x" * 76 + b"\n.\n" * 20_000,
]


@pytest.fixture(scope="module")
def other() -> Iterator[Dovecot]:
    with dovecot({"ann": "secret, and more", "bob": "x"}) as running:
        running.put("ann", MAIL)
        running.put("bob", [b"Subject: %d\n\n" % number for number in range(500)])
        yield running


def theirs(other: Dovecot, *, implicit: bool = False, ca: Path | None = None) -> Login:
    port = other.tls_port if implicit else other.port
    return Login(LOOPBACK, port, "implicit" if implicit else "starttls", "ann", "secret, and more", ca=ca or other.ca)


@pytest.mark.needs("dovecot")
async def test_dovecot_by_every_way_of_logging_in(other: Dovecot) -> None:
    remotes = Remotes()
    ways = [
        theirs(other),
        theirs(other, implicit=True),
        replace(theirs(other), tls="none"),
        *(replace(theirs(other), mechanisms=(way,)) for way in (*SASL, "user", "apop")),
    ]
    uids = set()
    for way in ways:
        remote = await remotes.connect(way)
        uids.add(tuple(one.uid for one in await remote.messages()))
        await remote.quit()
    assert len(uids) == 1 and None not in uids.pop()
    for way in "scram-sha-256", "apop":  # Dovecot takes half a second for a wrong password
        with pytest.raises(RemoteError) as wrong:
            await remotes.connect(replace(theirs(other), password="wrong", mechanisms=(way,)))
        assert wrong.value.kind is Trouble.LOGIN


@pytest.mark.needs("dovecot")
async def test_dovecots_mail_is_taken_whole(other: Dovecot) -> None:
    remote = await Remotes().connect(theirs(other))
    assert isinstance(remote, PopRemote)
    found = await remote.messages()
    for one, text in zip(found, MAIL, strict=True):
        whole = text.replace(b"\n", b"\r\n")
        taken = await content(remote, one.number)
        assert taken == (whole if whole.endswith(b"\r\n") else whole + b"\r\n")
        assert await remote.header(one.number) == whole.partition(b"\r\n\r\n")[0] + b"\r\n"
    await remote.abort()


@pytest.mark.needs("dovecot")
async def test_what_is_deleted_at_dovecots_is_gone_after_quit_only(other: Dovecot) -> None:
    bob = replace(theirs(other), user="bob", password="x")
    remotes = Remotes()
    left = await remotes.connect(bob)
    await left.delete(1)
    await left.abort()
    remote = await remotes.connect(bob)
    assert isinstance(remote, PopRemote)
    numbers = [one.number for one in await remote.messages()]
    assert len(numbers) == 500
    assert await remote.delete_all(numbers[:-1]) == []
    assert len(other.mail("bob")) == 500
    await remote.quit()
    assert other.mail("bob") == [b"Subject: 499\n\n"]
