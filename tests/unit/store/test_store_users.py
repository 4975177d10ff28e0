"""Users and passwords: found by name and alias, checked at the same price whoever asks."""

import asyncio
import hashlib
import hmac
import os
import threading
from collections.abc import AsyncIterator

import argon2
import pytest

from gatepost.model import Path
from gatepost.store.passwords import Passwords, ScramKeys, UsersBusy
from gatepost.store.registry import Registry, RegistryError, UnknownUser
from gatepost.store.users import Accounts, StaticUsers, User

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingHasher(argon2.PasswordHasher):
    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash, password):
        self.verified.append(hash)
        return super().verify(hash, password)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
async def passwords(clock, hasher) -> AsyncIterator[Passwords]:
    made = Passwords(clock, os.urandom, hasher=hasher, iterations=4096)
    yield made
    await made.close()


@pytest.fixture(params=["static", "registry"])
async def users(request, passwords, tmp_path) -> AsyncIterator[Accounts]:
    """Ann has a password and an alias, Bob has none."""
    secrets = await passwords.make("sécret")
    if request.param == "static":
        ann = User("Ann@example.org", secrets.hash, secrets.scram, ("info@example.org",), ("*@lists.example.org",))
        source = StaticUsers([ann, User("bob@example.org")])
    else:
        source = Registry(tmp_path / "users.db", os.urandom)
        source.add("Ann@example.org", secrets, aliases=["info@example.org"], send_as=["*@lists.example.org"])
        source.add("bob@example.org")
    made = Accounts([source], passwords)
    yield made
    await made.close()


async def test_a_right_password_gives_the_name_as_it_is_kept(users):
    assert await users.verify("ann@EXAMPLE.org", "sécret") == "Ann@example.org"
    assert await users.verify("info@example.org", "se\u0301cret") == "Ann@example.org"  # the same letters, composed


@pytest.mark.parametrize("name", ["ann@example.org", "bob@example.org", "nobody@example.org", "", "x\0y", "\udcff"])
@pytest.mark.parametrize("password", ["", "wrong", "\udcff", "s" * 10_000])
async def test_a_wrong_one_costs_one_check_whoever_it_is(users, hasher, name, password):
    assert await users.verify(name, password) is None
    assert len(hasher.verified) == 1


async def test_I2_names_are_never_part_of_a_statement(users):
    assert await users.verify("' OR 1=1 --", "x") is None
    assert not await users.exists('ann@example.org"; DROP TABLE user; --')
    assert await users.exists("ann@example.org")


async def test_a_right_answer_is_remembered_for_a_while(users, hasher, clock):
    for _ in range(5):
        await users.verify("ann@example.org", "sécret")
    assert len(hasher.verified) == 1
    clock.now += 61
    await users.verify("ann@example.org", "sécret")
    assert len(hasher.verified) == 2


async def test_addresses_lead_to_mailboxes(users):
    assert await users.exists(Path.parse("INFO@example.org"))
    assert await users.mailbox("info@example.org") == "Ann@example.org"
    assert await users.mailbox(Path.parse("bob@example.org")) == "bob@example.org"
    assert await users.mailbox("eve@example.org") is None
    assert [user.name for user in users.list()] == ["Ann@example.org", "bob@example.org"]


async def test_who_may_send_as_whom(users):
    for allowed in ("ann@example.org", "Info@Example.org", "x@lists.example.org"):
        assert users.may_send_as("ann@example.org", allowed)
    for refused in ("bob@example.org", "", "x@lists.example.org.evil.example"):
        assert not users.may_send_as("ann@example.org", refused)
    assert not users.may_send_as("nobody@example.org", "nobody@example.org")


