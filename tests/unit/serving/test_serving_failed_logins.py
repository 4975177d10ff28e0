"""Failed logins that count over sessions: who waits, who is sent away, and who isn't concerned."""

import asyncio
import base64
from ipaddress import ip_address, ip_network

import pytest

from gatepost.app.settings.problems import SettingsError
from gatepost.app.settings.root import Settings
from gatepost.hooks.api import on, refuse
from gatepost.hooks.verdicts import Credentials, Deny
from gatepost.serving.failed_logins import FAR, WAITING, WAITING_OF_ONE, FailedLogins
from gatepost.store.ledger import LedgerError, MemoryLedger
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import greet, plugins

MOST = 4
LONGEST_S = 20.0
KEYS = {"salt": b"salt", "iterations": 1, "stored_key": bytes(32), "server_key": bytes(32)}  # of no password
HERE, NEAR, THERE = (ip_address(text) for text in ("192.0.2.1", "2001:db8::1", "203.0.113.9"))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Counting(MemoryLedger):
    """A ledger that says how often it was asked."""

    asked = 0

    async def get(self, space, key):
        self.asked += 1
        return await super().get(space, key)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return Counting(clock)


@pytest.fixture
def limits(clock, ledger):
    return FailedLogins(ledger, clock, most=MOST, within_s=600.0, longest_s=LONGEST_S, unix=clock)


