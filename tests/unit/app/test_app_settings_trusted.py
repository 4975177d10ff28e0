"""Listeners whose peers are believed: what the settings take, and what they refuse."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gatepost.app.settings import SettingsError
from gatepost.app.settings.root import Settings
from gatepost.testing.rig import Rig

KEYS = ("proxy_protocol", "xclient", "xforward")


def listening(**keys: object) -> Settings:
    return Settings.in_memory(listen=[{"address": "127.0.0.1:0", **keys}])


@pytest.mark.parametrize("key", KEYS)
def test_networks_one_or_several(key: str) -> None:
    several = listening(**{key: ["10.0.0.0/8", "2001:db8::5"]})
    assert getattr(several.listen[0], key) == (ip_network("10.0.0.0/8"), ip_network("2001:db8::5/128"))
    assert getattr(listening(**{key: "10.0.0.5"}).listen[0], key) == (ip_network("10.0.0.5/32"),)
    assert getattr(listening().listen[0], key) == ()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("wide", ["0.0.0.0/0", "::/0", "128.0.0.0/1"])
def test_nobody_believes_everybody(key: str, wide: str) -> None:
    with pytest.raises(SettingsError) as refused:
        listening(**{key: [wide]})
    assert "nearly everybody" in str(refused.value)
    assert key in str(refused.value)


def test_a_slip_is_told_with_its_mend() -> None:
    with pytest.raises(SettingsError) as refused:
        listening(xclient=["10.0.0.5/8"])
    assert '"10.0.0.0/8"' in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        listening(xclients=["10.0.0.5"])
    assert "xclient" in str(refused.value)


async def test_what_isnt_switched_on_costs_nothing() -> None:
    async with Rig(settings=listening()) as rig:
        assert (rig.place.trust, rig.place.door) == (None, None)
    async with Rig(settings=listening(xclient="192.0.2.1", proxy_protocol="192.0.2.2")) as rig:
        client = rig.connect("192.0.2.1")
        await client.reply()
        assert "XCLIENT NAME" in await client.command("EHLO x")
        assert "XCLIENT" not in await _offers(rig, "192.0.2.2")
        assert rig.place.door is not None


async def _offers(rig: Rig, ip: str) -> str:
    client = rig.connect(ip)
    await client.reply()
    return await client.command("EHLO x")
