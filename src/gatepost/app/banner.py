"""What `gatepost run` says when it is ready: what listens, who is asked, where mail goes, how to try it.

It is made of plain facts (`inspection`), so that a supervisor says the same as a single process.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gatepost
from gatepost.app.settings.bindings import instances
from gatepost.app.settings.root import Listener, Settings
from gatepost.app.settings.routes import Route
from gatepost.hooks.bindings import HOUSE_PRIORITY
from gatepost.hooks.stages import STAGES
from gatepost.model.written import host_and_port

_LABEL = 11  # columns before the facts
_ROUTES_SHOWN = 6
_TLS = {"starttls": "STARTTLS", "implicit": "TLS"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the settings alone don't tell. `addresses` by listener; `certificates` are names with days left."""

    ready_s: float
    workers: int
    addresses: Mapping[str, tuple[str, int]]
    plugins: Sequence[Mapping[str, Any]] = ()
    certificates: Sequence[tuple[str, int]] = ()
    queued: int = 0
    held: int = 0
    config: Path | None = None
    """The file that was asked for by option, which `try it` then names too."""


def banner(settings: Settings, facts: Facts) -> str:
    """The whole text, several lines."""
    rows = [_first(settings, facts)]
    rows += _labelled("listening", _listeners(settings, facts))
    rows += _labelled("asked at", _asked(settings, facts.plugins))
    rows += _labelled("routes", [_routes(settings.route)])
    rows += _labelled("data", [_data(settings, facts)])
    rows += _labelled("try it", [_try_it(settings, facts)])
    return "\n".join(rows)


def _labelled(label: str, lines: Iterable[str]) -> list[str]:
    return [f"{label if not at else '':<{_LABEL}}{line}".rstrip() for at, line in enumerate(lines)]


def _first(settings: Settings, facts: Facts) -> str:
    file = str(settings.file) if settings.file is not None else "no settings file, the defaults apply"
    workers = f"{facts.workers} worker{'s' if facts.workers != 1 else ''}"
    return f"Gatepost {gatepost.__version__}, ready in {facts.ready_s:.1f} s · {file} · {workers}"


def _listeners(settings: Settings, facts: Facts) -> list[str]:
    shown = [
        (one, host_and_port(*facts.addresses.get(one.name, (one.address.host, one.address.port))))
        for one in settings.listen
    ]
    name_width = max(9, *(len(one.name) for one, _ in shown)) + 2
    address_width = max(len(address) for _, address in shown) + 3
    numbers = instances(settings) if any(plugin["dialect"] == "sink" for plugin in facts.plugins) else {}
    return [
        f"{one.name:<{name_width}}{address:<{address_width}}{_speaks(one, facts.certificates)}"
        + (f", instance {numbers[one.name]}" if one.name in numbers else "")
        for one, address in shown
    ]


def _speaks(listener: Listener, certificates: Sequence[tuple[str, int]]) -> str:
    words: list[str] = [listener.protocol]
    if listener.tls != "none":
        names = ", ".join(f"{name}, {_days(days)}" for name, days in certificates)
        tls = "STLS" if (listener.protocol, listener.tls) == ("pop3", "starttls") else _TLS[listener.tls]
        words.append(f"{tls} ({names})" if names else tls)
    if listener.auth != "off" and listener.protocol != "pop3":
        words.append("AUTH required" if listener.auth == "required" else "AUTH")
    return ", ".join(words)


def _days(days: int) -> str:
    """Whole days that are left; one that has just ended has -1."""
    if days >= 0:
        return f"{days} days left"
    return f"ENDED {-days - 1} days ago" if days < -1 else "ENDED today"


def _asked(settings: Settings, plugins: Sequence[Mapping[str, Any]]) -> list[str]:
    rows: list[tuple[str, int, str, str, str, str, str]] = [
        ("recipient", HOUSE_PRIORITY, "house", "", _house(settings), "", "")
    ]
    for plugin in plugins:
        for asked in plugin["stages"]:
            limit = f"{_short(asked['timeout_s'])}, else {asked['on_failure']}" if not asked["shadow"] else ""
            source = "shadow: asked, never obeyed" if asked["shadow"] else plugin["source"]
            origin = plugin.get("origin", "")
            rows.append((asked["stage"], asked["priority"], plugin["name"], plugin["dialect"], source, limit, origin))
    order = list(STAGES)
    rows.sort(key=lambda row: (order.index(row[0]), row[1]))
    stages = max(len(row[0]) for row in rows) + 2
    names = max(len(row[2]) for row in rows) + 2
    dialects = max(len(row[3]) for row in rows) + 2
    sources = max((len(row[4]) for row in rows if row[3]), default=0) + 2
    limits = max(len(row[5]) for row in rows) + 2
    lines = []
    before = ""
    for stage, priority, name, dialect, source, limit, origin in rows:
        head = f"{stage if stage != before else '':<{stages}}{priority:>5} {name:<{names}}"
        tail = f"{dialect:<{dialects}}{source:<{sources}}{limit:<{limits}}{origin}" if dialect else source
        lines.append(head + tail)
        before = stage
    return lines


