"""Users from a file: what each line says, what is wrong with it, and a file that changes under a running server."""

import asyncio
import logging
import os
import threading

import argon2
import pytest

from gatepost.store.passwd_file import LOOK_S, PasswdFile, PasswdFileError
from gatepost.store.passwords import Passwords
from gatepost.store.users import Accounts, Offers, StaticUsers, User

SSHA = "{SSHA}BjB9qhlPP45IXdrRgV6nEwoBH10Hb+N5"  # of "s3cret pass"
SHA512 = "$6$abcdefgh$JkUs2M4cQMIF3fzb8rSPdrGis9kyxOr8G//eP6mEBQv4DyD/cfcCAqUX6.8VAMaqE9BpPh.U5Cfz9mU/DZcFL1"
KEYS = "{SCRAM-SHA-256}4096,BY9QNMQ0UcckKb7kXjmOCA==,YSjLupPJedI1bx5MXSNWdmmcAXLq5avDQY4sPP2hqdI=," + (
    "kbcSNEfy5Gqt1FuEzUCuOWR+gqpS7x3iE4Iq+VNCC5Y="
)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written(tmp_path, clock):
    def write(text, *, opens=True):
        file = tmp_path / "users.passwd"
        fresh = tmp_path / "fresh"
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        fresh.replace(file)
        return PasswdFile(file, "example.org", clock) if opens else file

    return write


@pytest.fixture
async def passwords(clock):
    made = Passwords(clock, os.urandom, hasher=CHEAP, iterations=4096)
    yield made
    await made.close()


async def test_users_of_htpasswd_and_of_dovecot_log_in(written, passwords):
    source = written(
        "\ufeff# of htpasswd\n"
        f"ann:{SHA512}\r\n"
        "\n"
        f"bob@example.net:{SSHA}:1000:1000:Bob, of sales:/home/bob:/bin/sh:userdb_quota_rule=*:storage=1G user=bob\n"
        f"eve:{{PLAIN}}s3cret pass::::::\n"
        f"kim:{KEYS}\n"
        "dan:!:\n"
    )
    users = Accounts([source], passwords)
    assert [user.name for user in users.list()] == [
        "ann@example.org",
        "bob@example.net",
        "dan@example.org",
        "eve@example.org",
        "kim@example.org",
    ]
    for name in ("ann", "ANN@example.org", "bob@example.net", "eve", "kim"):
        assert await users.verify(name, "s3cret pass")
        assert await users.verify(name, "s3cret") is None
    assert await users.verify("bob", "s3cret pass") is None  # his domain is another one
    assert await users.verify("dan", "!") is None
    assert source.find("bob@example.net").extra == {"userdb_quota_rule": "*:storage=1G", "user": "bob"}
    assert (source.find("eve").plain, source.find("ann").plain) == ("s3cret pass", None)
    assert str(await users.scram_keys("kim")).startswith("SCRAM-SHA-256$4096:BY9Q")
    assert not users.can_scram and users.can_prove
    assert await users.exists("ann@example.org") and not await users.exists("ann@example.net")


WRONG = [
    ("ann", "no colon"),
    ("ann:secret", "neither a hash"),
    ("ann:", "empty"),
    (":{PLAIN}x", "no name"),
    ("a b@@c:{PLAIN}x", "no name"),
    ("ann:{NTLM}x", "{NTLM}.*too weak"),
    ("ann:{PLAIN}x\x07", "control character"),
    (b"ann:{PLAIN}\xff", "UTF-8"),
    ("ann:{PLAIN}x::::::allow_nets=10.0.0.0/8", "allow_nets"),
    ("ann:{PLAIN}x::::::nopassword", "nopassword"),
    ("ann:{PLAIN}x::::::passdb_nologin", "passdb_nologin decides who may log in"),
    ("Bob:{PLAIN}x", "line 1 already"),
]


