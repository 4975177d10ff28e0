"""A shared database is opened by several processes at the same moment."""

import subprocess
import sys

_OPEN = """
import asyncio, os, sys, time
from pathlib import Path
from gatepost.store.files import RealFiles
from gatepost.store.ledger import open_ledger
from gatepost.store.registry import Registry
folder = Path(sys.argv[1])

async def main():
    ledger = await open_ledger(folder / "ledger.db", RealFiles(), time.time)
    await ledger.put("space", str(os.getpid()), 1, 60)
    await ledger.close()
    Registry(folder / "users.db", os.urandom).close()

asyncio.run(main())
"""


def test_many_processes_open_new_databases_at_once(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", _OPEN, str(tmp_path)]) for _ in range(6)]
    assert [process.wait(timeout=30) for process in processes] == [0] * 6