async def test_scram_keys_fit_the_password(users):
    assert users.can_scram
    keys = await users.scram_keys("ann@example.org")
    salted = hashlib.pbkdf2_hmac("sha256", "sécret".encode(), keys.salt, keys.iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    assert keys.stored_key == hashlib.sha256(client).digest()
    assert keys.server_key == hmac.digest(salted, b"Server Key", "sha256")


@pytest.mark.parametrize("name", ["ann@example.org", "bob@example.org", "nobody@example.org"])
async def test_a_proof_is_looked_at_once_whoever_it_is_of(users, name):
    asked = []
    assert await users.prove(name, lambda password: not asked.append(password)) is None  # nobody's is in the clear
    assert len(asked) == 1


async def test_whose_a_login_name_is(users):
    assert await users.named("INFO@example.org") == await users.named("ann@Example.org") == "Ann@example.org"
    assert await users.named("nobody@example.org") is None


@pytest.mark.parametrize("name", ["nobody@example.org", "bob@example.org"])
async def test_the_keys_of_who_is_unknown_or_has_none_look_like_anybodys(users, name):
    made_up = await users.scram_keys(name)
    assert made_up == await users.scram_keys(name.upper())
    assert made_up != await users.scram_keys("nobody2@example.org")
    real = await users.scram_keys("ann@example.org")
    assert (made_up.iterations, len(made_up.salt)) == (real.iterations, len(real.salt))


async def test_too_many_checks_are_turned_away(passwords):
    hash = (await passwords.make("x")).hash
    results = await asyncio.gather(*(passwords.check(hash, str(n)) for n in range(200)), return_exceptions=True)
    assert {type(result) for result in results} == {bool, UsersBusy}
    assert await passwords.check(hash, "x")


async def test_a_cancelled_check_gives_its_place_back(passwords):
    hash = (await passwords.make("x")).hash
    for _ in range(3):
        tasks = [asyncio.ensure_future(passwords.check(hash, str(n))) for n in range(60)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await passwords.make("as long as that takes")
        await passwords.check(hash, "behind the others")
    assert await passwords.check(hash, "x")


async def test_a_cancelled_check_keeps_its_place_as_long_as_it_is_computed(passwords, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr(passwords, "_check", lambda *_: goes_on.wait(10))
    tasks = [asyncio.ensure_future(passwords.check("hash", str(n))) for n in range(64)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(UsersBusy):
        await passwords.check("hash", "one more")
    goes_on.set()


async def test_what_is_remembered_is_remembered_of_one_user(passwords):
    anns, bobs = (await passwords.make("one")).hash, (await passwords.make("two")).hash
    assert await passwords.check(anns, "one") and await passwords.check(anns, "one")
    assert not await passwords.check(bobs, "one") and not await passwords.check(None, "one")


@pytest.mark.parametrize("password", ["", "a\0b", "\ud800"])
async def test_passwords_that_cant_be(passwords, password):
    with pytest.raises(ValueError, match="password"):
        await passwords.make(password)


def test_scram_keys_are_written_and_read():
    keys = ScramKeys(b"salt", 4096, b"s" * 32, b"k" * 32)
    assert ScramKeys.parse(str(keys)) == keys


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "SCRAM-SHA-256$4096:c2FsdA==$short:short",
        "SCRAM-SHA-1$1:c2E=$" + ":".join(["c2E="] * 2),
        "$:$:",
        "a$b:c$d:e",
    ],
)
def test_what_isnt_scram_keys(text):
    with pytest.raises(ValueError, match="SCRAM"):
        ScramKeys.parse(text)


async def test_without_keys_scram_cant_be_offered(passwords):
    secrets = await passwords.make("x")
    users = Accounts([StaticUsers([User("ann@example.org", secrets.hash)])], passwords)
    assert not users.can_scram


def test_an_address_belongs_to_one_user_of_the_settings():
    with pytest.raises(ValueError, match="two users"):
        StaticUsers([User("ann@example.org", aliases=("x@example.org",)), User("X@example.org")])


async def test_settings_win_over_the_registry(passwords, tmp_path):
    registry = Registry(tmp_path / "users.db", os.urandom)
    registry.add("ann@example.org", await passwords.make("registry"))
    static = StaticUsers([User("ann@example.org", (await passwords.make("settings")).hash)])
    users = Accounts([static, registry], passwords)
    assert await users.verify("ann@example.org", "settings") == "ann@example.org"
    assert await users.verify("ann@example.org", "registry") is None
    assert len(users.list()) == 1
    registry.close()


async def test_the_registry_is_changed_while_another_process_reads_it(passwords, tmp_path):
    writer, reader = (Registry(tmp_path / "users.db", os.urandom) for _ in range(2))
    assert writer.secret == reader.secret
    writer.add("ann@example.org", aliases=["info@example.org"])
    assert reader.find("info@example.org") == User("ann@example.org", aliases=("info@example.org",))
    writer.set_password("ann@example.org", await passwords.make("x"))
    assert reader.find("ann@example.org").password
    writer.set_aliases("ann@example.org", ["post@example.org"])
    writer.set_send_as("ann@example.org", ["*@example.org"])
    assert (reader.find("info@example.org"), reader.find("post@example.org").send_as) == (None, ("*@example.org",))
    writer.remove("ANN@example.org")
    assert [reader.find(address) for address in ("ann@example.org", "post@example.org")] == [None, None]
    assert (tmp_path / "users.db").stat().st_mode & 0o077 == 0
    writer.close()
    reader.close()


def test_the_registry_keeps_addresses_apart(tmp_path):
    registry = Registry(tmp_path / "users.db", os.urandom)
    registry.add("ann@example.org", aliases=["ANN@example.org", "info@example.org"])
    for name, aliases in (("Ann@Example.org", []), ("info@example.org", []), ("eve@example.org", ["info@example.org"])):
        with pytest.raises(RegistryError, match="already"):
            registry.add(name, aliases=aliases)
    assert [user.name for user in registry.all()] == ["ann@example.org"]
    for act in (registry.remove, lambda name: registry.set_aliases(name, [])):
        for name in ("nobody@example.org", "info@example.org"):
            with pytest.raises(UnknownUser):
                act(name)
    registry.close()


def test_what_isnt_a_registry_says_so(tmp_path):
    (tmp_path / "users.db").write_bytes(b"not a database at all" * 200)
    with pytest.raises(RegistryError):
        Registry(tmp_path / "users.db", os.urandom)
