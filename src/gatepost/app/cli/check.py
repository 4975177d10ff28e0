"""`gatepost check`: judges the settings and looks at what is around them, before a server meets it.

Everything is looked at, nothing is changed but a probe file that is removed again. It connects to nobody but next
servers: those on loopback, and those that are asked about recipients, whom reception will ask too.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit

if TYPE_CHECKING:
    from gatepost.app.settings import Endpoint, Listener, Route, Settings

_FEW_DAYS = 21
_CONNECT_S = 2.0
_ANSWER_S = 5.0
_PRIVATE = 0o077


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at. Warnings don't keep a server from starting, failures do."""

    what: str
    state: Literal["ok", "warning", "failed"]
    text: str

    def __str__(self) -> str:
        mark = {"ok": "", "warning": "warning: ", "failed": "FAILED: "}[self.state]
        return f"{self.what:<12} {mark}{self.text}"


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list of what, state and text.")
@pass_frame
def command(frame: Frame, *, as_json: bool) -> int:
    """Check the settings and their surroundings: certificates, data folder, ports, next servers.

    Exit code 0 if a server can start (there may be warnings), else 78.
    """
    settings = frame.settings()
    looks = list(look_around(settings))
    failed = any(look.state == "failed" for look in looks)
    if as_json:
        rows = [{"what": look.what, "state": look.state, "text": look.text} for look in looks]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        for look in looks:
            if frame.verbosity >= 0 or look.state != "ok":
                click.echo(str(look))
    return Exit.CONFIGURATION if failed else Exit.OK


def look_around(settings: Settings) -> Iterator[Look]:
    """Everything there is to look at, in the order of the settings."""
    yield _settings(settings)
    if settings.data is not None:
        yield _data(settings.data, settings.spool.keep_free)
    if settings.run_as:
        yield _privileges(settings.run_as)
    for listener in settings.listen:
        yield _listener(listener)
    for certificate in settings.tls.certificate:
        yield _certificate(certificate.chain, certificate.key)
        if certificate.key.stat().st_mode & _PRIVATE:
            yield Look("key", "warning", f"{certificate.key} can be read by others; chmod 600 it")
    if not settings.route:
        yield Look("routes", "warning", "there is no [[route]], so every recipient but postmaster is refused")
    for route in settings.route:
        match = ", ".join(route.match)
        if route.deliver.socket:
            yield _local_socket(match, route.deliver.socket)
        for host in route.deliver.hosts:
            yield _next_server(match, host)
        if route.recipients == "ask":
            yield _knows_recipients(settings, route)
    if settings.plugin:
        yield _plugins(settings)


def _settings(settings: Settings) -> Look:
    counts = f"listeners {len(settings.listen)}, routes {len(settings.route)}, plugins {len(settings.plugin)}"
    if settings.file:
        return Look("settings", "ok", f"{settings.file}: {counts}")
    text = f"no file, the defaults apply: {counts}; first step: gatepost run, later: gatepost -c FILE check"
    return Look("settings", "ok", text)


