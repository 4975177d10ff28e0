"""Mail to a list goes on as what the list makes of it, in one settlement; copies look as the list says, each time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gatepost import on
from gatepost.delivery import Discard, Maildir, Relay
from gatepost.delivery.carrying import LIST
from gatepost.delivery.route import Security, ToList
from gatepost.delivery.settlement import Arrival, Result
from gatepost.delivery.submission import ASKED, PARTS, Submission
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Reply
from gatepost.store import Deposit, Entry, Fate
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.delivery_plugins import Plugins
from unit.delivery.test_delivery_runner import House, running

MEMBERS = ("ann@y.example", "bob@y.example", "eve@z.example")
POST = Bytes(b"Subject: x\r\n\r\nhello\r\n")


class Written:
    """How copies look: with a return path of each member's own, or without."""

    def __init__(self, *, each: bool) -> None:
        self.each = each
        self.asked: list[tuple[str, ...]] = []

    def of(self, recipients: Sequence[Recipient]) -> tuple[Path, Blob]:
        self.asked.append(tuple(one.local for one in recipients))
        name = "-".join(one.local for one in recipients) if self.each else "all"
        return Path(f"bounces+{name}", "own.example"), Bytes(b"List-Id: <l>\r\n" + POST.read())


class Lists:
    """delivery's Lists: copies in two entries, or whatever is to be said."""

    def __init__(self, *, each: bool = True, refusal: Reply | None = None) -> None:
        self.written = Written(each=each)
        self.refusal = refusal
        self.taken: list[tuple[str, str]] = []

    async def take(self, name: str, entry: Entry, recipient: Recipient) -> Result:
        self.taken.append((name, recipient.address))
        if self.refusal is not None:
            fate = Fate.FAILED if self.refusal.is_permanent else Fate.LATER
            return Result(recipient, fate, self.refusal, is_ours=True)
        deposits = tuple(
            Deposit(
                entry.ticket,
                Envelope(Path("bounces", "own.example"), tuple(Recipient(Path.parse(one)) for one in members)),
                POST,
                entry.received_at,
                part=(entry.part + 1) * PARTS + number,
                facts={LIST: name, ASKED: "submitted"},
            )
            for number, members in enumerate((MEMBERS[:2], MEMBERS[2:]))
        )
        return Result(recipient, Fate.DONE, arrival=Arrival.PASSED_ON, deposits=deposits)

    async def copies(self, entry: Entry) -> Written | None:
        return self.written if LIST in entry.facts else None


def house_of(lists: Lists | None, *hooks: object) -> House:
    plugins = Plugins(*hooks)
    submission = Submission(lambda: plugins.dispatcher, patience=plugins.patience, recorder=plugins.records)
    house = House(lists=lambda: lists, submission=submission)
    house.route("news@own.example", ToList("news"))
    return house


@pytest.mark.parametrize("each", [True, False])
async def test_copies_by_smtp(each: bool) -> None:
    lists = Lists(each=each)
    async with Peer(polite(), polite(), polite()) as peer, running(house_of(lists)) as house:
        house.route("*", Relay((peer.host,), Security.NONE))
        await house.accept("news@own.example")
        await house.hears(4)
        assert lists.taken == [("news", "news@own.example")]
        assert sorted(lists.written.asked) == ([("ann",), ("bob",), ("eve",)] if each else [("ann", "bob"), ("eve",)])
        mails = sorted(line for heard in peer.heard for line in heard if line.startswith("MAIL"))
        names = ["ann", "bob", "eve"] if each else ["all", "all"]
        assert [line.partition(">")[0] for line in mails] == [
            f"MAIL FROM:<bounces+{name}@own.example" for name in names
        ]
        assert all(content.startswith(b"List-Id: <l>\r\nSubject: x\r\n") for content in peer.mail)
        assert house.spool.counts().queued == 0


async def test_copies_into_maildrops() -> None:
    async with running(house_of(Lists())) as house:
        house.route("*", Maildir())
        await house.accept("news@own.example")
        await house.hears(4)
        assert sorted(address for _, address, _ in house.drop.copies) == sorted(MEMBERS)
        assert {content for _, _, content in house.drop.copies} == {b"List-Id: <l>\r\n" + POST.read()}


async def test_the_post_leaves_in_the_very_step_in_which_its_copies_come() -> None:
    house = house_of(Lists())
    seen: list[tuple[str, int]] = []
    settle = house.spool.settle

    async def settled(id, outcomes, *, deposits=(), **more):
        seen.append((",".join(outcome.fate.value for outcome in outcomes), len(deposits)))
        await settle(id, outcomes, deposits=deposits, **more)

    house.spool.settle = settled
    async with running(house):
        house.route("*", Discard())
        await house.accept("news@own.example", "other@own.example")
        await house.hears(5)
    assert seen == [("done,done", 2), ("done,done", 0), ("done", 0)]


async def test_a_refusal_for_now_waits_and_one_for_good_is_told() -> None:
    async with running(house_of(Lists(refusal=Reply(451, "4.3.0", "not now")))) as house:
        await house.accept("news@own.example")
        assert await house.hears(1) == ["deferred news@own.example 451 1300"]
    async with running(house_of(Lists(refusal=Reply(550, "5.7.1", "not you")))) as house:
        house.route("*", Maildir())
        await house.accept("news@own.example")
        assert "bounced news@own.example 550 sender" in await house.hears(2)


async def test_without_lists_mail_for_them_waits() -> None:
    async with running(house_of(None)) as house:
        await house.accept("news@own.example")
        assert await house.hears(1) == ["deferred news@own.example 451 1300"]


async def test_plugins_see_the_post_before_and_the_members_after_it_is_expanded() -> None:
    seen: list[tuple[str, list[str]]] = []

    @on("submitted")
    async def before(event):
        seen.append(("submitted", [one.local for one in event.recipients]))

    @on("expanded")
    async def after(event):
        seen.append(("expanded", [one.local for one in event.recipients]))

    async with running(house_of(Lists(), before, after)) as house:
        house.route("*", Maildir())
        await house.accept("news@own.example")
        await house.hears(4)
    assert seen[0] == ("submitted", ["news"])
    assert sorted(seen[1:]) == [("expanded", ["ann", "bob"]), ("expanded", ["eve"])]
