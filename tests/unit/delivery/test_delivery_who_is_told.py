"""Who is told, through the runner and real sockets: what was asked for, as next servers do or don't know it."""

from __future__ import annotations

from contract.report_grammar import check_report
from gatepost.content.batv import Batv, is_signed
from gatepost.content.srs import Srs
from gatepost.delivery import Host, Lmtp, Maildir, Policy, Relay
from gatepost.delivery.notice import Manner
from gatepost.delivery.return_paths import ReturnPaths
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store import Deposit
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.test_delivery_runner import TOKEN, House, running

CONTENT = Bytes(b"Subject: x\r\n\r\nhello\r\n")


def actions(house: House) -> list[tuple[str, str]]:
    """Whom the reports in the sender's maildrop are about, and what they say."""
    found = []
    for _, to, content in house.drop.copies:
        if to == "a@own.example":
            _, blocks = check_report(content)
            found += [(block["Final-Recipient"].partition("; ")[2], block["Action"]) for block in blocks[1:]]
    return sorted(found)


async def accept(house: House, *to: Recipient, sender: str = "a@own.example", **asked: str) -> None:
    envelope = Envelope(Path.parse(sender), to, parameters=asked)
    await house.spool.commit([Deposit(Ticket(TOKEN, 1), envelope, CONTENT, house.now)])


def wants(address: str, **parameters: str) -> Recipient:
    return Recipient(Path.parse(address), parameters)


async def test_a_success_is_reported_by_whoever_knows_of_it() -> None:
    peers = Peer(polite()), Peer(polite(offers="DSN")), Peer(polite())
    async with peers[0] as blind, peers[1] as knowing, peers[2] as inner, running(House()) as house:
        house.route("*@blind.example", Relay((Host("127.0.0.1", blind.port),)))
        house.route("*@knowing.example", Relay((Host("127.0.0.1", knowing.port),)))
        house.route("*@inner.example", Lmtp((Host("127.0.0.1", inner.port),)))
        house.route("*", Maildir())
        domains = ("blind", "knowing", "inner", "local")
        to = [wants(f"r@{domain}.example", NOTIFY="SUCCESS", ORCPT="rfc822;o@x.example") for domain in domains]
        await accept(house, *to, wants("quiet@local.example"), ENVID="QQ+2B1", RET="HDRS")
        await house.hears(5 + 2)
        assert actions(house) == [
            ("r@blind.example", "relayed"),
            ("r@inner.example", "delivered"),
            ("r@local.example", "delivered"),
        ]
        [heard] = knowing.heard
        assert next(line for line in heard if line.startswith("MAIL")).endswith(" RET=HDRS ENVID=QQ+2B1")
        assert next(line for line in heard if line.startswith("RCPT")).endswith(
            " NOTIFY=SUCCESS ORCPT=rfc822;o@x.example"
        )
        assert not any("NOTIFY" in line or "ENVID" in line for line in blind.heard[0])


async def test_a_failure_nobody_wants_to_hear_of_is_only_recorded() -> None:
    async with Peer(polite(("RCPT*", "550 5.1.1 no such user"))) as peer, running(House()) as house:
        house.route("*@y.example", Relay((Host("127.0.0.1", peer.port),)))
        house.route("*", Maildir())
        await accept(house, wants("bob@y.example", NOTIFY="NEVER"))
        assert await house.hears(1) == ["bounced bob@y.example 550 nobody, as the sender asked"]
        assert house.drop.copies == []
        assert house.spool.counts().queued == house.spool.counts().held == 0


async def test_a_delay_is_told_once_and_remembered() -> None:
    async with Peer(*[polite(("RCPT*", "451 4.2.0 busy"))] * 3) as peer, running(House()) as house:
        manner(house, Manner(warn_s=3600.0))
        house.route("*@y.example", Relay((Host("127.0.0.1", peer.port),)))
        house.route("*", Maildir())
        await accept(house, wants("bob@y.example"))
        await house.hears(1)
        assert actions(house) == []
        for _ in range(2):
            house.now += 4 * 3600
            words = len(house.told.words)
            house.runner.wake()
            await house.hears(words + (2 if not actions(house) else 1))
        assert actions(house) == [("bob@y.example", "delayed")]
        [entry] = await house.spool.entries()
        assert entry.notes["warned"] == str(1000 + 4 * 3600)


async def test_return_paths_of_what_leaves() -> None:
    srs, batv = Srs("own.example", (b"a secret",)), Batv((b"a secret",))
    paths = ReturnPaths(lambda path: path.domain == "own.example", srs, ("*@y.example",), batv)
    async with Peer(polite(), polite()) as peer, running(House()) as house:
        manner(house, Manner(return_paths=paths))
        house.route("*", Relay((Host("127.0.0.1", peer.port),)))
        for sender in ("eve@foreign.example", "a@own.example"):
            await house.accept("bob@y.example", sender=sender)
        await house.hears(2)
        said = [line for heard in peer.heard for line in heard if line.startswith("MAIL")]
        senders = [Path.parse(line.partition("<")[2].partition(">")[0]) for line in said]
        back = {str(batv.check(one, house.now) if is_signed(one) else srs.reverse(one, house.now)) for one in senders}
        assert back == {"eve@foreign.example", "a@own.example"}


def manner(house: House, made: Manner) -> None:
    policy = house.runner._policy
    house.runner._policy = house.runner._carrier._policy = Policy(
        policy.hostname, policy.postmaster, policy.is_own, policy.new_ticket, manner=lambda: made
    )
