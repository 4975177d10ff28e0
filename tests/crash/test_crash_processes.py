"""Real processes killed while mail goes through them, at random moments and at chosen steps of what they write.

Every message answered 250 must be found afterwards, once in each Maildir and at least once at the next server; none is
half there. CRASH_KILLS sets how many kills there are (24).
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.load import SETTINGS, Load, drain, settle_accounts
from house.peers import NextServer, next_server
from house.server_process import ServerProcess, eventually

KILLS = int(os.environ.get("CRASH_KILLS", "24"))
MORTAL = str(Path(__file__).with_name("mortal_server.py"))


@pytest.fixture
def peer() -> Iterator[NextServer]:
    with next_server() as server:
        yield server


def kill_everything(server: ServerProcess) -> None:
    """As if the machine had lost its processes: the supervisor first, so that nobody can be told."""
    everybody = [server.process.pid, *server.workers().values()]
    for process in everybody:
        os.kill(process, signal.SIGKILL)
    server.process.wait()


@pytest.mark.timeout(600)
def test_killed_at_random_moments_under_load(tmp_path: Path, peer: NextServer) -> None:
    chance = random.Random(os.environ.get("CRASH_SEED", "1"))
    load = Load()
    (tmp_path / "gatepost.toml").write_text(SETTINGS.format(workers=2, port=peer.port))
    while len(load.kills) < KILLS // 2:
        with ServerProcess(tmp_path, "run") as server:
            load.begin(server.port)
            for alone in True, True, False:
                promised = len(load.promised) + chance.randrange(1, 40)
                eventually(lambda enough=promised: len(load.promised) >= enough, 30)
                if alone:  # the supervisor makes another one
                    os.kill(chance.choice(sorted(eventually(server.workers).values())), signal.SIGKILL)
                else:
                    kill_everything(server)
                load.kills.append(time.monotonic())
            load.end()
    with ServerProcess(tmp_path, "run") as server:
        drain(tmp_path)
        assert server.stop() == 0
    print("\n" + settle_accounts(load, tmp_path, peer))
    assert len(load.promised) > len(load.kills)
    assert "set aside" not in server.log


@pytest.mark.timeout(600)
def test_killed_at_chosen_steps_of_what_it_writes(tmp_path: Path, peer: NextServer) -> None:
    """One kill for each start."""
    load = Load()
    (tmp_path / "gatepost.toml").write_text(SETTINGS.format(workers=1, port=peer.port))
    for at in steps(KILLS):
        server = ServerProcess(tmp_path, command=[sys.executable, MORTAL, "run"], env={"DIE_AT": str(at)})
        try:
            server.__enter__()
        except AssertionError:
            assert server.process.returncode == -signal.SIGKILL, server.log  # while it was opening what was left
        else:
            load.begin(server.port)
            assert server.process.wait(30) == -signal.SIGKILL
            load.end()
            server.__exit__()
        load.kills.append(time.monotonic())
    with ServerProcess(tmp_path, "run") as server:
        drain(tmp_path)
        assert server.stop() == 0
    died_at = Counter(re.findall(r"^died at (\w+) ", server.log, re.MULTILINE))
    print("\n" + settle_accounts(load, tmp_path, peer) + f"; {dict(died_at)}")
    assert died_at.total() == KILLS
    assert (
        len(died_at.keys() & {"write", "sync", "sync_dir", "rename"}) >= 3
    )  # which comes at which step, the load says
    assert "set aside" not in server.log


def steps(count: int) -> Iterator[int]:
    """Spread over what it writes first: to open what was left, to accept, commit and deliver. From 120 kills, all."""
    span = max(count, 120)
    for number in range(count):
        yield 1 + number * span // count
