"""Each walk's dialogue is held with a real server, line by line, and its explanation compared with the real one.

`smtp` blocks are the session (C: the client, S: Gatepost), `python` blocks its plugins, an `inner` block is what
Gatepost (G:) and the next server (I:) say to each other, an `explain` block what is told afterwards.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from gatepost.admin.telling import explain
from gatepost.app.gates import hop
from gatepost.app.next_server import HandOvers
from gatepost.app.settings import Settings
from gatepost.delivery import Contexts, Destinations, Dialer
from gatepost.net.certificates import client_context
from gatepost.plugins.python import load
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.testing.line import Client
from gatepost.testing.rig import ANYONE, Rig
from unit.docs.pages import WALKS, blocks, normalised, prose

Turn = tuple[str, list[str]]


def turns(text: str) -> Iterator[Turn]:
    """(who, what they say) for each turn of a dialogue."""
    lines = [(line[:2], line[3:]) for line in text.splitlines() if line.strip()]
    for who, said in groupby(lines, key=lambda one: one[0]):
        assert re.fullmatch("[A-Z]:", who), f"who says {who!r}?"
        yield who[0], [line for _, line in said]


async def hold(client: Client, dialogue: list[Turn]) -> None:
    """Say the client's lines; hear exactly the server's."""
    for who, lines in dialogue:
        if who == "C":
            client.send("".join(f"{line}\r\n" for line in lines).encode())
            continue
        heard: list[str] = []
        while len(heard) < len(lines):
            reply = await client.reply()
            assert reply, f"hung up; expected {lines}"
            heard += reply.split("\n")
        assert normalised("\n".join(heard)) == normalised("\n".join(lines))


class Inner:
    """The next server: says its lines, each when its turn comes, and keeps the conversation as it really was."""

    def __init__(self, dialogue: list[Turn]) -> None:
        self._answers = ["\r\n".join(lines) for who, lines in dialogue if who == "I"]
        self._server: asyncio.Server | None = None
        self.heard: list[str] = []

    async def __aenter__(self) -> Inner:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while self._answers:
                answer = self._answers.pop(0)
                self.heard += [f"I: {line}" for line in answer.split("\r\n")]
                writer.write(answer.encode() + b"\r\n")
                lines = [await _line(reader)]
                while answer.startswith("354") and lines[-1] != ".":
                    lines.append(await _line(reader))
                self.heard += [f"G: {line}" for line in lines]
        writer.close()


async def _line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n")).decode().removesuffix("\r\n")


@dataclass(frozen=True)
class Walked:
    """What has come of a walk: its explanation, how many entries the spool has, what the next server heard."""

    explanation: str
    kept: int
    inner: list[str]


async def walk(page: Path, folder: Path) -> Walked:
    """Hold a page's dialogue with a server that has its plugins, on a spool in `folder`."""
    plugins = []
    for number, block in enumerate(blocks(page, "python")):
        name = re.match(r"# (\w+)\.py", block.text)
        file = folder / f"{name[1] if name else number}.py"
        file.write_text(block.text)
        plugins.append(load(file))
    between = [turn for block in blocks(page, "inner") for turn in turns(block.text)]
    dialogue = [turn for block in blocks(page, "smtp") for turn in turns(block.text)]
    assert dialogue
    async with Inner(between) as inner:
        gates, destinations = _before(inner.port) if between else (ANYONE, None)
        spool = await open_shard(folder / "shard", RealFiles(), time.time)
        settings = Settings.in_memory(hostname="mx.example.org")
        async with Rig(plugins, settings=settings, gates=gates, spool=spool) as rig:
            client = rig.connect("203.0.113.9")
            await hold(client, dialogue)
            client.line.end_of_file()
            await rig.settled()
            kept = len(await rig.spool.entries())
            now = int(time.time() * 1000)
            told = explain([(now, token, kind, facts) for token, kind, facts in rig.records.entries])
        if destinations is not None:
            await destinations.close()
    assert told is not None
    return Walked(told.text(), kept, inner.heard)


@pytest.mark.parametrize("page", WALKS, ids=lambda page: page.stem)
async def test_the_walk_happens_as_it_is_told(page, tmp_path):
    walked = await walk(page, tmp_path)
    [kept] = re.findall(r"^In the spool afterwards: (nothing|one entry)\.", prose(page), re.MULTILINE)
    assert walked.kept == {"nothing": 0, "one entry": 1}[kept]
    [explained] = blocks(page, "explain")
    assert normalised(walked.explanation) == normalised(explained.text.partition("\n")[2])
    written = "".join(block.text for block in blocks(page, "inner"))
    assert normalised("\n".join(walked.inner)) == normalised(written)


def _before(port: int) -> tuple[list[Gate], Destinations]:
    """The gate and the connections of a route that hands over to a server on this port."""
    route = {"match": "*@example.org", "deliver": f"relay 127.0.0.1:{port}", "handover": "before-reply"}
    [route_settings] = Settings.in_memory(hostname="mx.example.org", route=[route]).route
    contexts = Contexts(offered=client_context(verify=False), required=client_context(verify=True))
    destinations = Destinations(Dialer("mx.example.org", contexts=contexts))
    exists, hand_over = HandOvers(destinations).pair(hop(route_settings))
    return [Gate("*@example.org", OpenTo.ANYONE, exists=exists, hand_over=hand_over, to="10.0.0.5:25")], destinations
