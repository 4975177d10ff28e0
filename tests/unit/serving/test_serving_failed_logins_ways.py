"""Failed logins count, and are held up, whichever way somebody logs in."""

import base64
import os
import time

import argon2
import pytest

from gatepost.app.settings.root import Settings
from gatepost.serving.failed_logins import FAR
from gatepost.store.ledger import MemoryLedger
from gatepost.store.mailbox_memory import MemoryMailboxes
from gatepost.store.passwords import Passwords
from gatepost.store.users import Accounts, StaticUsers, User
from gatepost.testing.rig import Rig
from gatepost.wire.pop3.apop import apop_digest
from gatepost.wire.sasl_client import Exchange, Failure, Secret
from unit.serving.serving_talk import greet

MOST = 2
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SASL = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]


@pytest.fixture
async def users():
    passwords = Passwords(time.monotonic, os.urandom, hasher=CHEAP, iterations=4096)
    made = await passwords.make("right", keep_plain=True)
    yield Accounts([StaticUsers([User("ann@example.org", made.hash, made.scram, plain=made.plain)])], passwords)
    await passwords.close()


@pytest.fixture
def slept(monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("gatepost.serving.failed_logins.asyncio.sleep", sleep)
    return waits


def rig(users):
    listeners = [
        {"name": "mx", "address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True},
        {"name": "pop", "address": "127.0.0.1:1", "protocol": "pop3", "auth_without_tls": True},
    ]
    settings = Settings.model_validate({
        "hostname": "mx.test",
        "data": None,
        "listen": listeners,
        "users": {"cram_md5": True},
        "pop3": {"failure_delay": 0, "apop": True},
        "limits": {"auth_failures": MOST, "auth_attempts": 1},
    })  # fmt: skip
    return Rig(
        settings=settings, users=users, facts=MemoryLedger(lambda: 1000.0), mailboxes=MemoryMailboxes(os.urandom)
    )


async def by_sasl(client, mechanism, password, again):
    exchange = Exchange(mechanism, Secret("ann@example.org", password), nonce="abcdefghijklmnopqrstuvwx")
    said = await client.command(f"AUTH {mechanism}")
    if exchange.initial is not None:
        said = await client.command(base64.b64encode(exchange.initial).decode())
    while said.startswith(again):
        answer = exchange.respond(base64.b64decode(said[len(again) :]))
        assert not isinstance(answer, Failure), answer
        said = await client.command(base64.b64encode(answer).decode())
    return said


async def by_smtp(rig, mechanism, password):
    client = rig.connect()
    assert mechanism in await greet(client)
    return await by_sasl(client, mechanism, password, "334 ")


async def by_pop3(rig, mechanism, password):
    client = rig.pick_up()
    timestamp = (await client.reply()).split()[-1]
    if mechanism == "USER":
        await client.command("USER ann@example.org")
        return await client.command(f"PASS {password}")
    if mechanism == "APOP":
        return await client.command(f"APOP ann@example.org {apop_digest(timestamp, password)}")
    return await by_sasl(client, mechanism, password, "+ ")


WAYS = [(by_smtp, one) for one in SASL] + [(by_pop3, one) for one in (*SASL, "USER", "APOP")]


@pytest.mark.parametrize(("by", "mechanism"), WAYS, ids=[f"{by.__name__}-{one}" for by, one in WAYS])
async def test_O5_every_way_counts_and_waits_and_ends(users, slept, by, mechanism):
    async with rig(users) as made:
        wrong, too_many = (
            ("535 5.7.8", "421 4.7.0 too many failed")
            if by is by_smtp
            else ("-ERR [AUTH]", "-ERR [SYS/TEMP] too many failed")
        )
        for _ in range(MOST):
            assert (await by(made, mechanism, "wrong")).startswith(wrong)
        assert not slept
        for waits in range(1, MOST * (FAR - 1) + 1):
            assert (await by(made, mechanism, "wrong")).startswith(wrong)
            assert len(slept) == waits
        assert (await by(made, mechanism, "right")).startswith(too_many)
        client = made.connect("203.0.113.9")  # from elsewhere at worst after a wait
        await greet(client)
        assert (await by_sasl(client, "PLAIN", "right", "334 ")).startswith("235")


async def test_what_is_no_guess_isnt_counted(users, slept):
    async with rig(users) as made:
        for _ in range(2 * MOST):
            client = made.connect()
            await greet(client)
            assert (await client.command("AUTH PLAIN " + base64.b64encode(b"\0ann").decode())).startswith("535")
        assert (await by_smtp(made, "PLAIN", "right")).startswith("235")
        assert not slept
