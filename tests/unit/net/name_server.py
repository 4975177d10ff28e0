"""A name server on loopback with scripted zones, over UDP, and over TCP for what is too long for UDP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from gatepost.net.resolver import Resolver

SERVFAIL = "SERVFAIL"
REFUSED = "REFUSED"
SILENT = "SILENT"

Zone = Mapping[str, Mapping[str, Sequence[str] | str | bytes]]
"""{name: {type: records, or one of the words above for a failure, or the octets of one record's rdata as they are}}"""

_UDP = 512  # rfc1035#2.3.4
_TTL = 60
_CHAIN = 20


class NameServer(asyncio.DatagramProtocol):
    """Answers as a resolver would: aliases are followed. `asked` counts the questions."""

    def __init__(self, zone: Zone) -> None:
        self.zone = {f"{name}.": kinds for name, kinds in zone.items()}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.over_tcp = 0
        self.ttl = _TTL
        self.port = 0
        self.secure: set[str] = set()
        """Domains whose names are answered as validated, and those below them."""
        self.insecure: set[str] = set()
        """Names among them that aren't."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._answer(data)
        if answer is None:
            return
        if len(answer) > _UDP:
            short = dns.message.make_response(dns.message.from_wire(data))
            short.flags |= dns.flags.TC | dns.flags.RA
            answer = short.to_wire()
        self.transport.sendto(answer, address)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over_tcp += 1
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self._answer(query)
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    def _is_secure(self, name: str) -> bool:
        is_below = any(f".{name}".endswith(f".{domain}.") for domain in self.secure)
        return is_below and name.removesuffix(".") not in self.insecure

    def _answer(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        name, kind = query.question[0].name.to_text().lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked[name.removesuffix("."), kind] += 1
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        names = [name]
        for _ in range(0 if kind == "CNAME" else _CHAIN):
            alias = self.zone.get(name, {}).get("CNAME")
            if alias is None:
                break
            answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", *alias))
            name = alias[0]
            names.append(name)
        if all(map(self._is_secure, names)):  # rfc4035#3.2.3
            answer.flags |= dns.flags.AD
        found = self.zone.get(name, {}).get(kind)
        match found:
            case "SILENT":
                return None
            case "SERVFAIL" | "REFUSED":
                answer.set_rcode(dns.rcode.from_text(found))
            case bytes():
                return _with_rdata(answer, kind, self.ttl, found)
            case None:
                if name not in self.zone and not alias:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                answer.authority.append(
                    dns.rrset.from_text(name, self.ttl, "IN", "SOA", "ns.example. admin.example. 1 2 3 4 60")
                )
            case _:
                answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        return answer.to_wire(max_size=65535)


def _with_rdata(answer: dns.message.Message, kind: str, ttl: int, rdata: bytes) -> bytes:
    """The packet with one record whose rdata is what a careless or hostile server would write."""
    wire = bytearray(answer.to_wire())
    wire[6:8] = (1).to_bytes(2, "big")  # ANCOUNT
    owner = b"\xc0\x0c"  # the question's name
    wire += owner + int(dns.rdatatype.from_text(kind)).to_bytes(2, "big") + b"\x00\x01" + ttl.to_bytes(4, "big")
    return bytes(wire + len(rdata).to_bytes(2, "big") + rdata)


async def _both(server: NameServer) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
    """One port for UDP and TCP; another test may have either half of one."""
    while True:
        tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
        where = tcp.sockets[0].getsockname()
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, where)
        except OSError:
            tcp.close()
            await tcp.wait_closed()
        else:
            return transport, tcp


@asynccontextmanager
async def name_server(zone: Zone, **options: Any) -> AsyncIterator[tuple[Resolver, NameServer]]:
    """A name server, and a resolver that asks it."""
    server = NameServer(zone)
    transport, tcp = await _both(server)
    server.port = port = tcp.sockets[0].getsockname()[1]
    how: dict[str, Any] = {"timeout_s": 0.2, "lifetime_s": 0.5, **options}
    resolver = Resolver(nameservers=["127.0.0.1"], port=port, **how)
    try:
        yield resolver, server
    finally:
        await resolver.close()
        transport.close()
        tcp.close()
        await tcp.wait_closed()
