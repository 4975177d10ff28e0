"""Processes that are measured: started, asked for their CPU time and memory, ended."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STARTED_S = 20.0


class NotMeasured(Exception):
    """Something needed isn't there, or didn't do what was asked of it."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running server, with whatever processes it starts."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """Seconds of CPU that it and its children have used so far."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))

    def resident(self) -> int:
        """Octets of memory it holds, without its children."""
        return _memory(self.pid, "VmRSS")

    def peak(self) -> int:
        """The most it has held since `forget_peak`."""
        return _memory(self.pid, "VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def gatepost(*options: str) -> Iterator[Process]:
    """bench/server.py with these options, and a data folder that is removed afterwards."""
    data = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
    script = Path(__file__).with_name("server.py")
    server = subprocess.Popen(
        [sys.executable, str(script), *options, "--data", str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        line = server.stdout.readline()
        if not line.strip().isdigit():
            raise NotMeasured(f"{' '.join(options)} didn't start")
        yield Process(server.pid, int(line))
    finally:
        server.stdin.close()
        end(server)
        server.stdout.close()
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def sink() -> Iterator[Process]:
    """Postfix's smtp-sink, which keeps nothing."""
    port = free_port()
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    server = subprocess.Popen([program("smtp-sink"), *user, f"127.0.0.1:{port}", "512"])
    try:
        wait_for(port)
        yield Process(server.pid, port)
    finally:
        server.terminate()
        end(server)


def program(name: str) -> str:
    """Where a program of Postfix is."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise NotMeasured(f"{name} isn't installed; it comes with Debian's postfix")
    return found


def end(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    until = time.monotonic() + _STARTED_S
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NotMeasured("smtp-sink didn't start")


def _family(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) * _TICK_S


def _memory(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise NotMeasured(f"there is no {key} here")
    return int(found[1]) * 1024
