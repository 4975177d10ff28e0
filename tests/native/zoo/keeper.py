"""What the tests of the zoo share: a real worker with sockets, disk and Maildirs, its senders, what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from gatepost.app.settings import load as load_settings
from gatepost.app.worker import Worker
from gatepost.hooks.breaker import Breaker
from gatepost.plugins.loaded import Loaded
from native.zoo.clients import body
from programs import program

HERE = Path(__file__).parent
NATIVE = HERE.parents[2] / "native"
LONGEST_S = 30.0
MANY = 10**6


def compiled(folder: Path, *defined: str) -> Path:
    """animals.c as a library."""
    output = folder / f"animals{'-'.join(defined)}.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-I{NATIVE}", *(f"-D{each}" for each in defined)]
    subprocess.run([program("cc"), *flags, str(HERE / "animals.c"), "-o", str(output)], check=True)
    return output


class Keeper:
    """A worker with its plugins. `mark` is in the environment of every process that plugins have."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.mark = uuid.uuid4().hex
        self.env = {"ZOO_MARK": self.mark}
        self.port = 0
        self.errors: list[BaseException] = []

    @asynccontextmanager
    async def open(self, plugins: list[Loaded]):
        limits = {"errors": MANY, "junk_commands": MANY, "transactions_per_session": MANY}
        settings = load_settings(
            None,
            environ={},
            overrides={
                "hostname": "mx.example.org",
                "data": str(self.data),
                "listen": [{"name": "zoo", "address": "127.0.0.1:0"}],
                "limits": limits,
                "route": [{"match": "*", "deliver": "maildir", "for": "anyone", "recipients": "any"}],
            },
        )
        worker = Worker(settings, plugins=plugins, on_error=self.errors.append)
        await worker.start()
        try:
            self.port = worker.listeners["zoo"].address[1]
            yield worker
        finally:
            await worker.stop(LONGEST_S)

    async def serve(self, sessions: list[dict], *, seconds: float, seed: int) -> list[dict]:
        """What these senders tell; see clients.py."""
        plan = {"port": self.port, "seconds": seconds, "seed": seed, "sessions": sessions}
        senders = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "clients.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        told, _ = await senders.communicate(json.dumps(plan).encode())
        assert senders.returncode == 0
        return json.loads(told)

    def stored(self) -> dict[str, list[bytes]]:
        """The Maildirs' messages by the id in their subject, with CRLF."""
        found: dict[str, list[bytes]] = {}
        for file in self.data.glob("mail/*/*/*/*"):
            if file.parent.name in ("new", "cur"):
                content = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                head = content.partition(b"\r\n\r\n")[0]
                [subject] = [line[9:] for line in head.split(b"\r\n") if line.startswith(b"Subject: ")]
                found.setdefault(subject.decode(), []).append(content)
        return found

    async def delivered(self, ids: set[str]) -> dict[str, list[bytes]]:
        """`stored`, once all of these are there, or when it has taken too long."""
        until = asyncio.get_running_loop().time() + LONGEST_S
        while not ids <= (found := self.stored()).keys() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.1)
        return found

    async def left(self) -> list[str]:
        """The command lines of processes that were plugins' and haven't ended, once they have had time to."""
        until = asyncio.get_running_loop().time() + 5.0
        while (found := self._left()) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)
        return found

    def _left(self) -> list[str]:
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    if self.mark.encode() in (process / "environ").read_bytes():
                        found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    pass
        return found


def untiring(loaded: Loaded) -> Loaded:
    """Its breaker never opens: the animals are asked to the very end."""
    breaker = Breaker(failures=MANY)
    loaded.bindings = [replace(binding, breaker=breaker) for binding in loaded.bindings]
    return loaded


def check_nothing_lost(told: list[dict], stored: dict[str, list[bytes]]) -> int:
    """Every 250 is stored exactly once and whole, and nothing else is stored. How many there are."""
    accepted = {mail["id"] for session in told for mail in session["mails"] if mail["accepted"]}
    assert accepted == stored.keys()
    for id, copies in stored.items():
        assert len(copies) == 1, id
        assert copies[0].endswith(b"\r\n\r\n" + body(id).encode()), id
    return len(accepted)


def check_nothing_stuck(told: list[dict]) -> None:
    """Every session has ended as it should, and every command has heard a reply."""
    assert [session["why"] for session in told if not session["ended"]] == []
    for session in told:
        for mail in session["mails"]:
            assert all(reply[:3].isdigit() and reply[:1] in "2345" for reply in mail["replies"]), mail
