"""What `gatepost check` sees of the ways out: name servers, addresses to call from, proxies.

Name servers are asked one question where mail goes by MX, or settings name them; proxies are tried on loopback only, as
next servers are: a check disturbs nobody else's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Literal

from gatepost.app.gates import callings
from gatepost.app.ourselves import resolver
from gatepost.app.settings.root import Settings
from gatepost.model.path import parse_domain
from gatepost.net.answers import NotFound, TemporaryFailure
from gatepost.net.mx import is_here
from gatepost.wire.socks import Proxy

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words."""

_ANSWER_S = 4.0
_CONNECT_S = 2.0


def look_at_routes(settings: Settings) -> Iterator[Seen]:
    """Everything there is to see, each thing once."""
    by_mx = any(route.deliver.by == "mx" for route in settings.route)
    if by_mx or settings.dns.servers:
        yield asyncio.run(_look_at_names(settings, by_mx=by_mx))
    ways = [
        (", ".join(route.match), way)
        for route in settings.route
        if route.deliver.by in {"mx", "relay", "lmtp"}
        for way in callings(route.deliver, settings.delivery.proxy)
    ]
    for source in dict.fromkeys(source for _, way in ways for source in way.source):
        if is_here(ip_address(source)):
            yield "source", "ok", f"{source}, to call from, is this machine's"
        else:
            matches = "; ".join(dict.fromkeys(match for match, way in ways if source in way.source))
            text = f"{source}, to call from, isn't this machine's, so mail for {matches} would wait in the queue"
            yield "source", "failed", f"{text}; add it to an interface, or change source"
    for proxy in dict.fromkeys(way.proxy for _, way in ways if way.proxy is not None):
        yield _look_at_proxy(proxy)


async def _look_at_names(settings: Settings, *, by_mx: bool) -> Seen:
    asked = ", ".join(map(str, settings.dns.servers)) or "the system's name servers"
    names = resolver(settings)
    name = parse_domain(settings.hostname)
    try:
        async with asyncio.timeout(_ANSWER_S):
            addresses = await names.addresses(name)
    except NotFound:
        if by_mx:
            return "dns", "warning", f"{asked}: {name}, our name in EHLO, has no address; many servers refuse such mail"
        return "dns", "ok", f"{asked} answer"
    except (TemporaryFailure, TimeoutError) as error:
        why = str(error) or f"no answer within {_ANSWER_S:g} s"
        return "dns", "warning", f"{asked}: {why}; mail that goes by MX would wait in the queue"
    finally:
        await names.close()
    return "dns", "ok", f"{asked}: {name} is {', '.join(map(str, addresses))}"


def _look_at_proxy(proxy: Proxy) -> Seen:
    try:
        is_near = proxy.host == "localhost" or ip_address(proxy.host).is_loopback
    except ValueError:
        is_near = False
    if not is_near:
        return "proxy", "ok", f"{proxy}, not tried"
    try:
        socket.create_connection((proxy.host, proxy.port), _CONNECT_S).close()
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        return "proxy", "warning", f"{proxy}: {words}; mail through it would wait in the queue"
    return "proxy", "ok", f"{proxy}: somebody listens"
