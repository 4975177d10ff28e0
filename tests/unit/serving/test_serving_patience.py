"""A hook whose time is over: nothing that it still holds may harm its session."""

import asyncio
import contextlib

import pytest

from gatepost.hooks.api import on, refuse
from gatepost.serving import patience as patience_module
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins


async def overrun(hook, moment):
    """A session asks the hook, goes on at once, and is there when all that the hook held has had its moment."""
    async with Rig(plugins(hook)) as rig:
        client = rig.connect()
        await greet(client)
        async with asyncio.timeout(2):
            said = (await envelope(client))[0]
            await moment.wait()
            await asyncio.sleep(0.02)
            assert await client.command("NOOP") == "250 2.0.0 ok"
            assert (await client.command("RCPT TO:<c@d.example>"))[:3] == ("250" if said[:3] == "250" else "503")
        return said


async def test_a_timeout_in_a_hooks_cleaning_up_is_the_hooks_own():
    cleaned = asyncio.Event()

    @on("sender", timeout=0.01, on_failure="proceed")
    async def hook(event):
        try:
            await asyncio.sleep(10)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await asyncio.sleep(10)
            cleaned.set()

    assert (await overrun(hook, cleaned)).startswith("250")


async def test_a_timeout_that_a_hook_began_in_time_and_that_rings_too_late_is_the_hooks_own():
    rung = asyncio.Event()

    @on("sender", timeout=0.01)
    async def hook(event):
        asyncio.get_running_loop().call_later(0.04, rung.set)
        async with asyncio.timeout(0.03):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(10)

    assert (await overrun(hook, rung)).startswith("451")


async def test_a_task_group_that_fails_too_late_is_the_hooks_own():
    failed = asyncio.Event()

    async def child():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            failed.set()
            raise ValueError from None

    @on("sender", timeout=0.01)
    async def hook(event):
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(10)

    assert (await overrun(hook, failed)).startswith("451")


async def test_within_its_time_a_hook_may_use_timeouts_and_groups():
    @on("message")
    async def hook(event):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        async with asyncio.TaskGroup() as group:
            five = group.create_task(asyncio.sleep(0, 5))
        return refuse(f"it is {five.result()}")

    async with Rig(plugins(hook)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        assert "it is 5" in await content(client)


async def test_S6_a_session_that_has_left_its_task_to_a_hook_still_ends_when_the_client_vanishes():
    ended = []

    @on("sender", timeout=0.01, on_failure="proceed")
    async def stubborn(event):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    @on("recipient")
    async def waits(event):
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(event.recipient.address)

    async with Rig(plugins(stubborn, waits)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client)
        client.send(b"RCPT TO:<c@d.example>\r\n")
        await asyncio.sleep(0.01)
        client.line.lose()
        async with asyncio.timeout(1):
            await asyncio.gather(*rig._sessions)
        assert ended == ["c@d.example"]
        assert rig.records.kinds("end")[0]["how"] == "lost"


async def test_closing_the_house_doesnt_wait_for_stubborn_hooks():
    @on("sender", timeout=0.01, on_failure="proceed")
    async def stubborn(event):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    rig = Rig(plugins(stubborn))
    await rig.open()
    client = rig.connect()
    await greet(client)
    assert (await envelope(client))[0].startswith("250")
    async with asyncio.timeout(patience_module.GRACE_S / 2):
        await rig.close()


@pytest.mark.parametrize("answer", ["at the first step", "later"])
@pytest.mark.parametrize("error", [SystemExit, StopIteration, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_hook_raises_is_a_failure(answer, error):
    @on("sender")
    async def hook(event):
        if answer == "later":
            await asyncio.sleep(0)
        raise error

    async with Rig(plugins(hook)) as rig:
        client = rig.connect()
        await greet(client)
        async with asyncio.timeout(1):
            assert (await envelope(client))[0].startswith("451")
            assert (await client.command("NOOP")).startswith("250")
