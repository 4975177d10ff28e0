"""What real clients need around a running server: settings, certificates, users, and the Maildirs to look in.

Strategy: a test names the lines of settings that matter to it; host name, data folder, certificates (two, for SNI) and
a user with a password are always there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from house.server_process import LOOPBACK, READY_S, ServerProcess, eventually

HOST = "mx.example.org"
OTHER_HOST = "mail.firma.example"
USER = "ann@example.org"
PASSWORD = "correct horse: battery"
LOCAL = """
[[route]]
match = "*@example.org"
deliver = "maildir"
"""
_TOP = """
hostname = "{host}"
data = "data"
workers = {workers}
[delivery]
{delivery}
[[tls.certificate]]
chain = "mx.pem"
key = "mx.key"
[[tls.certificate]]
chain = "other.pem"
key = "other.key"
"""


def listener(name: str, protocol: str = "smtp", **more: object) -> str:
    """One listener's table, on a free port of loopback."""
    keys = {"name": name, "protocol": protocol, "address": "127.0.0.1:0", **more}
    return "[[listen]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


class Premises:
    """A folder with settings and everything they name; `running` starts and ends a server on it."""

    def __init__(self, folder: Path, *settings: str, workers: int = 1, delivery: str = 'first = "1s"') -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        for name, hosts in ("mx", (HOST, LOOPBACK)), ("other", (OTHER_HOST,)):
            certificate = authority.issue_cert(*hosts, common_name=hosts[0])
            certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
            certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        self.settings = folder / "gatepost.toml"
        self.settings.write_text(_TOP.format(host=HOST, workers=workers, delivery=delivery) + "".join(settings))
        self.server: ServerProcess
        self._add(USER, "--alias", "anne@example.org", "--send-as", "*@sales.example.org")
        for name in "bob", "eve":
            self._add(f"{name}@example.org", "--no-password")

    def _add(self, name: str, *options: str) -> None:
        if "--no-password" not in options:
            options = (*options, "--password-stdin")
        added = subprocess.run(
            [sys.executable, "-m", "gatepost", "user", "add", name, *options],
            cwd=self.folder,
            input=PASSWORD + "\n",
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )
        assert added.returncode == 0, added

    @contextmanager
    def running(self) -> Iterator[Premises]:
        """`gatepost run`; told to stop at the end, and it must then end well."""
        with ServerProcess(self.folder, "run") as server:
            self.server = server
            yield self
            assert server.stop() == 0, server.log
        assert "Traceback" not in server.log, server.log

    def port(self, name: str) -> int:
        """A listener's."""
        found = re.search(rf"^(?:listening)?\s+{name}\s+127\.0\.0\.1:(\d+) ", self.server.banner, re.MULTILINE)
        assert found, self.server.banner
        return int(found[1])

    def box(self, user: str = USER) -> Path:
        """The Maildir of a user of example.org."""
        return self.folder / "data" / "mail" / "example.org" / user.partition("@")[0]

    def mail(self, mark: str, user: str = USER) -> list[bytes]:
        """The delivered messages with a mark somewhere in them."""
        found = (path.read_bytes() for path in sorted(self.box(user).glob("new/*")))
        return [content for content in found if mark.encode() in content]

    def delivered(self, mark: str, user: str = USER) -> bytes:
        """The one message with this mark, when it has come."""
        eventually(lambda: self.mail(mark, user))
        [content] = self.mail(mark, user)
        return content

    def ask(self, *arguments: str, code: int = 0) -> str:
        """What a command beside the server says."""
        done = self.server.ask(*arguments)
        assert done.returncode == code, done
        return done.stdout


def fresh_mark() -> str:
    """A word that stands in no other message."""
    return f"mark{time.monotonic_ns()}"


def message(
    mark: str, *, to: str = USER, sender: str = "dave@bobo.example", body: str = "hello\r\n.\r\n..dots\r\n"
) -> str:
    """A small message with its mark in the Subject and a body that needs dot-stuffing."""
    return f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {mark}\r\n\r\n{body}"


def run_client(*command: str | Path, code: int = 0, stdin: str = "") -> str:
    """A mail client as a process; everything it said."""
    done = subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
