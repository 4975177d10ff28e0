"""Whom a session is opened with, and how: between delivery's facts and those that plugins choose among. Pure."""

from __future__ import annotations

from dataclasses import replace

from gatepost.delivery.route import Hop, Host
from gatepost.delivery.security import Protection, Security
from gatepost.hooks.outbound import Call

_CHOICES = (Security.NONE, Security.STARTTLS, Security.ENCRYPT, Security.REQUIRED, Security.IMPLICIT)
_STRENGTH = {Security.NONE: 0, Security.STARTTLS: 0, Security.ENCRYPT: 1, Security.REQUIRED: 2, Security.IMPLICIT: 2}
_STRONGEST = 2  # whatever asks the DNS or a policy is as strong as a name that must fit


def call_of(hop: Hop, host: Host, hostname: str) -> Call:
    """What settings would have; `hostname` is our own name. A plugin may ask for more protection, not for less."""
    level = _level(hop, host)
    least = _STRENGTH.get(level, _STRONGEST)
    return Call(
        host=host.socket or host.address or host.name,
        port=host.port,
        helo=hop.calling.helo or hostname,
        source=hop.calling.source[0] if hop.calling.source else "",
        tls=level.value,
        levels=tuple(choice.value for choice in _CHOICES if _STRENGTH[choice] >= least),
    )


def chosen(hop: Hop, host: Host, before: Call, call: Call) -> tuple[Hop, Host]:
    """Hop and host with what plugins changed about the call, and nothing else changed."""
    calling = hop.calling
    if call.helo != before.helo:
        calling = replace(calling, helo=call.helo)
    if call.source != before.source:
        calling = replace(calling, source=(call.source,) if call.source else ())
    if calling is not hop.calling:
        hop = replace(hop, calling=calling, pool=None)
    level = _level(hop, host)
    if (call.host, call.port) != (before.host, before.port):
        # whose name the old host's protection meant isn't the new one's
        kept = level if level in _STRENGTH else Security.REQUIRED
        host = Host(call.host, call.port, protection=Protection(kept, identity=hop.identity))
    if call.tls != before.tls:
        host = replace(host, protection=Protection(Security(call.tls), identity=hop.identity))
    return hop, host


def _level(hop: Hop, host: Host) -> Security:
    return hop.tls if host.protection is None else host.protection.level