@pytest.mark.parametrize(("line", "why"), WRONG)
def test_a_line_that_cant_be_used_is_told_with_its_number(written, line, why):
    first = f"bob:{SSHA}\n".encode()
    with pytest.raises(PasswdFileError, match=rf"users.passwd:2: .*{why}") as refused:
        written(first + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    [mistake] = refused.value.mistakes
    assert mistake.line == 2 and mistake.mend
    assert str(refused.value).endswith(mistake.mend)


def test_all_lines_are_told_at_once_and_not_too_many(written):
    with pytest.raises(PasswdFileError, match="and 4 lines more") as refused:
        written("x\n" * 9)
    assert len(refused.value.mistakes) == 9


def test_a_file_that_is_too_large_is_told(written, monkeypatch):
    monkeypatch.setattr("gatepost.store.passwd_file._MAX_SIZE", 20)
    written("ann:{PLAIN}0123456\n\n")
    with pytest.raises(PasswdFileError, match="more than 20 octets"):
        written("ann:{PLAIN}01234567\n\n")


def test_a_file_that_isnt_there_is_told(tmp_path, clock):
    with pytest.raises(PasswdFileError, match=r"nothing: it can't be read: No such file"):
        PasswdFile(tmp_path / "nothing", "example.org", clock)


def test_a_change_counts_within_a_second_and_costs_nothing_before(written, clock, monkeypatch):
    source = written(f"ann:{SSHA}\n")
    secret = source.secret
    written(f"ann:{SSHA}\nbob:{SSHA}\n", opens=False)
    assert source.find("bob") is None  # not looked at yet
    clock.now += 1
    assert source.find("bob").name == "bob@example.org"
    assert source.secret != secret
    monkeypatch.setattr(source, "_read", None)  # what hasn't changed isn't read
    clock.now += 5
    assert source.find("ann")


async def test_a_change_is_read_in_a_thread_and_its_users_count_when_it_is_read(written, clock, monkeypatch):
    source = written(f"ann:{SSHA}\n")
    read, readers = source._read, []

    def reading():
        readers.append(threading.current_thread())
        return read()

    monkeypatch.setattr(source, "_read", reading)
    written("bob:{PLAIN}x\n", opens=False)
    clock.now += LOOK_S / 4
    await source.look_again()
    assert not readers
    clock.now += LOOK_S / 2
    await source.look_again()
    assert len(readers) == 1 and readers[0] is not threading.current_thread()
    assert source.find("bob") and not source.find("ann")
    assert source.offers == Offers(scram=False, proof=True)
    clock.now += LOOK_S
    await source.look_again()
    assert len(readers) == 1


async def test_an_older_reading_that_ends_later_changes_nothing(written, clock, monkeypatch):
    source = written(f"ann:{SSHA}\n")
    read, goes_on, is_read = source._read, threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly():
        known = read()
        loop.call_soon_threadsafe(is_read.set)
        goes_on.wait(10)
        return known

    monkeypatch.setattr(source, "_read", slowly)
    written(f"bob:{SSHA}\n", opens=False)
    clock.now += 1
    looking = asyncio.ensure_future(source.look_again())
    await is_read.wait()
    assert source.find("ann")  # until it is read
    monkeypatch.setattr(source, "_read", read)
    written(f"newest:{SSHA}\n", opens=False)
    clock.now += 1
    assert source.find("newest")
    goes_on.set()
    await looking
    assert source.find("newest") and not source.find("bob")


def test_a_broken_file_keeps_the_users_and_is_told_once(written, clock, caplog):
    source = written(f"ann:{SSHA}\n")
    with caplog.at_level(logging.INFO, "gatepost.users"):
        file = written("bob:secret\n", opens=False)
        for _ in range(3):
            clock.now += 1
            assert source.find("ann") and not source.find("bob")
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert "users.passwd:1: bob: this is neither" in caplog.text and "secret\n" not in caplog.text
        file.unlink()
        for _ in range(3):
            clock.now += 1
            assert source.find("ann")
        assert [one.levelname for one in caplog.records] == ["ERROR"] * 2
        assert "No such file" in caplog.text
        written(f"bob:{SSHA}\n", opens=False)
        clock.now += 1
        assert source.find("bob") and not source.find("ann")
        assert "read again: 1 users" in caplog.text


async def test_an_unknown_user_costs_what_most_users_cost(written, passwords, monkeypatch):
    held_against = []
    fits = Passwords._fits

    def noted(self, secret, password):
        held_against.append(secret)
        return fits(self, secret, password)

    monkeypatch.setattr(Passwords, "_fits", noted)
    few = StaticUsers([User("kim@example.org", CHEAP.hash("x"))])
    source = written(f"ann:{SHA512}\nbob:{SSHA}\neve:{SHA512}\ndan:!\n")
    users = Accounts([few, source], passwords)
    for name in ("ann", "nobody", "dan"):
        assert await users.verify(name, "wrong") is None
        assert held_against == [SHA512]  # exactly one check, of the usual kind
        held_against.clear()
    assert await users.verify("nobody", "s3cret pass") is None  # which fits what stands in, and nobody is anybody
    assert await users.verify("nobody", "s3cret pass") is None
    assert held_against == [SHA512] * 2  # and isn't remembered as right


async def test_made_up_keys_ask_what_the_users_keys_ask(written, passwords):
    users = Accounts([written(f"ann:{KEYS}\n")], passwords)
    assert users.can_scram
    known, made_up = await users.scram_keys("ann"), await users.scram_keys("nobody")
    assert (made_up.iterations, len(made_up.salt)) == (known.iterations, len(known.salt))