def _house(settings: Settings) -> str:
    """How the house knows at RCPT whose mail it takes."""
    ways: dict[str, None] = {}
    for route in settings.route:
        match route.recipients:
            case "users":
                ways["recipients known as users"] = None
            case "ask":
                ways[f"recipients asked at {_target(route)}"] = None
            case "any":
                ways["any recipient"] = None
            case file:
                ways[f"recipients listed in {file}"] = None
    return ", ".join(["routes", *ways])


def _routes(routes: Sequence[Route]) -> str:
    told = [_route(route) for route in routes[:_ROUTES_SHOWN]]
    if len(routes) > _ROUTES_SHOWN:
        told.append(f"{len(routes) - _ROUTES_SHOWN} more")
    if not any("*" in route.match and route.for_whom == "anyone" for route in routes):
        told.append("all else refused (550 5.7.1)")
    return " · ".join(told)


def _route(route: Route) -> str:
    text = f"{', '.join(route.match)} → {_target(route)}"
    if route.senders:
        text += f", from {', '.join(route.senders)}"
    if route.for_whom == "authenticated":
        text += ", for authenticated users"
    elif route.for_whom != "anyone":
        text += f", for {', '.join(map(str, route.for_whom))}"
    if route.handover == "before-reply":
        text += ", handed over before our 250"
    return text


def _target(route: Route) -> str:
    deliver = route.deliver
    where = str(deliver.socket) if deliver.socket else ", ".join(map(str, deliver.hosts))
    match deliver.by:
        case "list":
            return f"members of {deliver.name}"
        case "relay":
            return where
        case "lmtp":
            return f"{where} by LMTP"
        case "maildir":
            return "Maildir"
        case "discard":
            return "nowhere (discard)"
        case "mx":
            return "by MX"


def _data(settings: Settings, facts: Facts) -> str:
    if settings.data is None:
        return "in memory only, nothing is kept"
    words = [str(settings.data), f"{facts.queued} queued", f"{facts.held} held"]
    try:
        free = shutil.disk_usage(settings.data).free
        full = "" if free >= settings.spool.keep_free else ", LESS THAN keep_free: new mail hears 452"
        words.append(f"{_amount(free)} free{full}")
    except OSError:
        words.append("free space unknown")
    days = settings.trace.days
    words.append(f"trace {days:g} day{'s' if days != 1 else ''}" if days else "no trace")
    return " · ".join(words)


def _try_it(settings: Settings, facts: Facts) -> str:
    config = f" -c {facts.config}" if facts.config is not None else ""
    first = next(iter(settings.mail_listeners), None)
    if first is None:
        return f"{_program()}{config} user list"
    at = facts.addresses.get(first.name, ("", 0))
    server = f" --server {host_and_port(*at)}" if not first.address.port and at[1] else ""
    return f"{_program()}{config} send{server} --to {_somebody(settings)} --subject hello"


def _program() -> str:
    """The command as it was called, where a shell wouldn't find it by its name."""
    called = sys.argv[0]
    return called if Path(called).name == "gatepost" and shutil.which("gatepost") is None else "gatepost"


def _somebody(settings: Settings) -> str:
    """A recipient for whom mail is likely to be taken from anyone."""
    for route in settings.route:
        if route.for_whom != "anyone" or route.deliver.by == "list":  # whose members would read it
            continue
        for pattern in route.match:
            name, at, domain = pattern.rpartition("@")
            if "*" in domain.removeprefix("*."):
                domain = "example.org"
            if route.recipients == "users":
                fitting = [user.name for user in settings.user if user.name.endswith(f"@{domain}")]
                if fitting:
                    return fitting[0]
                continue
            if at and "*" not in name:
                return f"{name}@{domain.removeprefix('*.')}"
            return f"info@{domain.removeprefix('*.') or 'example.org'}"
    return f"postmaster@{settings.hostname}"


def _short(seconds: float) -> str:
    return f"{seconds:g}s"


def _amount(octets: int) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if octets >= size:
            return f"{octets / size:.0f} {unit}"
    return f"{octets} octets"
