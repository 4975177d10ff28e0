"""`gatepost check`: judges the settings and looks at what is around them, before a server meets it.

Everything is looked at, nothing is changed but a probe file that is removed again. It connects to name
servers, to next servers and proxies on loopback, and to those that are asked about recipients, as reception will.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import rich_click as click

from gatepost.app.cli.access import READ, RUN, refused_to, strangers_in
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit
from gatepost.model.written import host_and_port

if TYPE_CHECKING:
    from gatepost.app.settings import Endpoint, Listener, Route, Settings
    from gatepost.app.settings.dkim import Dkim

_FEW_DAYS = 21
_CONNECT_S = 2.0
_ANSWER_S = 5.0
_EVERYBODY = 0o007


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at. With a failure a server can't start, or can't do its work."""

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
    """Check the settings and what is around them.

    Looked at are certificates, keys, the data folder, ports, plugins, name servers and next servers. Exit code 0 if a
    server can start and do its work (there may be warnings), else 78.
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
    from gatepost.app.looking_at_addresses import look_at_addresses
    from gatepost.app.looking_at_lists import look_at_lists
    from gatepost.app.looking_at_order import look_at_order
    from gatepost.app.looking_at_routes import look_at_routes
    from gatepost.app.looking_at_tls import look_at_tls

    yield _settings(settings)
    if settings.data is not None:
        yield _data(settings.data, settings.spool.keep_free)
    if settings.run_as:
        yield from _privileges(settings, settings.run_as)
    ours = _listening_already(settings)
    for listener in settings.listen:
        yield _listener(listener, ours)
    for certificate in settings.tls.certificate:
        yield _certificate(certificate.chain, certificate.key)
        if certificate.key.stat().st_mode & _EVERYBODY:
            yield Look("key", "warning", f"{certificate.key} can be read by everybody; chmod o= {certificate.key}")
    yield from (Look(*seen) for seen in look_at_tls(settings))
    for table in settings.dkim:
        yield from _signing(table, settings.run_as)
    if not settings.route:
        yield Look("routes", "warning", "there is no [[route]], so every recipient but postmaster is refused")
    for route in settings.route:
        match = ", ".join(route.match)
        otherwise = "senders would hear 451" if route.handover == "before-reply" else "mail would wait in the queue"
        if route.deliver.socket:
            yield _local_socket(match, route.deliver.socket, otherwise)
        for host in route.deliver.hosts:
            yield _next_server(match, host, otherwise)
        if route.recipients == "ask":
            yield _knows_recipients(settings, route)
    yield from (Look(*seen) for seen in look_at_order(settings))
    yield from (Look(*seen) for seen in look_at_routes(settings))
    yield from (Look(*seen) for seen in look_at_addresses(settings))
    yield from (Look(*seen) for seen in look_at_lists(settings))
    if settings.plugin:
        yield from asyncio.run(_plugins(settings))
        yield from _bindings(settings)


def _settings(settings: Settings) -> Look:
    counts = f"listeners {len(settings.listen)}, routes {len(settings.route)}, plugins {len(settings.plugin)}"
    if settings.file:
        return Look("settings", "ok", f"{settings.file}: {counts}")
    text = f"no file, the defaults apply: {counts}; first step: gatepost run, later: gatepost -c FILE check"
    return Look("settings", "ok", text)


def _signing(table: Dkim, run_as: str | None) -> Iterator[Look]:
    """Whether somebody signs for the domain today, and nobody else can read the keys."""
    from gatepost.app.privileges import Identity, PrivilegeError
    from gatepost.app.signing import load_signing
    from gatepost.plugins.loaded import PluginError

    try:
        load_signing([table])
    except PluginError as error:
        yield Look("dkim", "failed", f"{table.domain}: {error}")
        return
    now = datetime.now(UTC)
    signing = [key for key in table.key if (not key.begins or key.begins <= now) and (not key.until or now < key.until)]
    if signing:
        yield Look("dkim", "ok", f"{table.domain}: {', '.join(key.selector for key in signing)}")
    else:
        yield Look("dkim", "warning", f"{table.domain}: no key signs today; gatepost dns shows each one's days")
    group = None
    if run_as:
        with suppress(PrivilegeError):  # told of elsewhere
            group = Identity.of(run_as).gid
    for key in table.key:
        status = key.file.stat()
        mode = 0o600 if status.st_gid != group else 0o640  # root's file, which the server's group may read
        if status.st_mode & 0o777 & ~mode:
            yield Look("dkim", "warning", f"{key.file} can be read by others; chmod {mode:o} {key.file}")


def _data(folder: Path, keep_free: int) -> Look:
    """Whether a server could write there, or in the folder that it would be made in."""
    place = folder = folder.resolve()
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


def _privileges(settings: Settings, run_as: str) -> Iterator[Look]:
    """Whether there is such a user, and he can use what the server will open once it is him."""
    import grp

    from gatepost.app.privileges import Identity, PrivilegeError

    try:
        identity = Identity.of(run_as)
    except PrivilegeError:
        yield Look("run_as", "failed", f'there is no user or group "{run_as}"; make it, or change run_as')
        return
    if os.geteuid() != 0:
        yield Look("run_as", "warning", f"only root can become {run_as}")
        return
    user = identity.user
    closed = refused_to(run_as, _to_be_used(settings))
    for file, at in closed.items():
        group = grp.getgrgid(identity.gid).gr_name
        mend = f"chgrp {group} {file} && chmod g+r {file}" if at == file else f"{at} is closed to it"
        yield Look("run_as", "failed", f"{user} can't use {file}; {mend}")
    if settings.data is not None and settings.data.exists():
        others = list(strangers_in(settings.data, run_as))
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            text = f"{others[0]}{more} isn't {user}'s; chown -R {run_as} {settings.data}"
            yield Look("run_as", "failed", text)
            return
    if not closed:
        yield Look("run_as", "ok", run_as)


def _to_be_used(settings: Settings) -> dict[Path, int]:
    """The files a server opens after it has given root up, at the start, at a reload, or when a certificate changes."""
    wanted = {Path(sys.executable).resolve(): RUN, Path(__file__).resolve().parents[2] / "__init__.py": READ}
    if settings.file is not None:
        wanted[settings.file.absolute()] = READ
    for certificate in settings.tls.certificate:
        wanted |= {certificate.chain: READ, certificate.key: READ}
    wanted |= {key.file: READ for table in settings.dkim for key in table.key}
    wanted |= {file: READ for plugin in settings.plugin if plugin.enabled and (file := plugin.file) is not None}
    return wanted


def _listening_already(settings: Settings) -> set[str]:
    """The listeners of a server that runs on this data folder."""
    from gatepost.app.control import ControlClient, ControlError, NotRunning

    if settings.data is None:
        return set()
    try:
        with ControlClient(settings.data, timeout_s=_ANSWER_S) as client:
            told = client.ask("status")["listeners"]
    except (NotRunning, ControlError, OSError):
        return set()
    return {host_and_port(*one["address"]) for one in told}


def _listener(listener: Listener, ours: Container[str]) -> Look:
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
            case errno.EADDRINUSE if str(listener.address) in ours:
                return Look(what, "ok", f"{text}: the running gatepost has it")
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


def _local_socket(match: str, path: Path, otherwise: str) -> Look:
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(str(path))
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return Look("route", "warning", f"{match} → {path}: {words}; {otherwise}")
    return Look("route", "ok", f"{match} → {path}: somebody listens")


def _next_server(match: str, host: Endpoint, otherwise: str) -> Look:
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
        return Look("route", "warning", f"{match} → {host}: {words}; {otherwise}")
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
    from gatepost.app.delivering import destinations
    from gatepost.app.gates import hop
    from gatepost.app.next_server import CallAhead
    from gatepost.store.ledger import MemoryLedger

    servers = destinations(settings)
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await CallAhead(servers, MemoryLedger(time.time), settings.hostname).accepts_everything(
                hop(route, settings.delivery.proxy), domain
            )
    except TimeoutError:
        return None
    finally:
        await servers.close()


def _bindings(settings: Settings) -> Iterator[Look]:
    """Where sinks are bound, and by whom."""
    from gatepost.app.bindings_listing import listener_of, origin_of

    for at, plugin in enumerate(settings.plugin):
        if plugin.sink is not None:
            number = plugin.sink.instance
            where = f"instance {number} ({listener_of(settings, number)})" if number else "every instance"
            state = "" if plugin.enabled else ", disabled"
            yield Look("bindings", "ok", f"{plugin.name}, {where}, {origin_of(settings, at) or 'in the call'}{state}")


async def _plugins(settings: Settings) -> list[Look]:
    """Loads each plugin as a server would; none is opened."""
    from gatepost.app.dialects import load_plugins
    from gatepost.app.settings.bindings import instances
    from gatepost.plugins.host.launched import Starters
    from gatepost.plugins.loaded import PluginError

    numbers = instances(settings)
    names: list[str] = []
    others: list[Look] = []
    starters = Starters()
    for plugin in settings.plugin:
        if plugin.enabled and plugin.user is not None and os.geteuid() != 0:
            others.append(Look("plugins", "warning", f"{plugin.name} not tried: only root can run it as {plugin.user}"))
            continue
        try:
            for loaded in await load_plugins([plugin], starter_for=starters.of, instances=numbers):
                await loaded.close()
                names.append(loaded.name)
        except PluginError as error:
            others.append(Look("plugins", "failed", str(error)))
    starters.close()
    if names or not others:
        return [Look("plugins", "ok", ", ".join(names) or "none is enabled"), *others]
    return others


def _amount(octets: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if octets >= size:
            return f"{octets / size:.0f} {unit}"
    return f"{octets} octets"
