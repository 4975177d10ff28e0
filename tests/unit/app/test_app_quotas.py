"""Quotas where settings, users and mailboxes meet: what RCPT hears, what delivery does, as whom one may send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path as File
from types import SimpleNamespace
from typing import Any

import pytest

from gatepost.app.maildrops import Maildrops
from gatepost.app.quotas import Quotas
from gatepost.app.settings import Settings, SettingsError, load
from gatepost.app.users import open_users
from gatepost.delivery.ports import MailboxFull
from gatepost.model import Bytes, Path, Recipient, Ticket, token_at
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.addresses import Rules
from gatepost.store.files import RealFiles
from gatepost.store.maildrop import Maildrop
from gatepost.store.registry import RegistryError
from gatepost.testing.rig import Rig

SETTINGS = """
hostname = "mx.example.org"
[[route]]
match = "*@example.org"
deliver = "maildir"
[users]
quota = 1000
[[user]]
name = "ann@example.org"
send_as = ["*@sales.example"]
[[user]]
name = "bob@example.org"
quota = "none"
[[user]]
name = "cat@example.org"
quota = 50
[[alias]]
address = "info@example.org"
to = ["ann@example.org", "bob@example.org"]
[[alias]]
address = "only@example.org"
to = ["ann@example.org"]
[[alias]]
address = "crew@example.org"
to = ["info@example.org", "cat@example.org"]
send_as = true
[[alias]]
address = "postmaster"
to = ["ann@example.org"]
[[user]]
name = "jörg@bücher.example"
send_as = ["*@*.bücher.example"]
"""
TICKET = Ticket(token_at(1_800_000_000_000, 0, 1), 1)


class House:
    def __init__(self, folder: File, settings: Settings, users: Any) -> None:
        self.store = Maildrop(folder, RealFiles())
        self.users = users
        self.quotas = Quotas(settings, users, self.store.mailbox)
        self.drops = Maildrops(self.store, users, self.quotas, takes_everybody=False)

    def put(self, user: str, octets: int) -> None:
        new = self.store.mailbox(user) / "new"
        new.mkdir(parents=True, exist_ok=True)
        (new / f"1.a,S={octets},W={octets}").touch()

    async def rcpt(self, address: str, size: str = "") -> str:
        parameters = {"SIZE": size} if size else {}
        question: Any = SimpleNamespace(
            facts={"recipient": Recipient(Path.parse(address))}, transaction=SimpleNamespace(parameters=parameters)
        )
        refusal = await self.quotas.admission(question)
        return "" if refusal is None else f"{refusal.code} {refusal.status}"


def settings(folder: File, **replaced: str) -> Settings:
    file = folder / "gatepost.toml"
    text = SETTINGS
    for old, new in replaced.items():
        text = text.replace(old, new)
    file.write_text(text)
    return load(file, environ={})


@pytest.fixture
async def house(tmp_path: File) -> AsyncIterator[House]:
    made = settings(tmp_path)
    users = await open_users(made, None)
    house = House(tmp_path / "mail", made, users)
    yield house
    await house.quotas.close()
    await house.drops.close()
    await users.close()


@pytest.mark.parametrize(
    ("address", "held", "size", "said"),
    [
        ("ann@example.org", 0, "", ""),
        ("ann@example.org", 999, "", ""),
        ("ann@example.org", 1000, "", "452 4.2.2"),
        ("ann+x@example.org", 900, "100", ""),
        ("ann+x@example.org", 900, "101", "452 4.2.2"),
        ("ann@example.org", 0, "1001", "552 5.3.4"),
        ("bob@example.org", 10**9, "100000", ""),
        ("cat@example.org", 50, "", "452 4.2.2"),
        ("only@example.org", 1000, "", "452 4.2.2"),
        ("info@example.org", 1000, "", ""),
        ("dan@example.org", 0, "", "550 5.1.1"),
    ],
)
async def test_what_is_said_at_rcpt(house: House, address: str, held: int, size: str, said: str) -> None:
    for user in ("ann", "bob", "cat"):
        house.put(f"{user}@example.org", held)
    assert await house.rcpt(address, size) == said


async def test_a_setting_refuses_for_good(house: House, tmp_path: File) -> None:
    house.quotas.follow(settings(tmp_path, **{"quota = 1000": 'quota = 1000\nover_quota = "refuse"'}))
    house.put("ann@example.org", 1000)
    assert await house.rcpt("ann@example.org") == "552 5.2.2"


@pytest.mark.parametrize(("held", "goes_in"), [(1000, True), (1100, True), (1101, False)])
async def test_delivery_has_a_grace_of_a_tenth(house: House, held: int, goes_in: bool) -> None:
    house.put("ann@example.org", held)
    content = Bytes(b"Subject: x\r\n\r\n" + b"x" * 500)
    deliver = house.drops.deliver(TICKET, Recipient(Path.parse("ann@example.org")), content, sender=Path(), fresh=True)
    if goes_in:
        await deliver
    else:
        with pytest.raises(MailboxFull):
            await deliver
    assert len([*(house.store.mailbox("ann@example.org") / "new").iterdir()]) == 1 + goes_in


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("Ann+shop@example.org", True),
        ("info@example.org", False),  # else everybody could write as all@
        ("only@example.org", True),
        ("only+x@example.org", True),
        ("crew@example.org", True),
        ("postmaster@example.org", False),  # nor as a stranger's postmaster: nothing says which domains are ours
        ("anybody@sales.example", True),
        ("bob@example.org", False),
        ("bob+ann@example.org", False),
        ("ann@example.com", False),
        ("not an address", False),
    ],
)
async def test_whose_addresses_a_user_may_send_as(house: House, address: str, may: bool) -> None:
    assert house.users.may_send_as("ann@example.org", address) is may


async def test_whose_maildrop_it_is(house: House) -> None:
    async def person(address: str) -> str:
        return await house.users.person(Path.parse(address))

    assert await person("Ann+x@example.org") == await person("ann@example.org") == "ann@example.org"
    assert await person("Bob@far.example") == "bob@far.example"


async def test_a_domain_is_one_however_it_is_written(house: House) -> None:
    assert await house.rcpt("jörg@xn--bcher-kva.example") == ""
    assert await house.rcpt("JO\u0308RG+x@Bücher.example") == ""
    for address in ("Jörg@XN--bcher-kva.example", "x@a.bücher.example", "x@a.xn--bcher-kva.example"):
        assert house.users.may_send_as("jörg@bücher.example", address)
    assert not house.users.may_send_as("jörg@bücher.example", "x@bücher.example")
    assert await house.users.mailbox("jörg@bücher.example") == "jörg@bücher.example"


async def test_where_a_file_says_who_exists_only_a_full_mailbox_is_refused(house: House) -> None:
    house.put("ann@example.org", 1000)
    for address, code in (("ann+x@example.org", 452), ("nobody@example.org", 0), ("info@example.org", 0)):
        question: Any = SimpleNamespace(facts={"recipient": Recipient(Path.parse(address))}, transaction=None)
        refusal = await house.quotas.room(question)
        assert (0 if refusal is None else refusal.code) == code


async def test_the_postmaster_has_a_maildrop_however_he_is_written(tmp_path: File) -> None:
    made = settings(tmp_path)
    users = await open_users(made, None)
    users.follow(Rules())
    house = House(tmp_path / "mail", made, users)
    to = Recipient(Path.parse("PostMaster@example.org"))
    await house.drops.deliver(TICKET, to, Bytes(b"Subject: x\r\n\r\n"), sender=Path(), fresh=True)
    assert len([*(house.store.mailbox("postmaster") / "new").iterdir()]) == 1
    await house.quotas.close()
    await house.drops.close()
    await users.close()


def test_an_alias_isnt_where_mail_is_handed_over_before_the_reply(tmp_path: File) -> None:
    route = '[[route]]\nmatch = "info@example.org"\ndeliver = "relay 127.0.0.1:9"\nhandover = "before-reply"\n'
    with pytest.raises(SettingsError, match="is handed over before it could go to others"):
        settings(tmp_path, **{"[[route]]": f"{route}[[route]]"})


def _both(quotas: Quotas) -> list[tuple[str, Any]]:
    return [("example.org", quotas.admission), ("listed.example", quotas.room)]


async def test_users_that_cant_be_read_are_asked_for_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(address: str) -> None:
        raise RegistryError("the users can't be read: disk I/O error")

    monkeypatch.setattr(house.users, "_having", broken)
    house.users.follow(house.users.addresses.rules)
    gates = [Gate(f"*@{domain}", OpenTo.ANYONE, exists=how) for domain, how in _both(house.quotas)]
    async with Rig(gates=gates) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO client.example")
        await client.command("MAIL FROM:<s@else.example>")
        for gate in gates:
            said = await client.command(f"RCPT TO:<ann{gate.match[1:]}>")
            assert said.startswith("451 4.3.0 ") and "disk" not in said


async def test_a_postmaster_may_write_as_that_of_our_domains(tmp_path: File) -> None:
    made = settings(tmp_path, **{"quota = 1000": 'quota = 1000\ndomains = ["example.org", "bücher.example"]'})
    users = await open_users(made, None)
    assert users.may_send_as("ann@example.org", "Postmaster@bücher.example")
    assert not users.may_send_as("ann@example.org", "postmaster@example.com")
    assert not users.may_send_as("ann@example.org", "postmaster")
    assert not users.may_send_as("cat@example.org", "postmaster@example.org")
    await users.close()
