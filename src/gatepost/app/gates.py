"""Routes of the settings, twice: as reception sees them (gates) and as delivery does. The first match wins in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path as File

from gatepost.app.addresses import rules
from gatepost.app.protecting import pair
from gatepost.app.quotas import NO_SUCH_USER
from gatepost.app.settings.proxying import ProxyUrl
from gatepost.app.settings.root import Settings
from gatepost.app.settings.routes import SMTP_PORT, Deliver, Route
from gatepost.delivery.route import (
    DIRECTLY,
    Action,
    Calling,
    Discard,
    Host,
    Lmtp,
    Maildir,
    Mx,
    Pool,
    Relay,
    Rotation,
    Security,
    ToList,
)
from gatepost.delivery.route import Route as DeliveryRoute
from gatepost.delivery.route import Routes as DeliveryRoutes
from gatepost.hooks.questions import Question
from gatepost.model import AddressError, Path, Recipient, Reply
from gatepost.model.senders import Senders
from gatepost.serving.house import Existence, Gate, HandOver, OpenTo
from gatepost.store.addresses import Addresses
from gatepost.store.users import folded
from gatepost.wire.smtp.client_events import Credentials, Introduction
from gatepost.wire.socks import Proxy


class RouteError(ValueError):
    """A route that can't work; the text says where and how to mend it."""


def gates(
    settings: Settings,
    *,
    admission: Existence,
    room: Existence,
    ask: Callable[[Route], Existence],
    hand_over: Callable[[Route], tuple[Existence, HandOver]],
) -> list[Gate]:
    """The gates of the settings, the postmaster's first: he always has one (RFC 5321 §4.5.1).

    `admission` tells whether an address leads to anybody of ours who has room, `room` only whether there is; `ask`
    makes a caller-ahead for a route, `hand_over` what gives a message to its server while the sender waits.
    """
    made: list[Gate] = []
    known = replace(rules(settings), catch_all={})
    aliases: Addresses[object] | None = Addresses(known, lambda _: None, folded) if known.aliases else None
    for route in settings.route:
        exists: Existence | None = None
        over: HandOver | None = None
        match route.recipients:
            case "users":
                exists = admission
            case "ask":
                exists = ask(route)
            case File() as file:
                exists = _listed(file)
                if route.deliver.by == "maildir":
                    exists = _both(exists, room)
            case _:
                exists = None
        if aliases is not None and exists is not None and exists is not admission:
            exists = _but_aliases(exists, aliases)
        if route.handover == "before-reply":
            on_rcpt, over = hand_over(route)
            exists = on_rcpt if exists is None or route.recipients == "ask" else _both(exists, on_rcpt)
        open_to = OpenTo.ANYONE if route.for_whom == "anyone" else OpenTo.AUTHENTICATED
        networks = () if isinstance(route.for_whom, str) else tuple(ip_network(str(net)) for net in route.for_whom)
        to = "" if over is None else ", ".join(map(str, hop(route).hosts))
        made += [
            Gate(pattern, open_to, networks, exists, over, to, _senders(route), _covers(route))
            for pattern in route.match
        ]
    if not any(
        gate.match == "*" and gate.open_to is OpenTo.ANYONE and gate.exists is None and gate.senders is None
        for gate in made
    ):
        made[:0] = [
            Gate("postmaster", OpenTo.ANYONE) if "@" not in pattern else Gate(pattern, OpenTo.ANYONE)
            for pattern in _postmasters(settings)
        ]
    return made


def delivery_routes(settings: Settings) -> DeliveryRoutes:
    """What delivery does with whose mail. The postmaster's goes to his maildrop where no route says otherwise; that
    every domain is to be found by MX doesn't, since his is this one.
    """
    proxy = settings.delivery.proxy
    routes = [
        DeliveryRoute(tuple(route.match), _action(route, proxy), _senders(route), _covers(route))
        for route in settings.route
    ]
    by_mx = (at for at, route in enumerate(routes) if isinstance(route.action, Mx))
    routes.insert(next(by_mx, len(routes)), DeliveryRoute(tuple(_postmasters(settings)), Maildir()))
    return DeliveryRoutes(routes)


