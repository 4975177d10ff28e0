"""Bounces that come back to return paths of ours: SRS and BATV at RCPT."""

from __future__ import annotations

import time

import pytest

from gatepost.app.settings import Settings
from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.model import Path
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet

SECRET = "a secret of sixteen"
SRS, BATV = Srs("own.example", (SECRET.encode(),)), Batv((SECRET.encode(),))
EVE = Path.parse("eve@foreign.example")
GATES = (Gate("*@own.example", OpenTo.ANYONE), Gate("*", OpenTo.AUTHENTICATED))
ROUTES = [{"match": "*@own.example", "deliver": "maildir"}, {"match": "*", "deliver": "mx"}]


def rig(gates=GATES, **changed):
    settings = {
        "hostname": "mx.own.example",
        "srs": {"domain": "own.example", "secret": SECRET},
        "batv": {"secret": [SECRET]},
        "route": ROUTES,
    }
    return Rig(settings=Settings.in_memory(**(settings | changed)), gates=gates)


async def said_to(made, recipient, sender=""):
    client = made.connect()
    await greet(client)
    return (await envelope(client, recipient, sender=sender))[-1]


async def test_a_bounce_goes_back_to_the_sender_whose_mail_was_forwarded():
    async with rig() as made:
        client = made.connect()
        await greet(client)
        path = SRS.forward(EVE, time.time())
        assert (await envelope(client, path.address, sender=""))[-1].startswith("250")
        assert (await content(client)).startswith("250")
        [entry] = await made.spool.entries()
        assert [str(recipient) for recipient in entry.envelope.recipients] == ["eve@foreign.example"]
        [record] = made.records.kinds("recipient")
        assert record["recipient"] == "eve@foreign.example"
        assert record["said"] == path.address


@pytest.mark.parametrize("lower", [False, True])
async def test_an_address_in_other_case_is_the_same(lower):
    async with rig() as made:
        address = SRS.forward(EVE, time.time()).address
        assert (await said_to(made, address.lower() if lower else address)).startswith("250")


async def test_L4_only_a_return_path_of_ours_opens_the_way():
    now = time.time()
    good = SRS.forward(EVE, now)
    async with rig() as made:
        for address in (
            Srs("own.example", (b"somebody else's secret",)).forward(EVE, now).address,
            SRS.forward(EVE, now - 30 * 86400).address,
            good.address.replace("eve", "eva"),
            "SRS0=AAAAAA=AA=foreign.example=eve@own.example",
            "SRS1=AAAAAA=foreign.example==AAAA=AA=x.example=y@own.example",
            "srs0+x@own.example",
        ):
            assert (await said_to(made, address)).startswith("550 5.1.1"), address
        assert (await said_to(made, good.address, sender="a@b.example")).startswith("550 5.7.1")
        assert (await said_to(made, "eve@foreign.example")).startswith("550 5.7.1 we do not relay")
        assert (await said_to(made, good.address.replace("own.", "foreign."))).startswith("550 5.7.1 we do not relay")


async def test_a_sender_without_a_route_has_none_by_its_return_path_either():
    async with rig(gates=GATES[:1]) as made:
        assert (await said_to(made, SRS.forward(EVE, time.time()).address)).startswith("550 5.7.1 we do not relay")


async def test_a_signed_address_is_the_address():
    ann = Path.parse("ann@own.example")
    async with rig() as made:
        client = made.connect()
        await greet(client)
        signed = BATV.sign(ann, time.time())
        for sender in ("", "a@b.example"):
            assert (await envelope(client, signed.address, sender=sender))[-1].startswith("250")
            assert (await content(client)).startswith("250")
        assert {str(r) for e in await made.spool.entries() for r in e.envelope.recipients} == {"ann@own.example"}
        forged = signed.address.replace("ann", "bob")
        assert (await said_to(made, forged)).startswith("550 5.1.1")
        assert (await said_to(made, BATV.sign(ann, time.time() - 9 * 86400).address)).startswith("550 5.1.1")
        assert (await said_to(made, "ann@own.example")).startswith("250"), "unsigned ones are taken by default"


async def test_bounces_of_what_was_never_sent_are_refused_by_setting():
    ann = Path.parse("ann@own.example")
    async with rig(batv={"secret": SECRET, "refuse_unsigned": True}) as made:
        assert (await said_to(made, "ann@own.example")).startswith("550 5.7.1 we have sent no mail")
        assert (await said_to(made, BATV.sign(ann, time.time()).address)).startswith("250")
        assert (await said_to(made, "ann@own.example", sender="a@b.example")).startswith("250")
        assert (await said_to(made, "Postmaster@own.example")).startswith("250")
        assert (await said_to(made, SRS.forward(EVE, time.time()).address)).startswith("250")


async def test_without_secrets_nothing_is_read():
    async with rig(srs={}, batv={}) as made:
        assert made.place.house.returning is None
        assert (await said_to(made, "prvs=0123abcdef=ann@own.example")).startswith("250")
