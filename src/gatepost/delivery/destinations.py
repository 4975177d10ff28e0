"""How much goes to one destination at a time, and the sessions kept between messages.

Strategy: a destination is one host and how it is spoken to, by value, whether settings or the DNS named it: domains
that share a mail server share its line. Attempts stand in line for each host of theirs, as many at a time as the host
takes (delivery.health) and the settings allow. A host that can't be reached is left alone: what is queued is put off
without calling it, and who has a sender waiting calls nevertheless; whoever stood in line while another found it
unreachable shares that answer instead of waiting for the same silence. Idle sessions are kept for a short while, newest
first, so that a quiet server isn't held open. What nobody uses is forgotten.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

from gatepost.delivery.allowance import CONCURRENCY, KEPT_S, Allowance, Allowances
from gatepost.delivery.attempt import Answered, Attempt, Errand, Letter, Probe
from gatepost.delivery.connection import Connection, Unreachable
from gatepost.delivery.dialer import Dialer
from gatepost.delivery.families import paired
from gatepost.delivery.health import BackOff, Condition, Health
from gatepost.delivery.line import Line, Pace, Places
from gatepost.delivery.protector import Protector
from gatepost.delivery.route import Hop, Host, Mx, Relay
from gatepost.delivery.suspension import AGAIN_S, Suspensions, suspended
from gatepost.model import Reply
from gatepost.model.origin import Origin
from gatepost.net.mx import Exchangers, Nowhere
from gatepost.net.mx_rules import plan
from gatepost.wire.smtp.client_events import Outcome, Phase

MX_HOSTS = 2  # of a domain's servers that one attempt talks to; a put-off by two is a put-off
CONNECTIONS = 200  # attempts at a time to all destinations
PATIENCE_S = 10.0  # how long an attempt stands in line for a rate's sake
_DOMAINS = 10_000  # whose servers are remembered
_OURS = frozenset({Phase.TLS, Phase.AUTH})  # where a session fails for how we speak, perhaps not for others


class _Destination:
    """One host. `users` counts who is there or in line, `failures` the attempts that didn't reach it; `why` is the
    last one's reason. `standing` counts its sessions; `carried` is how many messages each of the idle ones has had.
    """

    __slots__ = (
        "allowance", "carried", "failures", "hop", "idle", "key", "line", "name", "pace", "standing", "users", "why",
    )  # fmt: skip

    def __init__(self, hop: Hop, allowance: Allowance, health: Health, now: float) -> None:
        self.hop = hop
        self.allowance = allowance
        self.name = str(hop.hosts[0])
        self.key = (hop, allowance)
        self.line = Line(lambda: health.window(self.name, allowance.concurrency))
        self.pace = None if allowance.rate is None else Pace(allowance.rate, now)
        self.idle: dict[Connection, asyncio.TimerHandle] = {}
        self.carried: dict[Connection, int] = {}
        self.standing = 0
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
        allowances: Allowances | None = None,
        back_off: BackOff | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`exchangers` finds the servers of domains; without it nothing goes by MX. `protector` finds how
        each of them is to be protected; without it all are as their route says. `allowances` are the settings' rules,
        in place of `concurrency` and `kept_s`. `clock` gives seconds (monotonic), `chance` a fraction.
        """
        self._dialer = dialer
        self._exchangers = exchangers
        self._protector = protector
        self.allowances = allowances or Allowances(Allowance(concurrency=concurrency, kept_s=kept_s))
        """May be replaced while it runs."""
        self.suspensions = Suspensions()
        self.health = Health(clock, chance, back_off)
        self._clock = clock
        self._places = Places(connections)
        self._known: dict[tuple[Hop, Allowance], _Destination] = {}
        self._hosts: OrderedDict[str, tuple[Host, ...]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def deliver(
        self, hop: Hop | Mx, letter: Letter, *, may_wait: bool = False, whose: str | None = None
    ) -> list[Answered]:
        """One attempt, when its turn has come; each recipient's answer, in order. By MX the recipients are of one
        domain: some servers refuse a transaction for several. What `may_wait` isn't tried at a host that is left alone.
        `whose` is the sender whose share of the connections it uses, without it the domain mail is sent from.
        """
        whose = letter.sender.domain if whose is None else whose
        if isinstance(hop, Mx):
            return await self._run_by_mx(hop, letter, whose, may_wait=may_wait)
        hop = await self._protected(hop, letter.requiretls)
        return await self._run(hop, letter, whose, may_wait=may_wait)

    async def probe(self, hop: Hop, probe: Probe) -> list[Answered]:
        """Ask without sending anything, when our turn has come: each recipient's answer to RCPT, or the one to MAIL."""
        return await self._run(await self._protected(hop), probe, probe.sender.domain)

    async def _protected(self, hop: Hop, requiretls: bool = False) -> Hop:
        if self._protector is None or not self._protector.concerns(hop, requiretls):
            return hop
        return await self._protector.of_hop(hop, requiretls)

    async def _run_by_mx(self, mx: Mx, letter: Letter, whose: str, *, may_wait: bool) -> list[Answered]:
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
            protected = await self._protector.by_mx(mx, planned, letter.content, letter.requiretls)
            if isinstance(protected, Reply):
                # as a server's own word to each of them would be (rfc8689#4.2.1)
                return [Answered(Outcome(r, protected, Phase.RECIPIENT, is_ours=True), None) for r in letter.recipients]
            hosts = protected
        hosts = paired(hosts)
        self._remember(mx.domain, hosts)
        hop = Relay(hosts, mx.tls, calling=mx.calling, pool=mx.pool, identity=mx.identity)
        return await self._run(hop, letter, whose, hosts_max=MX_HOSTS, domain=mx.domain, may_wait=may_wait)

    def _remember(self, domain: str, hosts: tuple[Host, ...]) -> None:
        self._hosts[domain] = hosts
        self._hosts.move_to_end(domain)
        if len(self._hosts) > _DOMAINS:
            self._hosts.popitem(last=False)

    def hosts_of(self, domain: str) -> tuple[Host, ...]:
        """A domain's servers as they were last found; empty where nobody has asked yet."""
        return self._hosts.get(domain, ())

    def sessions(self, host: str) -> int:
        """How many sessions stand with a host, by its name with address and port."""
        return sum(known.standing for known in self._known.values() if known.name == host)

    def condition(self, host: str) -> Condition | None:
        """How a host is doing; None where nothing is known of it."""
        return self.health.condition(host)

    async def _run(
        self,
        hop: Hop,
        errand: Errand,
        whose: str,
        *,
        hosts_max: int | None = None,
        domain: str = "",
        may_wait: bool = False,
    ) -> list[Answered]:
        attempt = Attempt(errand, hosts_max=hosts_max)
        for host in hop.hosts:
            one = hop if len(hop.hosts) == 1 else replace(hop, hosts=(host,))
            await self._ask(one, attempt, domain, whose, may_wait=may_wait)
            if attempt.is_over:
                break
        return attempt.answers

    async def _ask(self, hop: Hop, attempt: Attempt, domain: str, whose: str, *, may_wait: bool) -> None:
        """The one host of a hop, when its turn has come."""
        [host] = hop.hosts
        names = (domain, host.name.lower(), host.address or "", str(host))
        if self.suspensions and (name := self.suspensions.covers(names)) is not None:
            attempt.put_off(host, suspended(name), AGAIN_S)
            return
        allowance = self.allowances.find(*names)
        known = self._known.get((hop, allowance))
        if known is None:
            if len(self._known) > _DOMAINS:
                for one in list(self._known.values()):
                    self._forget(one)
            known = _Destination(hop, allowance, self.health, self._clock())
            self._known[known.key] = known
        known.users += 1
        try:
            if (may_wait and self._puts_off(known, attempt)) or await self._is_beyond_rate(known, attempt):
                return
            failures = known.failures
            await known.line.enter()
            try:
                await self._places.enter(whose)
                try:
                    if may_wait and self._puts_off(known, attempt):
                        return
                    if known.why is not None and known.failures != failures:
                        attempt.fail(known.host, known.why)
                        return
                    await self._use(known, attempt, host)
                finally:
                    self._places.leave(whose)
            finally:
                known.line.leave()
        finally:
            known.users -= 1
            self._forget(known)

    async def _use(self, known: _Destination, attempt: Attempt, host: Host) -> None:
        began = self._clock()
        why = await attempt.ask(
            known.host,
            lambda: self._take(known, attempt.origin, host),
            lambda connection: self._give(known, connection),
        )
        if why is None:
            self.health.succeeded(known.name, known.allowance.concurrency)
            if not self.health.is_good and self.health.condition(known.hop) is not None:
                self.health.succeeded(known.hop, known.allowance.concurrency)
            return
        if why.is_by_plugin:
            return
        known.failures += 1
        known.why = why
        is_ours = why.phase in _OURS
        others = 0 if is_ours else known.standing
        rest = self.health.failed(known.hop if is_ours else known.name, why.reply, began=began, others=others)
        if others:
            attempt.forgive(known.host, rest)

    def _puts_off(self, known: _Destination, attempt: Attempt) -> bool:
        """Whether the host is left alone for now; the attempt is told."""
        if self.health.is_good:
            return False
        key: Hashable = known.name  # the server, or this way to it
        if not (rest := self.health.rest_s(key)):
            key = known.hop
            if not (rest := self.health.rest_s(key)):
                return False
        why = self.health.why(key)
        assert why is not None, "what rests has failed"
        attempt.put_off(known.host, why, rest)
        return True

    async def _is_beyond_rate(self, known: _Destination, attempt: Attempt) -> bool:
        """Whether the destination's rate has no place for the attempt soon; else it has waited for it."""
        if known.pace is None:
            return False
        is_ours, wait = known.pace.wait_s(self._clock(), PATIENCE_S)
        if not is_ours:
            attempt.put_off(known.host, Reply(451, "4.7.1", f"{known.host}: the rate that is set is used up"), wait)
            return True
        if wait > 0:
            await asyncio.sleep(wait)
        return False

    async def close(self) -> None:
        """Close what is idle, and wait for it. Attempts under way close their own."""
        self._is_closed = True
        for known in list(self._known.values()):
            for connection in list(known.idle):
                self._retire(known, connection)
        while self._closing:
            await asyncio.wait(self._closing)

    async def _take(self, known: _Destination, origin: Origin | None, host: Host) -> Connection | Unreachable:
        while known.idle:
            connection, timer = known.idle.popitem()  # the newest: the older ones may run out
            timer.cancel()
            if connection.can_send and connection.introduced in (None, origin):
                return connection
            self._close_soon(known, connection)
        opened = await self._dialer.open(known.hop, host)  # equal to its own, but for whose policy that is
        if not isinstance(opened, Unreachable):
            known.standing += 1
        return opened

    def _give(self, known: _Destination, connection: Connection) -> None:
        allowance = known.allowance
        if self._is_closed or allowance.kept_s <= 0 or not connection.can_send:
            self._close_soon(known, connection)
            return
        if allowance.messages:
            known.carried[connection] = carried = known.carried.get(connection, 0) + 1
            if carried >= allowance.messages:
                self._close_soon(known, connection)
                return
        loop = asyncio.get_running_loop()
        known.idle[connection] = loop.call_later(allowance.kept_s, self._retire, known, connection)

    def _retire(self, known: _Destination, connection: Connection) -> None:
        known.idle.pop(connection).cancel()
        self._close_soon(known, connection)
        self._forget(known)

    def _forget(self, known: _Destination) -> None:
        """Remember nothing of a destination without users and sessions: the DNS names ever new ones."""
        is_used = known.users or known.idle or (known.pace is not None and not known.pace.is_idle(self._clock()))
        if not is_used and self._known.get(known.key) is known:
            del self._known[known.key]

    def _close_soon(self, known: _Destination, connection: Connection) -> None:
        """Nobody waits for a goodbye."""
        known.standing -= 1
        known.carried.pop(connection, None)
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