def hop(route: Route, proxy: ProxyUrl | None = None) -> Relay | Lmtp:
    """The next server of a relay or lmtp route; RouteError for one that has none. `proxy` is [delivery]'s."""
    action = _action(route, proxy)
    if not isinstance(action, Relay | Lmtp):
        raise RouteError(
            f'the route for {", ".join(route.match)} has no next server to ask; deliver = "relay HOST:PORT"'
        )
    return action


def _covers(route: Route) -> Callable[[Path], bool] | None:
    """Every address of a list; None for routes that say in patterns whom they take."""
    if route.deliver.by != "list":
        return None
    from gatepost.lists.addressing import covers

    return covers(route.match[0])


def _postmasters(settings: Settings) -> Iterable[str]:
    return ("postmaster@", f"postmaster@{settings.hostname}")


def _senders(route: Route) -> Senders | None:
    return Senders(tuple(route.senders)) if route.senders else None


def callings(deliver: Deliver, default: ProxyUrl | None = None) -> tuple[Calling, ...]:
    """Every way a route may call its servers, at least one. `default` is the proxy of routes that name none."""
    proxy = _proxy(deliver.proxy, default if deliver.by in {"relay", "mx"} else None)
    if deliver.pool:
        return tuple(
            Calling(tuple(map(str, one.source or ())), one.helo, proxy if one.proxy is None else _proxy(one.proxy))
            for one in deliver.pool
        )
    families = [[str(one) for one in deliver.source or () if one.version == version] for version in (6, 4)]
    count = max(map(len, families)) or 1
    return tuple(
        Calling(tuple(family[at % len(family)] for family in families if family), deliver.helo, proxy)
        for at in range(count)
    )


def _proxy(said: ProxyUrl | str | None, default: ProxyUrl | None = None) -> Proxy | None:
    chosen = default if said is None else said
    return chosen.proxy if isinstance(chosen, ProxyUrl) else None


def _action(route: Route, proxy: ProxyUrl | None) -> Action:
    deliver = route.deliver
    auth = None
    if deliver.user is not None and deliver.password is not None:
        auth = Credentials(deliver.user, deliver.password.reveal())
    hosts = tuple(Host(endpoint.host, endpoint.port) for endpoint in deliver.hosts)
    if deliver.socket is not None:
        hosts = (Host(socket=str(deliver.socket)),)
    identity = pair(deliver.certificate)
    introduce = None if deliver.introduce is None else Introduction(deliver.introduce.upper())
    ways = callings(deliver, proxy)
    calling, pool = (ways[0], None) if len(ways) == 1 else (DIRECTLY, Pool(ways, Rotation(deliver.rotation)))
    match deliver.by:
        case "maildir":
            return Maildir()
        case "discard":
            return Discard()
        case "list":
            return ToList(deliver.name or "")
        case "relay":
            return Relay(hosts, Security(deliver.tls), auth, calling, pool, identity, introduce)
        case "lmtp":
            return Lmtp(hosts, Security(deliver.tls), auth, calling, pool, identity, introduce)
        case "mx":
            return Mx(
                port=deliver.port or SMTP_PORT,
                tls=Security(deliver.tls),
                calling=calling,
                allow_private=deliver.allow_private,
                pool=pool,
                identity=identity,
            )


def _but_aliases(exists: Existence, aliases: Addresses[object]) -> Existence:
    """Nobody else is asked about what the settings say is an alias."""

    async def known(question: Question) -> Reply | None:
        recipient: Recipient = question.facts["recipient"]
        return None if aliases.lead(recipient.path) is not None else await exists(question)

    return known


def _listed(file: File) -> Existence:
    """Addresses from a file, one a line, `#` begins a comment; `@example.org` stands for its whole domain."""
    addresses: set[str] = set()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RouteError(f"{file} can't be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        address = line.partition("#")[0].strip()
        if not address:
            continue
        try:
            addresses.add(address.lower() if address.startswith("@") else Path.parse(address).address.lower())
        except AddressError as error:
            raise RouteError(f'{file}:{number}: "{address}" is no address: {error}') from error

    async def exists(question: Question) -> Reply | None:
        recipient: Recipient = question.facts["recipient"]
        found = recipient.address.lower() in addresses or f"@{recipient.domain}" in addresses
        return None if found else NO_SUCH_USER

    return exists


def _both(first: Existence, second: Existence) -> Existence:
    async def exists(question: Question) -> Reply | None:
        refusal = await first(question)
        return refusal if refusal is not None else await second(question)

    return exists
