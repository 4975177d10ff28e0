"""How names are looked up: the section [dns]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import (
    Duration,
    Endpoint,
    Kind,
    Switch,
    Whole,
    is_ip,
    parse_endpoint,
    parse_several,
    shown,
    wrong,
)

DNS_PORT = 53


def _parse_servers(value: object) -> tuple[Endpoint, ...]:
    several = parse_several(value)
    servers = []
    for one in several if isinstance(several, tuple) else (several,):
        is_bare_v6 = isinstance(one, str) and ":" in one and is_ip(one)
        server = parse_endpoint(f"[{one}]" if is_bare_v6 else one, port=DNS_PORT)
        if not is_ip(server.host):
            wrong(f"{shown(server.host)} would have to be looked up to be asked", mend='"127.0.0.1", or "[::1]:53"')
        if server.port == 0:
            wrong(f"{shown(str(server))} is no port to ask at", mend=f'"{server.host}", for port {DNS_PORT}')
        servers.append(server)
    return tuple(dict.fromkeys(servers))


class Dns(Section):
    """How names are looked up. Names of next servers that the settings themselves give are the system's to look up."""

    servers: Annotated[
        tuple[Endpoint, ...],
        PlainValidator(_parse_servers),
        Kind("address:port, one or several", lambda servers: ", ".join(map(str, servers))),
        PlainSerializer(lambda servers: [str(server) for server in servers]),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=(), description="The name servers to ask, in this order; without any, the system's.")
    timeout: Duration = Field(default=2.0, gt=0, description="How long one server may take to answer.")
    deadline: Duration = Field(
        default=8.0,
        gt=0,
        description="How long a question may take, over all servers and repetitions; then it is a temporary failure.",
    )
    cache: Whole = Field(
        default=10_000, ge=0, description="Answers each worker keeps, for as long as they say and a day at most."
    )
    trust_ad: Switch = Field(
        default=False,
        description="Whether a server's word that it has validated an answer (DNSSEC) is believed though the server "
        "isn't on this machine. Servers on loopback are believed anyway.",
    )
