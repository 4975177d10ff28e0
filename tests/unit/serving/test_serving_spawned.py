"""Work that a plugin spawns beside its session ends by itself, whatever it raises."""

import sys

from gatepost.hooks.api import on
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig


async def test_spawned_work_that_exits_ends_nothing_else(caplog):
    async def leaves():
        sys.exit(3)

    @on("hello")
    async def hello(event):
        event.session.spawn(leaves())

    async with Rig([load(hello)]) as rig:
        client = rig.connect()
        await client.reply()
        assert (await client.command("EHLO x.example")).startswith("250")
        await rig.patience.idle()
        assert (await client.command("NOOP")).startswith("250")
    assert "work beside a session failed" in caplog.text


async def test_an_object_that_cannot_be_closed_keeps_no_other_from_it():
    from gatepost.hooks.session import Holder

    closed = []

    class Exits:
        def close(self):
            sys.exit(1)

    class Closes:
        def close(self):
            closed.append(self)

    holder = Holder()
    holder.get("first", Closes)
    holder.get("second", Exits)
    assert [type(error) for error in await holder.close()] == [SystemExit]
    assert len(closed) == 1


async def test_work_that_is_cancelled_before_it_begins_is_closed():
    begun = []

    async def work():
        begun.append(1)

    async with Rig() as rig:
        coroutine = rig.patience.spawn(work())
        coroutine.cancel()
        await rig.patience.idle()
    assert begun == []  # and no warning that it was never awaited, which would be an error here
