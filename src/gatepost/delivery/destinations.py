"""How much goes to one destination at a time, and the sessions kept between messages.

Strategy: a destination is one host and how it is spoken to, by value, whether settings or the DNS named it: domains
that share a mail server share its line. Attempts stand in line for each host of theirs; whoever stood there while
another found it unreachable shares that answer instead of waiting for the same silence. Idle sessions are kept for a
short while, newest first, so that a quiet server isn't held open. What nobody uses is forgotten.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gatepost.delivery.attempt import Answered, Attempt, Errand, Letter, Probe
from gatepost.delivery.connection import Connection, Unreachable
from gatepost.delivery.dialer import Dialer
from gatepost.delivery.protector import Protector
from gatepost.delivery.route import Hop, Host, Mx, Relay
from gatepost.net.mx import Exchangers, Nowhere
from gatepost.net.mx_rules import plan
from gatepost.wire.smtp.client_events import Outcome, Phase

MX_HOSTS = 2  # of a domain's servers that one attempt talks to; a put-off by two is a put-off
CONCURRENCY = 20  # attempts at a time to one destination
CONNECTIONS = 200  # attempts at a time to all of them
KEPT_S = 10.0  # how long an idle session is kept


class _Destination:
    """One host. `users` counts who is there or in line, `failures` the attempts that didn't reach it; `why` is the
    last one's reason.
    """

    __slots__ = ("failures", "hop", "idle", "places", "users", "why")

    def __init__(self, hop: Hop, places: int) -> None:
        self.hop = hop
        self.places = asyncio.Semaphore(places)
        self.idle: dict[Connection, asyncio.TimerHandle] = {}
        self.users = 0
        self.failures = 0
        self.why: Unreachable | None = None

    @property
    def host(self) -> Host:
        return self.hop.hosts[0]


class Destinations:
    """Every destination of a worker. A session is with one attempt, or idle, or being closed; never two of them."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        exchangers: Exchangers | None = None,
        protector: Protector | None = None,
        concurrency: int = CONCURRENCY,
        connections: int = CONNECTIONS,
        kept_s: float = KEPT_S,
    ) -> None:
        """`exchangers` finds the servers of domains; without it nothing goes by MX. `protector` finds how
        each of them is to be protected; without it all are as their route says.
        """
        self._dialer = dialer
        self._exchangers = exchangers
        self._protector = protector
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(connections)
        self._kept_s = kept_s
        self._known: dict[Hop, _Destination] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def deliver(self, hop: Hop | Mx, letter: Letter) -> list[Answered]:
        """One attempt, when its turn has come; each recipient's answer, in order. By MX the recipients are of one
        domain: some servers refuse a transaction for several.
        """
        if isinstance(hop, Mx):
            return await self._run_by_mx(hop, letter)
        if self._protector is not None and self._protector.concerns(hop, letter.requiretls):
            hop = await self._protector.of_hop(hop, letter.requiretls)
        return await self._run(hop, letter)

    async def probe(self, hop: Hop, probe: Probe) -> list[Answered]:
        """Ask without sending anything, when our turn has come: each recipient's answer to RCPT, or the one to MAIL."""
        return await self._run(hop, probe)

    async def _run_by_mx(self, mx: Mx, letter: Letter) -> list[Answered]:
        if self._exchangers is None:
            raise ValueError("nobody here finds the servers of a domain")
        found = await self._exchangers.find(mx.domain, port=mx.port, allow_private=mx.allow_private)
        if isinstance(found, Nowhere):
            # a domain that takes no mail is what a server would have said to RCPT
            phase = Phase.RECIPIENT if found.reply.is_permanent else Phase.CONNECT
            return [Answered(Outcome(r, found.reply, phase, is_ours=True), None) for r in letter.recipients]
        planned = plan(found)
        if self._protector is None:
            hosts = tuple(Host(name, mx.port, address=str(address)) for name, address in planned)
        else:
            hosts = await self._protector.by_mx(mx, planned, letter.content, letter.requiretls)
        return await self._run(
            Relay(hosts, mx.tls, calling=mx.calling, pool=mx.pool, identity=mx.identity), letter, hosts_max=MX_HOSTS
        )

    async def _run(self, hop: Hop, errand: Errand, *, hosts_max: int | None = None) -> list[Answered]:
        attempt = Attempt(errand, hosts_max=hosts_max)
        for host in hop.hosts:
            await self._ask(hop if len(hop.hosts) == 1 else replace(hop, hosts=(host,)), attempt)
            if attempt.is_over:
                break
        return attempt.answers

    async def _ask(self, hop: Hop, attempt: Attempt) -> None:
        """The one host of a hop, when its turn has come."""
        known = self._known.get(hop)
        if known is None:
            known = self._known[hop] = _Destination(hop, self._concurrency)
        failures = known.failures
        known.users += 1
        try:
            async with known.places, self._places:
                if known.why is not None and known.failures != failures:
                    attempt.fail(known.host, known.why)
                    return
                why = await attempt.ask(
                    known.host, lambda: self._take(known), lambda connection: self._give(known, connection)
                )
                if why is not None:
                    known.failures += 1
                    known.why = why
        finally:
            known.users -= 1
            self._forget(known)

    async def close(self) -> None:
        """Close what is idle, and wait for it. Attempts under way close their own."""
        self._is_closed = True
        for known in list(self._known.values()):
            for connection in list(known.idle):
                self._retire(known, connection)
        while self._closing:
            await asyncio.wait(self._closing)

    async def _take(self, known: _Destination) -> Connection | Unreachable:
        while known.idle:
            connection, timer = known.idle.popitem()  # the newest: the older ones may run out
            timer.cancel()
            if connection.can_send:
                return connection
            self._close_soon(connection)
        return await self._dialer.open(known.hop, known.host)

    def _give(self, known: _Destination, connection: Connection) -> None:
        if self._is_closed or self._kept_s <= 0 or not connection.can_send:
            self._close_soon(connection)
            return
        loop = asyncio.get_running_loop()
        known.idle[connection] = loop.call_later(self._kept_s, self._retire, known, connection)

    def _retire(self, known: _Destination, connection: Connection) -> None:
        known.idle.pop(connection).cancel()
        self._close_soon(connection)
        self._forget(known)

    def _forget(self, known: _Destination) -> None:
        """Remember nothing of a destination without users and sessions: the DNS names ever new ones."""
        if not known.users and not known.idle and self._known.get(known.hop) is known:
            del self._known[known.hop]

    def _close_soon(self, connection: Connection) -> None:
        """Nobody waits for a goodbye."""
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
