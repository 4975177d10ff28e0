"""What mail meets on its way out: Exim, name servers, proxies and scripted servers, each beside the test.

Strategy: what is written with asyncio runs in a thread with a loop of its own, so that tests are plain functions beside
whole processes; a server of the system has a folder, a configuration and a process of its own.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import trustme

from contract.report_grammar import check_report
from house.peers import free_port, listens
from house.premises import Premises
from house.server_process import LOOPBACK, eventually
from programs import program
from unit.delivery.delivery_peer import Peer, Script
from unit.net.name_server import NameServer, Zone
from unit.net.name_server import name_server as resolving
from unit.net.proxy_peer import ProxyPeer, running

T = TypeVar("T")


@contextmanager
def in_a_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What an asynchronous context gives, in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="peer")
    thread.start()
    stack = AsyncExitStack()
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(make()), loop).result(10)
    finally:
        try:
            asyncio.run_coroutine_threadsafe(_end(stack), loop).result(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _end(stack: AsyncExitStack) -> None:
    await stack.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def name_server(zone: Zone) -> Iterator[NameServer]:
    """A name server with a scripted zone. `asking` has the settings of who asks it."""

    @asynccontextmanager
    async def begun() -> Any:
        async with resolving(zone) as (_, server):
            yield server

    with in_a_thread(begun) as server:
        yield server


def asking(server: NameServer) -> str:
    """The settings for names looked up there."""
    return f'[dns]\nservers = ["{LOOPBACK}:{server.port}"]\n'


def scripted(*scripts: Script, **options: Any) -> AbstractContextManager[Peer]:
    """A server that says what it is told to."""
    return in_a_thread(lambda: Peer(*scripts, **options))


def proxy(peer: ProxyPeer) -> AbstractContextManager[ProxyPeer]:
    """A proxy that listens."""
    return in_a_thread(lambda: running(peer))


def route(domain: str, deliver: str, **more: object) -> str:
    """A route for everybody's mail to any recipient of a domain; `deliver` is a TOML value."""
    keys = {"match": f"*@{domain}", "for": "anyone", "recipients": "any", **more}
    return f"[[route]]\ndeliver = {deliver}\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


def relay(domain: str, port: int, more: str = "") -> str:
    """The same, to a server on loopback; `more` are further keys of deliver."""
    return route(domain, f'{{ by = "relay", hosts = ["{LOOPBACK}:{port}"]{more and ", "}{more} }}')


def certificate(folder: Path, *hosts: str, authority: trustme.CA | None = None) -> tuple[Path, Path]:
    """A certificate of a test authority for these names, and its key, as files that other users may read."""
    issued = (authority or trustme.CA()).issue_cert(*hosts, common_name=hosts[0])
    chain, key = folder / f"{hosts[0]}.pem", folder / f"{hosts[0]}.key"
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(chain))
    return chain, key


# ── reports ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Report:
    """A delivery status notification: the fields of the message, those of each recipient, and what came back."""

    message: EmailMessage
    about: dict[str, str]
    recipients: list[dict[str, str]]

    @property
    def text(self) -> str:
        [text, *_] = self.message.iter_parts()
        return text.get_content()

    @property
    def returned(self) -> EmailMessage:
        """The message or header section that came back."""
        part = list(self.message.iter_parts())[2]
        return part


def reports(premises: Premises, mark: str, user: str) -> list[Report]:
    """The reports in a user's Maildir about the message with this mark, each one held against RFC 3464's grammar."""
    found = []
    for content in premises.mail(mark, user):
        if b"report-type=" in content:
            message, (about, *recipients) = check_report(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
            found.append(Report(message, about, recipients))
    return found


# ── Exim ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_EXIM = """
primary_hostname = exim.example
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
pid_file_path = {folder}/exim.pid
log_selector = +all
keep_environment =
add_environment =
host_lookup =
rfc1413_query_timeout = 0s
queue_run_max = 0
tls_advertise_hosts = *
tls_certificate = {chain}
tls_privatekey = {key}
prdr_enable = true
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
allow_utf8_domains = true
accept_8bitmime = true
message_size_limit = {size}
deliver_drop_privilege = true
trusted_users = Debian-exim
acl_smtp_rcpt = recipient
acl_smtp_data = content
acl_smtp_data_prdr = single

begin acl
recipient:
  deny local_parts = nobody
       message = 5.1.1 no such user here
  defer local_parts = grey
        condition = ${{run{{/bin/mkdir {folder}/seen/grey}}{{yes}}{{no}}}}
        message = 4.7.1 greylisted, come back
  deny local_parts = called
       !verify = sender/callout=10s,defer_ok
       message = 5.1.7 your sender isn't known where its mail goes
  accept domains = *.exim.example
  deny message = 5.7.1 no relaying

content:
  deny condition = ${{if match{{$h_subject:}}{{distasteful}}}}
       message = 5.7.1 distasteful
  accept

single:
  deny local_parts = picky
       message = 5.7.1 not to the taste of this one
  accept

begin routers
out:
  driver = manualroute
  domains = !*.exim.example
  transport = back
  route_list = * 127.0.0.1::{back} byname
  self = send
box:
  driver = accept
  transport = box

begin transports
back:
  driver = smtp
  hosts_try_dane =
  hosts_try_fastopen =
box:
  driver = appendfile
  directory = {folder}/box
  maildir_format
  create_directory
  batch_max = 100
  envelope_to_add
  return_path_add
  user = Debian-exim

begin retry
* * F,1h,5s
"""


@dataclass(frozen=True)
class Exim:
    """A running Exim: what it has accepted for `*.exim.example` is in a Maildir."""

    port: int
    folder: Path

    def mail(self, mark: str) -> list[bytes]:
        found = (path.read_bytes() for path in sorted((self.folder / "box").glob("new/*")))
        return [content for content in found if mark.encode() in content]

    def log(self) -> str:
        return "".join(
            path.read_text("utf-8", "replace") for path in sorted((self.folder / "log").glob("*")) if path.is_file()
        )


@contextmanager
def exim(back: int, *, size: str = "1M") -> Iterator[Exim]:
    """Exim on a free port of loopback; mail for others, and its callouts, go to the port `back`. As root only."""
    with tempfile.TemporaryDirectory(prefix="exim-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in ("spool", "log", "seen", "box"):
            (folder / name).mkdir()
            shutil.chown(folder / name, "Debian-exim", "Debian-exim")
        port = free_port()
        chain, key = certificate(folder, "exim.example")
        shutil.chown(key, "Debian-exim")
        settings = folder / "exim.conf"
        settings.write_text(_EXIM.format(port=port, folder=folder, chain=chain, key=key, size=size, back=back))
        command = [program("exim4"), "-C", str(settings), "-bdf", "-q1h"]
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            eventually(lambda: daemon.poll() is not None or listens(port))
            assert daemon.poll() is None, daemon.stdout.read()
            yield Exim(port, folder)
        finally:
            daemon.terminate()
            daemon.wait(10)
            daemon.stdout.close()