def _data(folder: Path, keep_free: int) -> Look:
    """Whether a server could write there, or in the folder that it would be made in."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return Look("data", "failed", f"{place} can't be written to: {words}; give it to the server's user")
    made = "" if place == folder else ", will be made"
    text = f"{folder}{made}, {_amount(free)} free"
    if free < keep_free:
        return Look("data", "failed", f"{text}, less than keep_free; mail would be refused with 452")
    return Look("data", "ok", text)


def _privileges(run_as: str) -> Look:
    import grp
    import pwd

    user, _, group = run_as.partition(":")
    try:
        pwd.getpwnam(user)
        if group:
            grp.getgrnam(group)
    except KeyError:
        return Look("run_as", "failed", f'there is no user or group "{run_as}"; make it, or change run_as')
    if os.geteuid() != 0:
        return Look("run_as", "warning", f"only root can become {run_as}")
    return Look("run_as", "ok", run_as)


def _listener(listener: Listener) -> Look:
    what = f"listen {listener.name}"
    text = f"{listener.address} {listener.protocol}, tls {listener.tls}"
    host = "127.0.0.1" if listener.address.host == "localhost" else listener.address.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, listener.address.port))
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                return Look(what, "warning", f"{text}: somebody listens there, perhaps a running gatepost")
            case errno.EACCES:
                return Look(what, "warning", f"{text}: ports below 1024 need root, or CAP_NET_BIND_SERVICE")
            case _:
                words = (error.strerror or str(error)).lower()
                return Look(what, "failed", f"{text}: {words}; give an address of this machine")
    return Look(what, "ok", text)


def _certificate(chain: Path, key: Path) -> Look:
    from gatepost.net.certificates import Certificates, Pair

    [(name, end)] = Certificates([Pair(chain, key)]).expiry()
    days = (end - datetime.now(UTC)).days
    if days < 0:
        return Look("certificate", "failed", f"{name} ended on {end:%Y-%m-%d}; renew {chain}")
    return Look("certificate", "warning" if days < _FEW_DAYS else "ok", f"{name}, {days} days left")


def _local_socket(match: str, path: Path) -> Look:
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(str(path))
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return Look("route", "warning", f"{match} → {path}: {words}; mail would wait in the queue")
    return Look("route", "ok", f"{match} → {path}: somebody listens")


def _next_server(match: str, host: Endpoint) -> Look:
    """Only loopback is tried: a check disturbs nobody else's server."""
    try:
        is_here = host.host == "localhost" or ip_address(host.host).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        return Look("route", "ok", f"{match} → {host}, not tried")
    try:
        socket.create_connection((host.host, host.port), _CONNECT_S).close()
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return Look("route", "warning", f"{match} → {host}: {words}; mail would wait in the queue")
    return Look("route", "ok", f"{match} → {host}: somebody listens")


def _knows_recipients(settings: Settings, route: Route) -> Look:
    """Asks the route's next server about an address that can't exist, as reception would before its first question."""
    domain = next((one.rpartition("@")[2] for one in route.match if "*" not in one.rpartition("@")[2]), "")
    match = ", ".join(route.match)
    if not domain:
        return Look("recipients", "ok", f"{match}: asked at {route.deliver}; it will show with the first message")
    match asyncio.run(_accepts_everything(settings, route, domain)):
        case True:
            text = (
                f"{match}: {route.deliver} accepts every recipient, so asking it is useless; let it refuse unknown ones"
            )
            return Look("recipients", "warning", f'{text}, or use recipients = "file:…"')
        case False:
            return Look("recipients", "ok", f"{match}: {route.deliver} refuses unknown recipients")
        case _:
            return Look(
                "recipients", "warning", f"{match}: {route.deliver} didn't say who exists; mail is told to come again"
            )


async def _accepts_everything(settings: Settings, route: Route, domain: str) -> bool | None:
    from gatepost.app.gates import hop
    from gatepost.app.next_server import CallAhead
    from gatepost.app.worker import destinations
    from gatepost.store.ledger import MemoryLedger

    servers = destinations(settings)
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await CallAhead(servers, MemoryLedger(time.time), settings.hostname).accepts_everything(
                hop(route), domain
            )
    except TimeoutError:
        return None
    finally:
        await servers.close()


def _plugins(settings: Settings) -> Look:
    """Loads the plugins as a server would; none is opened."""
    from gatepost.app.dialects import load_plugins
    from gatepost.plugins.loaded import PluginError

    async def names() -> list[str]:
        loaded = await load_plugins(settings.plugin)
        for plugin in loaded:
            await plugin.close()
        return [plugin.name for plugin in loaded]

    try:
        return Look("plugins", "ok", ", ".join(asyncio.run(names())) or "none is enabled")
    except PluginError as error:
        return Look("plugins", "failed", str(error))


def _amount(octets: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if octets >= size:
            return f"{octets / size:.0f} {unit}"
    return f"{octets} octets"
