"""The channel between supervisor and worker: answers find their questions, death is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from gatepost.admin.queue import ActionError
from gatepost.app.channel import Gone, Serving, Supervising


async def both(beats: list[Mapping[str, Any]]) -> tuple[Supervising, Serving]:
    ours, theirs = socket.socketpair()
    supervising = Supervising(beats.append)
    await supervising.open(ours)
    return supervising, await Serving.open(theirs)


async def test_answers_come_in_any_order_and_errors_keep_their_words() -> None:
    release = asyncio.Event()

    async def handle(action: str, arguments: Mapping[str, Any]) -> Any:
        match action:
            case "slow":
                await release.wait()
                return "slow"
            case "quick":
                release.set()
                return [arguments["n"]]
            case "wrong":
                raise ActionError("there is no such thing", "look elsewhere", 78)
            case _:
                raise RuntimeError("a bug")

    beats: list[Mapping[str, Any]] = []
    supervising, serving = await both(beats)
    serve = asyncio.create_task(serving.serve(handle))
    slow = asyncio.create_task(supervising.ask("slow"))
    assert await supervising.ask("quick", {"n": 7}) == [7]
    assert await slow == "slow"
    with pytest.raises(ActionError, match="no such thing") as told:
        await supervising.ask("wrong")
    assert (told.value.mend, told.value.code) == ("look elsewhere", 78)
    with pytest.raises(ActionError, match="RuntimeError: a bug"):
        await supervising.ask("bug")
    serving.alive({"sessions": 3})
    assert await supervising.ask("quick", {"n": 8}) == [8]
    assert beats == [{"sessions": 3}]
    await supervising.close()
    await serve
    await serving.close()


async def test_whoever_waits_hears_of_a_death() -> None:
    supervising, serving = await both([])
    asking = asyncio.create_task(supervising.ask("anything"))
    await asyncio.sleep(0)
    await serving.close()
    with pytest.raises(Gone):
        await asking
    with pytest.raises(Gone):
        await supervising.ask("more")
    await supervising.close()


async def test_a_question_ends_with_its_time() -> None:
    supervising, serving = await both([])
    with pytest.raises(Gone, match="no answer to anything within"):
        await supervising.ask("anything", timeout_s=0.01)
    await serving.close()
    await supervising.close()


async def test_the_worker_hears_that_the_supervisor_is_gone() -> None:
    async def handle(_: str, __: Mapping[str, Any]) -> None:
        return None

    supervising, serving = await both([])
    serve = asyncio.create_task(serving.serve(handle))
    await supervising.close()
    await asyncio.wait_for(serve, 5)
    serving.alive({})  # said to nobody
    await serving.close()
