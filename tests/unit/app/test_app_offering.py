"""What logins are offered follows the users of a running server."""

import asyncio
import logging
import os
import time

import argon2
import pytest

from gatepost.app.offering import Offering
from gatepost.app.settings.root import Settings
from gatepost.store.passwd_file import PasswdFile
from gatepost.store.passwords import Passwords
from gatepost.store.registry import Registry
from gatepost.store.users import Accounts
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import greet

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash("s3cret")


@pytest.fixture
async def passwords():
    made = Passwords(time.monotonic, os.urandom, hasher=CHEAP, iterations=4096)
    yield made
    await made.close()


@pytest.fixture
def looked(monkeypatch):
    """Looks at the users are so frequent that a test doesn't wait."""
    monkeypatch.setattr("gatepost.app.offering.LOOK_S", 0.001)
    monkeypatch.setattr("gatepost.store.passwd_file.LOOK_S", 0.0)


def settings():
    listener = {"address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True}
    return Settings.in_memory(hostname="mx.test", listen=[listener], users={"cram_md5": True})


async def offered(rig):
    """The mechanisms that a session hears which begins now."""
    client = rig.connect()
    [line] = [line for line in (await greet(client)).split("\n") if line[4:].startswith("AUTH ")]
    return set(line[4:].split()[1:])


async def until(rig, mechanisms):
    async with asyncio.timeout(10):
        while await offered(rig) != mechanisms:
            await asyncio.sleep(0.002)


async def test_a_file_and_the_registry_change_what_is_offered(tmp_path, passwords, looked):
    file = tmp_path / "users.passwd"
    file.write_text("")
    registry, other = (Registry(tmp_path / "users.db", os.urandom) for _ in range(2))
    users = Accounts([PasswdFile(file, "example.org", time.monotonic), registry], passwords)
    async with Rig(settings=settings(), users=users) as rig:
        offering = Offering(users, lambda: rig.generation)
        offering.begin()
        assert await offered(rig) == {"SCRAM-SHA-256", "PLAIN", "LOGIN"}
        file.write_text(f"bob:{HASH}\n")  # who has no keys of SCRAM
        await until(rig, {"PLAIN", "LOGIN"})
        other.add("ann@example.org", await passwords.make("s3cret", keep_plain=True))
        await until(rig, {"PLAIN", "LOGIN", "CRAM-MD5"})
        file.write_text("bob:!\n")
        await until(rig, {"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"})
        other.remove("ann@example.org")
        await until(rig, {"SCRAM-SHA-256", "PLAIN", "LOGIN"})
        await offering.stop()
        file.write_text(f"bob:{HASH}\n")
        place = rig.place
        await asyncio.sleep(0.01)
        assert rig.place is place
    for one in (registry, other):
        one.close()


async def test_places_stay_as_long_as_the_same_is_offered(tmp_path, passwords, looked):
    file = tmp_path / "users.passwd"
    file.write_text(f"bob:{HASH}\n")
    users = Accounts([PasswdFile(file, "example.org", time.monotonic)], passwords)
    async with Rig(settings=settings(), users=users) as rig:
        place, offering = rig.place, Offering(users, lambda: rig.generation)
        offering.begin()
        file.write_text(f"bob:{HASH}\nann:{HASH}\n")
        async with asyncio.timeout(10):
            while len(users.list()) < 2:
                await asyncio.sleep(0.002)
        assert rig.place is place
        await offering.stop()


async def test_users_that_cant_be_read_are_told_of_once_and_change_nothing(passwords, looked, caplog):
    class Broken(Accounts):
        asked = 0

        async def look_again(self):
            self.asked += 1
            if self.asked < 5:
                raise OSError("disk")

    users = Broken([], passwords)
    async with Rig(settings=settings(), users=users) as rig:
        offering = Offering(users, lambda: rig.generation)
        with caplog.at_level(logging.ERROR, "gatepost"):
            offering.begin()
            async with asyncio.timeout(10):
                while users.asked < 7:
                    await asyncio.sleep(0.002)
        await offering.stop()
    assert caplog.text.count("the users can't be looked at") == 1
