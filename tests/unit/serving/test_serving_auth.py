"""AUTH: users that can't be looked up, keys from a plugin, and what is written down."""

import base64
import hashlib
import hmac
from dataclasses import replace

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import accept, on, refuse
from gatepost.store.passwords import UsersBusy
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins


def settings():
    listener = {"address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True}
    return Settings.in_memory(hostname="mx.test", listen=[listener])


def plain(user="ann", password="secret"):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


SECRET = plain().rpartition(" ")[2]


class Users:
    def __init__(self, error):
        self.error = error

    async def verify(self, name, password):
        raise self.error

    async def scram_keys(self, name):
        raise self.error


@pytest.mark.parametrize("error", [OSError("disk"), UsersBusy("busy")])
async def test_users_that_cant_be_asked_are_a_temporary_failure(error):
    async with Rig(settings=settings(), users=Users(error)) as rig:
        mechanisms = ("SCRAM-SHA-256", "PLAIN")
        client = rig.connect(place=replace(rig.place, profile=replace(rig.place.profile, auth=mechanisms)))
        await greet(client)
        assert (await client.command(plain())).startswith("454 4.7.0")
        first = base64.b64encode(b"n,,n=ann,r=abcdefgh").decode()
        assert (await client.command(f"AUTH SCRAM-SHA-256 {first}")).startswith("454 4.7.0")
        assert (await client.command("NOOP")).startswith("250")


def keys(password="secret", iterations=4096):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return {"salt": b"salt", "iterations": iterations, "stored_key": stored, "server_key": server}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (keys(), "235"),
        (keys("other"), "535"),
        ({}, "454"),
        (keys() | {"stored_key": b"short"}, "454"),
        (keys() | {"iterations": 10**9}, "454"),
        (keys() | {"iterations": 0}, "454"),
    ],
)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_plugins_keys_check_a_password_and_nobody_else_is_asked(given, code, mechanism):
    @on("auth")
    async def knows(event):
        return v.Credentials(given)

    async with Rig(plugins(knows), settings=settings(), users=Users(AssertionError("asked"))) as rig:
        client = rig.connect()
        await greet(client)
        if mechanism == "PLAIN":
            said = await client.command(plain())
        else:
            await client.command("AUTH LOGIN " + base64.b64encode(b"ann").decode())
            said = await client.command(base64.b64encode(b"secret").decode())
        assert said.startswith(code)
        session, is_known = rig.last_session, code == "235"
        assert (session.user, session.mechanism) == (("ann", mechanism) if is_known else (None, ""))


async def test_a_421_at_auth_closes():
    @on("auth")
    async def ends(event):
        return refuse(421, "4.7.0", "not here")

    async with Rig(plugins(ends), settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command(plain())).startswith("421 4.7.0 not here")
        assert await client.reply() == ""


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [(450, "4.2.0", "454 4.7.0 not now"), (454, "4.7.0", "454 4.7.0 not now"), (550, "5.7.1", "550 5.7.1 not now")],
)
async def test_a_temporary_refusal_at_auth_is_its_own(code, status, said):
    """rfc4954#6"""

    @on("auth")
    async def refuses(event):
        return refuse(code, status, "not now")

    async with Rig(plugins(refuses), settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command(plain())).startswith(said)
        assert (await client.command("NOOP")).startswith("250")


@pytest.mark.parametrize("is_known", [True, False])
async def test_S4_who_was_accepted_for_a_session_is_asked_about_again_after_auth(is_known):
    @on("hello")
    async def accepts(event):
        return accept("session")

    @on("auth")
    async def knows(event):
        return v.Identity("ann") if is_known else v.Deny("no")

    @on("sender")
    async def asked(event):
        return refuse(550, "5.7.1", "asked")

    async with Rig(plugins(accepts, knows, asked), settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        await client.command(plain())
        assert (await client.command("MAIL FROM:<a@b.example>")).startswith("550" if is_known else "250")


async def test_I2_a_plugin_cant_name_a_user_by_what_cant_be_shown():
    @on("auth")
    async def names(event):
        return v.Identity("ann\r\nX: y")

    async with Rig(plugins(names), settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command(plain())).startswith("454")
        await envelope(client, "c@d.example")
        await content(client)
        [entry] = await rig.spool.entries()
        assert entry.authenticated is None


async def test_I2_names_in_records_are_what_can_be_shown():
    async with Rig(settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command(plain("ann\r\nx: y\x1b[2J\u202e"))).startswith("535")
        [facts] = rig.records.kinds("auth")
        assert facts["user"].startswith("ann") and facts["user"].isprintable()


LINES = [
    plain().encode() + b"\n",
    plain().lower().encode() + b"\xff\r\n",
    b" " + plain().encode() + b"\r\n",
    b"\t" + plain().encode() + b"\r\n",
    plain().replace(" ", "\t").encode() + b"\n",
    plain().encode() + b" " * 20000 + b"\r\n",
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
async def test_what_follows_auth_is_never_written_down(line):
    async with Rig(settings=settings()) as rig:
        client = rig.connect()
        await greet(client)
        client.send(line)
        assert (await client.reply())[0] == "5"
        assert SECRET.lower() not in repr(rig.records.entries).lower()
