"""Whom a plugin names at a POP3 login."""

import pytest

from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from unit.serving_pop3.pop3_talk import mailboxes, pop_rig


@pytest.mark.parametrize("name", ["ann\r\n+OK", "ann\x1b[2J", "ann\u202e"])
async def test_I2_nobody_is_named_by_what_cant_be_shown(name):
    @on("pop-login")
    async def names(event):
        return v.Identity(name)

    kept = await mailboxes(user=name)
    async with pop_rig(kept, names) as rig:
        client = rig.pick_up()
        await client.reply()
        await client.command("USER ann@example.org")
        assert (await client.command("PASS x")).startswith("-ERR [SYS/TEMP]")
        assert rig.last_session.user is None and not rig.records.kinds("login")
        assert (await client.command("STAT")).startswith("-ERR log in first")
        [facts] = rig.records.kinds("auth")
        assert facts["user"].isprintable() and facts["failed"].isprintable()
