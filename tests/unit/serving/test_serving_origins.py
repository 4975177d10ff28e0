"""What a deposit keeps of the client that has brought it, where a next server is told; nothing where none is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gatepost.app.settings import SettingsError
from gatepost.app.settings.root import Settings
from gatepost.delivery.introducing import origin_in
from gatepost.net.answers import TemporaryFailure
from gatepost.serving import introduced
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, sent


def routed(introduce: str | None, **more: Any) -> Settings:
    deliver = {"by": "relay", "hosts": ["192.0.2.9:25"], **more}
    if introduce is not None:
        deliver["introduce"] = introduce
    return Settings.in_memory(hostname="mx.test", route=[{"match": "*@d.example", "deliver": deliver}])


async def test_it_is_kept_with_the_name_that_was_found() -> None:
    async with Rig(settings=routed("xclient"), dns={"192.0.2.1": "c.dns.example", "c.dns.example": "192.0.2.1"}) as rig:
        await sent(rig, "c@d.example")
        [entry] = await rig.spool.entries()
        origin = origin_in(entry.facts, entry.authenticated)
        assert origin is not None
        assert origin.attributes() == {
            "NAME": "c.dns.example",
            "ADDR": "192.0.2.1",
            "PORT": "50000",
            "PROTO": "ESMTP",
            "HELO": "client.example",
            "LOGIN": "",
            "SOURCE": "REMOTE",
        }


async def test_nothing_is_kept_where_nobody_is_told() -> None:
    async with Rig(settings=routed(None)) as rig:
        await sent(rig, "c@d.example")
        [entry] = await rig.spool.entries()
        assert not entry.facts
        assert rig.last_session.peer.found is None


async def never(_: object) -> str | None:
    await asyncio.Event().wait()
    return None


async def failing(_: object) -> str | None:
    raise TemporaryFailure("SERVFAIL")


@pytest.mark.parametrize("lookup", [never, failing])
async def test_a_name_that_isnt_found_in_time_is_unknown(lookup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introduced, "NAME_S", 0.01)
    async with Rig(settings=routed("xforward")) as rig:
        client = rig.connect(place=replace(rig.place, lookup=lookup))
        await greet(client)
        await envelope(client, "c@d.example")
        await content(client)
        [entry] = await rig.spool.entries()
        origin = origin_in(entry.facts, None)
        assert origin is not None
        assert origin.name == ""


@pytest.mark.parametrize(
    ("deliver", "words"),
    [
        ({"by": "mx", "hosts": []}, "servers of your own"),
        ({"introduce": "xhello"}, "introduce"),
        ({"user": "me", "password": "x", "tls": "required"}, "forgets"),
    ],
)
def test_what_cant_work_is_refused(deliver: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        routed(str(deliver.pop("introduce", "xclient")), **deliver)
    assert words in str(refused.value)
