"""How often garbage is collected: seldom in a process of ours, as before in a program that embeds a server."""

from __future__ import annotations

import gc
import subprocess
import sys

from gatepost import Server

SCRIPT = """
import gc
from gatepost.app.running import collect_seldom
before = gc.get_threshold()
collect_seldom()
after = gc.get_threshold()
print(after[0] > before[0], gc.isenabled(), gc.get_freeze_count() > 0)
"""


def test_a_process_of_ours_collects_seldom_but_collects() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.split() == ["True", "True", "True"]


async def test_an_embedded_server_leaves_the_programs_collections_alone() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    async with Server():
        assert (gc.get_threshold(), gc.get_freeze_count()) == before
