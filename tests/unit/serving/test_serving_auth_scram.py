"""SCRAM-SHA-256 in SMTP sessions: who somebody is in the end, and what nobody learns."""

import base64
import os
import time
from dataclasses import replace

import argon2
import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from gatepost.store.passwords import Passwords, ScramKeys
from gatepost.store.users import Accounts, StaticUsers, User
from gatepost.testing.rig import Rig
from gatepost.wire.sasl_client import Exchange, Failure, Secret
from unit.serving.serving_talk import greet, plugins

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
async def passwords():
    made = Passwords(time.monotonic, os.urandom, hasher=CHEAP, iterations=4096)
    yield made
    await made.close()


@pytest.fixture
async def users(passwords):
    secrets = await passwords.make("s3cret")
    ann = User("Ann@example.org", secrets.hash, secrets.scram, ("info@example.org",))
    return Accounts([StaticUsers([ann, User("bob@example.org")])], passwords)


def settings():
    listener = {"address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True}
    return Settings.in_memory(hostname="mx.test", listen=[listener])


async def exchanged(client, user, password="s3cret"):
    """What the server says in the end, and how often it was asked something first."""
    exchange = Exchange("SCRAM-SHA-256", Secret(user, password), nonce="abcdefghijklmnopqrstuvwx")
    said = await client.command(f"AUTH SCRAM-SHA-256 {base64.b64encode(exchange.initial).decode()}")
    steps = 0
    while said.startswith("334"):
        steps += 1
        answer = exchange.respond(base64.b64decode(said[4:]))
        assert not isinstance(answer, Failure), answer
        said = await client.command(base64.b64encode(answer).decode() if answer else "=")
    return said, steps


@pytest.mark.parametrize("login", ["Ann@example.org", "ANN@EXAMPLE.ORG", "info@example.org"])
async def test_who_logs_in_by_an_alias_is_its_user(users, login):
    async with Rig(settings=settings(), users=users) as rig:
        client = rig.connect()
        assert "SCRAM-SHA-256" in await greet(client)
        said, _ = await exchanged(client, login)
        assert said.startswith("235")
        assert rig.last_session.user == "Ann@example.org"


async def test_who_has_no_password_is_told_apart_from_nobody_by_nothing(users):
    async with Rig(settings=settings(), users=users) as rig:
        heard = []
        for login in ("nobody@example.org", "bob@example.org", "ann@example.org"):
            client = rig.connect()
            await greet(client)
            said, steps = await exchanged(client, login, "wrong")
            heard.append((said[:32], steps))
        assert heard == [("535 5.7.8 wrong name or password", 1)] * 3


async def test_a_user_who_is_removed_while_he_proves_himself_is_nobody(users, monkeypatch):
    async def named(login):
        return None

    monkeypatch.setattr(users, "named", named)
    async with Rig(settings=settings(), users=users) as rig:
        client = rig.connect()
        await greet(client)
        said, _ = await exchanged(client, "ann@example.org")
        assert said.startswith("535") and rig.last_session.user is None


async def test_whom_a_plugin_gives_keys_of_is_the_plugins(users, passwords):
    kept = ScramKeys.parse((await passwords.make("of a plugin")).scram)
    keys = {name: getattr(kept, name) for name in ("salt", "iterations", "stored_key", "server_key")}

    @on("auth")
    async def knows(event):
        return v.Credentials(keys) if event.user == "info@example.org" else None

    async with Rig(plugins(knows), settings=settings(), users=users) as rig:
        place = replace(rig.place, profile=replace(rig.place.profile, auth=("SCRAM-SHA-256",)))
        client = rig.connect(place=place)
        await greet(client)
        said, _ = await exchanged(client, "info@example.org", "of a plugin")
        assert said.startswith("235") and rig.last_session.user == "info@example.org"
        client = rig.connect(place=place)
        await greet(client)
        assert (await exchanged(client, "info@example.org", "wrong"))[0].startswith("535")
        said, _ = await exchanged(client, "ann@example.org")
        assert said.startswith("235") and rig.last_session.user == "Ann@example.org"