@pytest.fixture
def slept(monkeypatch):
    """Seconds that somebody would have waited."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("gatepost.serving.failed_logins.asyncio.sleep", sleep)
    return waits


async def fail(limits, times, user="ann", peer=HERE):
    for _ in range(times):
        await limits.failed(user, peer)


async def test_some_failures_are_anybodys_then_logins_wait_longer_each_time_and_then_arent_heard(limits):
    await fail(limits, MOST - 1, "bob")
    assert await limits.ahead("ann", HERE) is None
    waits = []
    for count in range(MOST, FAR * MOST):
        await fail(limits, 1, f"user{count}")
        hold = await limits.ahead("ann", HERE)
        waits.append(hold.wait_s)
        assert not hold.is_final and f"{count} failed logins of 192.0.2.1" in hold.why
    assert waits == sorted(waits) and waits[0] == 1.0 and waits[-1] == LONGEST_S
    await fail(limits, 1)
    assert (await limits.ahead("ann", HERE)).is_final
    assert await limits.ahead("eve", THERE) is None


async def test_a_v6_guesser_moves_within_his_64_for_nothing(limits):
    for host in range(FAR * MOST):
        await fail(limits, 1, f"user{host}", ip_address(f"2001:db8::{host:x}"))
    assert (await limits.ahead("ann", ip_address("2001:db8::ffff"))).is_final
    assert await limits.ahead("ann", ip_address("2001:db8:0:1::1")) is None


async def test_many_peers_after_one_name_wait_but_nobody_is_ever_locked_out(limits, slept):
    for host in range(20 * MOST):
        await fail(limits, 1, "Ann", ip_address(f"198.51.100.{host}"))
    hold = await limits.ahead("ANN", THERE)
    assert not hold.is_final and hold.wait_s == LONGEST_S and hold.is_shared
    assert await limits.ahead("bob", THERE) is None


async def test_who_is_known_at_an_address_goes_by_his_own_failures(limits):
    await limits.succeeded("ann", HERE)
    await fail(limits, FAR * MOST, "bob")
    assert (await limits.ahead("bob", HERE)).is_final
    assert await limits.ahead("ann", HERE) is None  # behind the same NAT
    for host in range(20 * MOST):
        await fail(limits, 1, "ann", ip_address(f"198.51.100.{host}"))
    assert await limits.ahead("ann", HERE) is None  # and whoever else is after her name
    await fail(limits, MOST, "ann")
    assert (await limits.ahead("ann", HERE)).wait_s == 1.0
    await fail(limits, FAR * MOST, "ann")
    assert (await limits.ahead("ann", HERE)).is_final
    assert not (await limits.ahead("ann", THERE)).is_final


async def test_from_an_exempted_network_only_names_count(clock, ledger):
    webmail = ip_network("192.0.2.0/28")
    limits = FailedLogins(ledger, clock, most=MOST, within_s=600.0, longest_s=LONGEST_S, unix=clock, exempt=[webmail])
    for count in range(10 * FAR * MOST):
        await fail(limits, 1, f"user{count}")
    assert await limits.ahead("ann", HERE) is None  # whoever else has slipped there
    await fail(limits, FAR * MOST, "bob")
    hold = await limits.ahead("bob", HERE)
    assert not hold.is_final and hold.is_shared and hold.wait_s == LONGEST_S  # nobody is ever locked out
    assert not (await limits.ahead("bob", THERE)).is_final
    await limits.succeeded("ann", HERE)
    await fail(limits, FAR * MOST, "ann")
    hold = await limits.ahead("ann", HERE)
    assert not hold.is_final and hold.wait_s == LONGEST_S
    assert await limits.ahead("ann", THERE) is None
    await fail(limits, FAR * MOST, "eve", THERE)
    assert (await limits.ahead("ann", THERE)).is_final  # elsewhere addresses count as ever


async def test_more_of_an_exempted_network_wait_at_a_time(clock, ledger):
    limits = FailedLogins(
        ledger, clock, most=MOST, within_s=600.0, longest_s=LONGEST_S, unix=clock, exempt=[ip_network("192.0.2.1")]
    )
    await fail(limits, MOST)
    hold = await limits.ahead("ann", HERE)
    waiting = [asyncio.ensure_future(limits.wait(hold, HERE)) for _ in range(WAITING)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    assert await limits.wait(hold, HERE) is await limits.wait(hold, THERE) is False
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_comes_again_stays_known(limits, clock):
    day = 86400
    for _ in range(2):
        await limits.succeeded("ann", HERE)
        clock.now += 29 * day
        assert await limits.ahead("ann", HERE) is None
    await fail(limits, FAR * MOST, "bob")
    assert await limits.ahead("ann", HERE) is None
    clock.now += 31 * day
    await fail(limits, FAR * MOST, "bob")
    assert (await limits.ahead("ann", HERE)).is_final


async def test_a_name_is_one_however_it_is_written(limits):
    for host in range(MOST):
        name = "J\u00f6rg" if host % 2 else "JO\u0308RG"
        await fail(limits, 1, name, ip_address(f"198.51.100.{host}"))
    assert (await limits.ahead("j\u00f6rg", THERE)).wait_s == 1.0


async def test_failures_are_forgotten(limits, clock):
    await fail(limits, FAR * MOST)
    clock.now += 1300
    assert await limits.ahead("ann", HERE) is None
    await fail(limits, 1)
    clock.now += 3
    assert await limits.ahead("ann", HERE) is None


async def test_other_workers_count_with_it(limits, clock, ledger):
    other = FailedLogins(ledger, clock, most=MOST, within_s=600.0, longest_s=LONGEST_S, unix=clock)
    assert await other.ahead("ann", HERE) is None
    await fail(limits, FAR * MOST)
    clock.now += 2.1  # what another worker has counted may be seen so late
    assert (await other.ahead("ann", HERE)).is_final


async def test_a_login_that_nothing_is_known_of_asks_the_ledger_once_for_a_while(limits, ledger, clock):
    await limits.ahead("ann", HERE)
    asked = ledger.asked
    for _ in range(10):
        assert await limits.ahead("ann", HERE) is None
    assert (asked, ledger.asked) == (3, 3)


async def test_only_so_many_wait(limits):
    await fail(limits, MOST)
    hold = await limits.ahead("ann", HERE)
    waiting = [asyncio.ensure_future(limits.wait(hold, HERE)) for _ in range(WAITING_OF_ONE)]
    await asyncio.sleep(0)
    assert await limits.wait(hold, HERE) is False
    elsewhere = asyncio.ensure_future(limits.wait(hold, THERE))
    await asyncio.sleep(0)
    assert not elsewhere.done()
    for task in (*waiting, elsewhere):
        task.cancel()
    await asyncio.gather(*waiting, elsewhere, return_exceptions=True)
    assert limits._waiting.total() == 0  # a client that goes away makes room


async def test_a_ledger_that_fails_keeps_nobody_out(clock):
    class Broken:
        async def get(self, *_):
            raise LedgerError("disk")

        put = count = get

    limits = FailedLogins(Broken(), clock, most=1, within_s=600.0, longest_s=LONGEST_S, unix=clock)
    await fail(limits, 10)
    await limits.succeeded("ann", HERE)
    assert await limits.ahead("ann", HERE) is None


# ── in sessions ────────────────────────────────────────────────────────────────────────────────────────────────────


class Users:
    asked = 0

    async def verify(self, name, password):
        self.asked += 1
        return name if password == "right" else None

    async def scram_keys(self, name):
        return None


def settings(**limits):
    listener = {"address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True}
    return Settings.in_memory(hostname="mx.test", listen=[listener], limits=limits)


def plain(password, user="ann"):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


async def test_O5_a_password_is_guessed_over_many_sessions(clock, slept):
    users = Users()
    wanted = settings(auth_failures=MOST, auth_failures_within="10m", auth_attempts=1)
    async with Rig(settings=wanted, users=users, facts=MemoryLedger(clock)) as rig:

        async def guess(password, ip="192.0.2.1"):
            client = rig.connect(ip)
            await greet(client)
            return await client.command(plain(password))

        assert (await guess("right", "203.0.113.9")).startswith("235")
        for _ in range(FAR * MOST):
            assert (await guess("wrong")).startswith("535")
        looked_at = users.asked
        assert (await guess("wrong")).startswith("421 4.7.0 too many failed logins")
        assert (await guess("right")).startswith("421")
        assert users.asked == looked_at
        assert len(slept) == (FAR - 1) * MOST and slept[-1] == LONGEST_S
        assert (await guess("right", "203.0.113.9")).startswith("235")  # she who is known there doesn't wait
        assert len(slept) == (FAR - 1) * MOST
        assert (await guess("right", "198.51.100.7")).startswith("235")  # and from anywhere else she does, and comes in
        assert slept[-1] == LONGEST_S
        records = rig.records.kinds("auth")
        assert records[-1]["waited"].startswith("20.0 s, after 20 failed logins of ann in 600 s")
        assert "20 failed logins of 192.0.2.1 in 600 s" in [one.get("failed") for one in records]


@pytest.mark.parametrize(
    ("said", "counts"),
    [(Deny("no"), True), (Credentials(KEYS), True), (refuse("no"), True), (refuse(550, "5.7.1", "closed"), False)],
)
async def test_what_a_plugin_calls_a_wrong_password_counts_too(clock, slept, said, counts):
    @on("auth")
    async def decides(event):
        return said

    wanted = settings(auth_failures=1, auth_failures_within="10m")
    async with Rig(plugins(decides), settings=wanted, users=Users(), facts=MemoryLedger(clock)) as rig:
        client = rig.connect()
        await greet(client)
        for _ in range(2):
            assert (await client.command(plain("guess"))).startswith("5")
        assert bool(slept) is counts


@pytest.mark.parametrize(("guessed", "said"), [("eve", "421 4.7.0 too many failed"), ("ann", "235")])
async def test_where_too_many_wait_only_failures_of_the_address_send_away(clock, monkeypatch, guessed, said):
    async def too_many(hold, peer):
        return False

    wanted = settings(auth_failures=MOST)
    async with Rig(settings=wanted, users=Users(), facts=MemoryLedger(clock)) as rig:
        limits = rig.place.failed_logins
        monkeypatch.setattr(limits, "wait", too_many)
        await fail(limits, MOST, guessed, HERE if guessed == "eve" else THERE)
        client = rig.connect(str(HERE))
        await greet(client)
        assert (await client.command(plain("right"))).startswith(said)


async def test_who_logs_in_by_another_name_of_his_is_known_by_that(clock, slept):
    class Aliases(Users):
        async def verify(self, name, password):
            return "ann" if password == "right" else None

    async with Rig(settings=settings(auth_failures=1), users=Aliases(), facts=MemoryLedger(clock)) as rig:
        for _ in range(2):
            client = rig.connect("192.0.2.1")
            await greet(client)
            assert (await client.command(plain("right", "a.miller"))).startswith("235")
            await fail(rig.place.failed_logins, FAR, "eve", HERE)
        assert not slept


async def test_the_settings_say_who_is_exempted(clock, slept):
    wanted = settings(auth_failures=1, auth_failures_exempt="192.0.2.0/24")
    async with Rig(settings=wanted, users=Users(), facts=MemoryLedger(clock)) as rig:
        client = rig.connect("192.0.2.1")
        await greet(client)
        for user in ("bob", "eve", "kim"):
            assert (await client.command(plain("wrong", user))).startswith("535")
        assert not slept
    with pytest.raises(
        SettingsError, match=r'in "0\.0\.0\.0/0" is nearly everybody, so the limit would hold for nobody'
    ):
        settings(auth_failures_exempt=["0.0.0.0/0"])


async def test_nothing_is_counted_where_nobody_wants_it(clock):
    async with Rig(settings=settings(auth_failures=0), facts=MemoryLedger(clock)) as rig:
        assert rig.place.failed_logins is None
