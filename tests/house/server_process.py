"""A real `gatepost` in a process of its own, on loopback, for tests: started, asked, and ended whatever happens."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY_S = 30.0
LOOPBACK = "127.0.0.1"


def gatepost(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gatepost", *arguments],
        cwd=folder,
        env=_environment(env),
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GATEPOST")}
    return {**kept, **(more or {})}


class ServerProcess:
    """`gatepost run` and its workers. Left with the context, it has ended."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.banner = ""
        self._command = command or [sys.executable, "-m", "gatepost", *options]
        self._env = _environment(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    @property
    def log(self) -> str:
        """What it has said on standard error so far."""
        return (self.folder / "log").read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        """The first listener's, from the banner."""
        found = re.search(r"^listening .*?:(\d+) ", self.banner, re.MULTILINE)
        assert found, self.banner
        return int(found[1])

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def __enter__(self) -> ServerProcess:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._env, stdout=subprocess.PIPE, stderr=log
            )
        self._read_banner()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.__exit__()
        process = self.process
        if process.poll() is None:
            workers = self.workers()
            process.kill()
            process.wait()
            for worker in workers.values():
                _kill(worker)
        assert process.stdout is not None
        process.stdout.close()

    def _read_banner(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        until = time.monotonic() + READY_S
        told = b""
        while not re.search(rb"^try it .*\n", told, re.MULTILINE):
            readable, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            data = os.read(stream.fileno(), 65536) if readable else b""
            if not data:
                self.__exit__()
                raise AssertionError(f"no banner:\n{told.decode()}\n{self.log}")
            told += data
        self.banner = told.decode()

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command beside the server, with its settings."""
        return gatepost(self.folder, *arguments, env=self._env)

    def workers(self) -> dict[int, int]:
        """The process id of each worker, by its number."""
        found: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parts = (entry / "cmdline").read_bytes().split(b"\0")
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError):
                    continue
                if parent == self.process.pid and b"gatepost.app.worker_process" in parts:
                    found[int(parts[-2].rpartition(b"-")[2])] = int(entry.name)
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; its exit code once it has ended."""
        self.process.send_signal(number)
        return self.process.wait(READY_S)

    def connect(self) -> Client:
        """A client of the first listener; ended with the server at the latest."""
        client = Client(self.port)
        self._clients.append(client)
        return client


class Client:
    """A client that speaks line by line, and can stop anywhere."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), READY_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self) -> str:
        """The next reply's last line; "" at the end of the connection."""
        while (line := self._file.readline()) and line[3:4] == b"-":
            pass
        return line.decode().rstrip()

    def is_answered(self, within_s: float) -> bool:
        """Whether something was heard, without reading it."""
        return bool(select.select([self._socket], [], [], within_s)[0])

    def ends(self) -> bool:
        """Whether the connection ends, whatever is said before."""
        try:
            while self._file.readline():
                pass
        except ConnectionResetError:
            pass
        return True

    def say(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def begin_message(self, *to: str) -> None:
        """Up to the 354."""
        assert self.reply().startswith("220 ")
        assert self.say("EHLO client.example").startswith("250")
        assert self.say("MAIL FROM:<dave@bobo.example>").startswith("250")
        for recipient in to:
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250"), recipient
        assert self.say("DATA").startswith("354")


def eventually(what: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """The first true value; asked again and again within the time."""
    until = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < until, f"not within {timeout_s:g} s"
        select.select([], [], [], 0.05)
    return value


def mail_in(data: Path) -> list[Path]:
    """Every message in every Maildir."""
    return sorted((data / "mail").glob("**/new/*"))


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return
