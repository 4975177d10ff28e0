"""How much goes to one destination at a time, and the sessions kept between messages.

Strategy: a destination is a hop, by value. Attempts stand in line for it; whoever stood in line while an attempt found
every host unreachable shares that answer instead of waiting for the same silence. Idle sessions are kept for a short
while, newest first, so that a quiet server isn't held open.
"""

from __future__ import annotations

import asyncio

from gatepost.delivery.attempt import Answered, Attempt, Errand, Letter, Probe
from gatepost.delivery.connection import Connection, Dialer, Unreachable
from gatepost.delivery.route import Hop, Host
from gatepost.wire.smtp.client_events import Outcome

CONCURRENCY = 20  # attempts at a time to one destination
CONNECTIONS = 200  # attempts at a time to all of them
KEPT_S = 10.0  # how long an idle session is kept


class _Destination:
    """One hop. `failures` counts the attempts that reached nobody, `why` is the last one's reason."""

    __slots__ = ("failures", "idle", "places", "why")

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.idle: dict[Host, dict[Connection, asyncio.TimerHandle]] = {}
        self.failures = 0
        self.why: Unreachable | None = None


class Destinations:
    """Every destination of a worker. A session is with one attempt, or idle, or being closed; never two of them."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        concurrency: int = CONCURRENCY,
        connections: int = CONNECTIONS,
        kept_s: float = KEPT_S,
    ) -> None:
        self._dialer = dialer
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(connections)
        self._kept_s = kept_s
        self._known: dict[Hop, _Destination] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def deliver(self, hop: Hop, letter: Letter) -> list[Answered]:
        """One attempt, when its turn has come; each recipient's answer, in order."""
        return await self._run(hop, letter)

    async def probe(self, hop: Hop, probe: Probe) -> list[Answered]:
        """Ask without sending anything, when our turn has come: each recipient's answer to RCPT, or the one to MAIL."""
        return await self._run(hop, probe)

    async def _run(self, hop: Hop, errand: Errand) -> list[Answered]:
        known = self._known.get(hop)
        if known is None:
            known = self._known[hop] = _Destination(self._concurrency)
        failures = known.failures
        async with known.places, self._places:
            if known.why is not None and known.failures != failures:
                return _share(known.why, hop.hosts[-1], errand)
            attempt = Attempt(
                hop, errand, lambda host: self._take(known, hop, host), lambda used: self._give(known, used)
            )
            answers = await attempt.run()
            if attempt.unreachable is not None:
                known.failures += 1
                known.why = attempt.unreachable
            return answers

    async def close(self) -> None:
        """Close what is idle, and wait for it. Attempts under way close their own."""
        self._is_closed = True
        for known in self._known.values():
            for idle in known.idle.values():
                for connection in list(idle):
                    self._retire(idle, connection)
        while self._closing:
            await asyncio.wait(self._closing)

    async def _take(self, known: _Destination, hop: Hop, host: Host) -> Connection | Unreachable:
        idle = known.idle.get(host)
        while idle:
            connection, timer = idle.popitem()  # the newest: the older ones may run out
            timer.cancel()
            if connection.can_send:
                return connection
            self._close_soon(connection)
        return await self._dialer.open(hop, host)

    def _give(self, known: _Destination, connection: Connection) -> None:
        if self._is_closed or self._kept_s <= 0 or not connection.can_send:
            self._close_soon(connection)
            return
        idle = known.idle.setdefault(connection.host, {})
        loop = asyncio.get_running_loop()
        idle[connection] = loop.call_later(self._kept_s, self._retire, idle, connection)

    def _retire(self, idle: dict[Connection, asyncio.TimerHandle], connection: Connection) -> None:
        idle.pop(connection).cancel()
        self._close_soon(connection)

    def _close_soon(self, connection: Connection) -> None:
        """Nobody waits for a goodbye."""
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _share(why: Unreachable, host: Host, errand: Errand) -> list[Answered]:
    return [Answered(Outcome(r, why.reply, why.phase, is_ours=True), host) for r in errand.recipients]
