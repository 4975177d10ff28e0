"""Next servers to relay to: aiosmtpd in a thread, which keeps what it is told, and Postfix's smtp-sink."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from house.server_process import LOOPBACK, eventually
from programs import program


@dataclass
class NextServer:
    """What an inner server knows and was told. `knows`: recipients; empty means everybody. `says`: by verb, once;
    `says_of`: by recipient, at the end of data by LMTP, always.
    """

    port: int = 0
    knows: set[str] = field(default_factory=set)
    says: dict[str, str] = field(default_factory=dict)
    says_of: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    taken: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    taken_at: list[float] = field(default_factory=list)

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        self.asked.append(address)
        if self.knows and address not in self.knows:
            return "550 5.1.1 the inner server knows nobody of that name"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return self.says.pop("RCPT", "250 2.1.5 known inside")

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:
        said = self.says.pop("DATA", "250 2.0.0 taken inside")
        if said.startswith("250"):
            self.taken_at.append(time.monotonic())
            self.taken.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.original_content))
        each = [self.says_of.get(one, said) for one in envelope.rcpt_tos]
        return "\r\n".join(each) if isinstance(server, LMTP) else said

    def with_mark(self, mark: str) -> list[tuple[str, list[str], bytes]]:
        """What was taken with a mark somewhere in it."""
        return [one for one in self.taken if mark.encode() in one[2]]


@contextmanager
def next_server(*, lmtp: bool = False, path: Path | None = None) -> Iterator[NextServer]:
    """aiosmtpd on a free port of loopback, or at a local socket."""
    known = NextServer()
    kind = LMTP if lmtp else SMTP

    def protocol() -> SMTP:
        return kind(known, hostname="inner.example", enable_SMTPUTF8=True, loop=loop)

    async def begin() -> asyncio.Server:
        if path is not None:
            return await loop.create_unix_server(protocol, path)
        return await loop.create_server(protocol, LOOPBACK, 0)

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="next server")
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
        if path is None:
            known.port = server.sockets[0].getsockname()[1]
        yield known
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Sink:
    """A running smtp-sink: every message it has taken is a file in its folder."""

    port: int
    folder: Path

    def taken(self) -> list[bytes]:
        return [path.read_bytes() for path in self.folder.iterdir()]


@contextmanager
def smtp_sink(*options: str) -> Iterator[Sink]:
    """smtp-sink on a free port. It won't write as root, so its folder lies where another user may go."""
    with tempfile.TemporaryDirectory(prefix="smtp-sink-") as made:
        command = [program("smtp-sink"), *options, "-d", f"{made}/%M."]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(made, nobody.pw_uid, nobody.pw_gid)
            command += ["-u", "nobody"]
        port = free_port()
        sink = subprocess.Popen([*command, f"{LOOPBACK}:{port}", "128"], stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: sink.poll() is not None or listens(port))
            assert sink.poll() is None, sink.stderr.read()
            yield Sink(port, Path(made))
        finally:
            sink.kill()
            sink.wait()
            sink.stderr.close()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


def free_port() -> int:
    """A port where nobody listens now."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return held.getsockname()[1]
