"""Aliases at delivery: new entries in the settlement that ends the alias, each target once, loops ended, order kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import pytest

from gatepost import on, tempfail
from gatepost.delivery import Discard, Limits, Maildir
from gatepost.delivery.expanding import ALIASED, Expansion
from gatepost.delivery.ports import MailboxFull
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store import Deposit, SpoolFailure
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from unit.delivery.test_delivery_runner import TOKEN, House, running
from unit.delivery.test_delivery_submission import gone, house_with, is_held, kept

TARGETS = {
    "info@own.example": ("ann@own.example", "bob@far.example"),
    "all@own.example": ("Ann@own.example", "cat@own.example"),
    "ann@own.example": ("ann@own.example", "copy@far.example"),
    "boss@own.example": ("cat@own.example",),
}
BODY = b"Subject: x\r\n\r\nhello\r\n"


class Aliases:
    """As the port."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def targets(self, address: Path) -> tuple[Path, ...] | None:
        if self.error is not None:
            raise self.error
        found = TARGETS.get(address.address)
        return None if found is None else tuple(map(Path.parse, found))

    async def person(self, address: Path) -> str:
        return address.address.lower().replace("anne@", "ann@")


def made(*hooks, **how) -> House:
    aliases = Aliases()
    house = house_with(*hooks, aliases=lambda: aliases, **how) if hooks else House(aliases=lambda: aliases, **how)
    house.aliases = aliases
    if not hooks:
        house.route("*", Maildir())
    return house


def to(address: str) -> bytes:
    return f"Delivered-To: {address}\r\n".encode() + BODY


async def test_an_alias_goes_on_to_each_of_its_targets() -> None:
    house = made()
    async with running(house):
        await house.accept("info@own.example")
        words = await house.hears(3)
        copies = await gone(house)
    assert copies == {"ann@own.example": to("info@own.example"), "bob@far.example": to("info@own.example")}
    assert words == ["delivered ann@own.example -", "delivered bob@far.example -", "delivered info@own.example 250"]


async def test_the_mailbox_of_the_same_address_keeps_a_copy_and_isnt_expanded_again() -> None:
    house = made()
    async with running(house):
        await house.accept("ann@own.example")
        assert set(await gone(house)) == {"ann@own.example", "copy@far.example"}


async def test_who_is_there_already_isnt_written_to_twice_and_stays_as_he_is() -> None:
    house = made()
    async with running(house):
        await house.accept("info@own.example", "all@own.example", "bob@far.example")
        await house.hears(5)
        await gone(house)
    assert sorted(address for _, address, _ in house.drop.copies) == [
        "ann@own.example",
        "bob@far.example",
        "cat@own.example",
    ]
    assert dict((address, content) for _, address, content in house.drop.copies)["bob@far.example"] == BODY


@pytest.mark.parametrize(("sender", "how"), [("a@own.example", "sender"), ("a@far.example", "postmaster")])
async def test_what_has_been_there_before_fails(sender: str, how: str) -> None:
    house = made()
    content = Bytes(b"Delivered-To: someone@far.example\r\ndelivered-to:  INFO@own.example\r\n" + BODY)
    async with running(house):
        await house.accept("info@own.example", "all@own.example", sender=sender, content=content)
        await house.until(lambda: any(word.startswith("bounced") for word in house.told.words))
        left = [entry for entry in await house.spool.entries() if is_held(entry)]
    assert f"bounced info@own.example 554 {how}" in house.told.words
    assert bool(left) == (how == "postmaster")
    assert {address for _, address, _ in house.drop.copies} >= {"Ann@own.example", "cat@own.example"}


async def test_submitted_is_asked_about_the_alias_and_expanded_about_the_targets() -> None:
    seen = []

    @on("submitted")
    async def before(event):
        seen.append(("submitted", sorted(map(str, event.transaction.recipients))))

    @on("expanded")
    async def after(event):
        seen.append(("expanded", sorted(map(str, event.transaction.recipients))))

    house = made(before, after)
    async with running(house):
        await house.accept("info@own.example", "dora@own.example")
        await gone(house)
    assert seen[0] == ("submitted", ["dora@own.example", "info@own.example"])
    assert sorted(seen[1:]) == [
        ("expanded", ["ann@own.example", "bob@far.example"]),
        ("expanded", ["dora@own.example"]),
    ]


async def test_what_the_sender_wants_to_hear_goes_on_with_the_address_he_wrote_to() -> None:
    house = made()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("info@own.example")
        [entry] = await kept(house, 1, lambda entry: ALIASED in entry.facts and entry.attempts)
    assert [one.parameters for one in entry.envelope.recipients] == [{}, {}]
    house = made()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("cat@own.example")
        [entry] = await kept(house, 1, lambda entry: entry.attempts)
        assert ALIASED not in entry.facts
    asked = Recipient(Path.parse("info@own.example"), {"NOTIFY": "SUCCESS"})
    ann = Path.parse("ann@own.example")
    settled = Expansion({asked: (ann,)}, {ann: "ann"}).settled(
        replace(entry, envelope=replace(entry.envelope, recipients=(asked,))), 5.0, house.policy
    )
    [deposit] = settled.deposits
    [target] = deposit.envelope.recipients
    assert target.parameters == {"NOTIFY": "SUCCESS", "ORCPT": "rfc822;info@own.example"}
    assert settled.next_attempt is None


async def accepted(house: House, *recipients: Recipient, sender: str = "a@own.example") -> None:
    envelope = Envelope(Path.parse(sender), recipients)
    await house.spool.commit([Deposit(Ticket(TOKEN, 1), envelope, Bytes(BODY), house.now)])


def asking(address: str, notify: str, **more: str) -> Recipient:
    return Recipient(Path.parse(address), {"NOTIFY": notify, **more})


async def waiting(house: House, number: int) -> dict[str, dict[str, str]]:
    """What is known of each recipient whose mail can't be delivered."""
    entries = await kept(house, number, lambda entry: entry.attempts)
    return {one.address: dict(one.parameters) for entry in entries for one in entry.envelope.recipients}


@pytest.mark.parametrize(
    ("notify", "left"),
    [("SUCCESS", "NEVER"), ("success,FAILURE,DELAY", "FAILURE,DELAY"), ("FAILURE", "FAILURE"), ("NEVER", "NEVER")],
)
async def test_of_several_a_sender_hears_that_it_went_on_and_of_failures(notify: str, left: str) -> None:
    house = made()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await accepted(house, asking("info@own.example", notify))
        is_told = "success" in notify.lower()
        known = await waiting(house, 1 + is_told)
    orcpt = {"NOTIFY": left, "ORCPT": "rfc822;info@own.example"}
    assert known.pop("ann@own.example") == orcpt and known.pop("bob@far.example") == orcpt
    assert known == ({"a@own.example": {}} if is_told else {})
    reports = [deposit.content.read() for _, deposit in house.told.wrote]
    assert len(reports) == is_told
    for report in reports:
        assert b"\r\nFinal-Recipient: rfc822; info@own.example\r\nAction: expanded\r\nStatus: 2.0.0\r\n" in report
        assert b"ann@own.example" not in report and b"bob@far.example" not in report


async def test_of_one_he_hears_what_he_has_asked_for() -> None:
    house = made()
    async with running(house):
        await accepted(house, asking("boss@own.example", "SUCCESS", ORCPT="rfc822;chief@far.example"))
        await kept(house, 0)
    [(_, deposit)] = house.told.wrote
    report = deposit.content.read()
    assert b"\r\nOriginal-Recipient: rfc822; chief@far.example\r\n" in report
    assert b"\r\nAction: delivered\r\n" in report


async def test_of_one_who_has_it_anyway_he_hears_that_it_went_on() -> None:
    house = made()
    async with running(house):
        await accepted(house, asking("boss@own.example", "SUCCESS"), Recipient(Path.parse("cat@own.example")))
        await kept(house, 0)
    assert [address for _, address, _ in house.drop.copies] == ["cat@own.example", "a@own.example"]
    assert b"\r\nAction: expanded\r\n" in house.told.wrote[0][1].content.read()


async def test_of_several_he_hears_the_same_where_all_but_one_have_it() -> None:
    house = made()
    async with running(house):
        await accepted(house, asking("info@own.example", "SUCCESS"), Recipient(Path.parse("bob@far.example")))
        await kept(house, 0)
    [(_, deposit)] = house.told.wrote
    assert b"\r\nAction: expanded\r\n" in deposit.content.read()


@pytest.mark.parametrize("sender", ["a@far.example", ""])
async def test_a_stranger_hears_nothing_of_it(sender: str) -> None:
    house = made()
    async with running(house):
        await accepted(house, asking("info@own.example", "SUCCESS"), sender=sender)
        await gone(house)
    assert house.told.wrote == [] and len(house.drop.copies) == 2


async def test_what_loops_fails_and_says_nothing_of_a_success() -> None:
    house = made()
    async with running(house):
        envelope = Envelope(Path.parse("a@own.example"), (asking("info@own.example", "SUCCESS,FAILURE"),))
        await house.spool.commit([Deposit(Ticket(TOKEN, 1), envelope, Bytes(to("info@own.example")), house.now)])
        await kept(house, 0)
    [(_, deposit)] = house.told.wrote
    assert b"\r\nAction: failed\r\nStatus: 5.4.6\r\n" in deposit.content.read()


async def test_a_maildrop_gets_one_copy_by_whichever_address() -> None:
    house = made()
    async with running(house):
        await house.accept("anne@own.example", "info@own.example", "all@own.example")
        await gone(house)
    assert sorted(address for _, address, _ in house.drop.copies) == [
        "anne@own.example",
        "bob@far.example",
        "cat@own.example",
    ]


async def test_two_addresses_elsewhere_are_two_people() -> None:
    house = made()
    house.routes[:] = []
    house.route("anne@own.example", Discard())
    house.route("*", Maildir())
    async with running(house):
        await house.accept("anne@own.example", "info@own.example")
        assert sorted(await gone(house)) == ["ann@own.example", "bob@far.example"]


async def test_who_waits_may_become_an_alias_and_his_entries_are_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    house = made()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("info@own.example", "dora@own.example", "fred@own.example")
        first = await kept(house, 2, lambda entry: entry.attempts)
        assert [entry.attempts for entry in first] == [1, 1]  # that it goes on is no attempt
        seen = {entry.id for entry in first}
        for number, (name, target) in enumerate([("dora", "emil"), ("fred", "gus")]):
            monkeypatch.setitem(TARGETS, f"{name}@own.example", (f"{target}@own.example",))
            house.now += 10_000
            house.runner.wake()
            found = await kept(house, 3, lambda it, last=number: it.attempts and (not last or ALIASED in it.facts))
            seen |= {entry.id for entry in found}
        house.drop.error = None
        house.now += 10_000
        house.runner.wake()
        await gone(house)
    assert len(seen) == 4
    assert sorted(address for _, address, _ in house.drop.copies) == [
        "ann@own.example",
        "bob@far.example",
        "emil@own.example",
        "gus@own.example",
    ]


@pytest.mark.parametrize("is_put_off", [False, True])
async def test_after_a_reload_expanded_is_asked_about_the_targets_only(
    monkeypatch: pytest.MonkeyPatch, is_put_off: bool
) -> None:
    seen: list[tuple[str, list[str]]] = []

    @on("submitted")
    async def before(event):
        if is_put_off and not seen:
            seen.append(("put off", []))
            return tempfail(451, "4.7.1", "not now")
        seen.append(("submitted", sorted(map(str, event.transaction.recipients))))

    @on("expanded")
    async def after(event):
        seen.append(("expanded", sorted(map(str, event.transaction.recipients))))

    house = made(before, after)
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("cat@own.example", "dora@own.example")
        await kept(house, 1, lambda entry: entry.attempts)
        monkeypatch.setitem(TARGETS, "dora@own.example", ("emil@own.example",))
        house.now += 10_000
        house.runner.wake()
        await kept(house, 2, lambda entry: entry.attempts)
    both = ["cat@own.example", "dora@own.example"]
    alone = [("expanded", ["cat@own.example"]), ("expanded", ["emil@own.example"])]
    if is_put_off:
        assert seen[:2] == [("put off", []), ("submitted", both)] and sorted(seen[2:]) == alone
    else:
        assert seen == [("submitted", both), ("expanded", both), ("expanded", ["emil@own.example"])]


async def test_what_isnt_ascii_is_no_original_recipient_of_this_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "jörg@own.example", ("emil@own.example",))
    house = made()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await accepted(house, asking("jörg@own.example", "FAILURE"))
        assert await waiting(house, 1) == {"emil@own.example": {"NOTIFY": "FAILURE"}}
        [entry] = await house.spool.entries()
        assert entry.envelope.smtputf8 and "jörg@own.example".encode() in entry.content.read()


async def test_where_nobody_can_be_found_it_waits() -> None:
    house = made()
    house.aliases.error = OSError("the users can't be read")
    async with running(house):
        await house.accept("info@own.example")
        [entry] = await kept(house, 1, lambda entry: entry.next_attempt is not None and entry.next_attempt > house.now)
    assert [*map(str, entry.envelope.recipients)] == ["info@own.example"] and not house.drop.copies


async def test_a_settlement_that_fails_leaves_the_alias_and_no_copy_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    house = made(limits=Limits(settle_again_s=0.01))
    really, failed = house.spool.settle, []

    async def settle(*what, **how):
        if not failed:
            failed.append(how["deposits"])
            raise SpoolFailure("the disk is full")
        await really(*what, **how)

    monkeypatch.setattr(house.spool, "settle", settle)
    async with running(house):
        await house.accept("info@own.example")
        await gone(house)
    assert len(house.drop.copies) == 2 and len(failed[0]) == 1


async def test_a_full_mailbox_is_tried_again() -> None:
    house = made()
    house.drop.error = MailboxFull("ann@own.example")
    async with running(house):
        await house.accept("cat@own.example")
        assert (await house.hears(1))[0].startswith("deferred cat@own.example 452 ")


async def test_large_content_goes_on_whole_from_the_disk(tmp_path: File) -> None:
    house = made(spool=await open_shard(tmp_path, RealFiles(), lambda: 1000.0))
    content = BODY + b"x" * 70 + b"\r\n" * 100_000
    async with running(house):
        await house.accept("info@own.example", "cat@own.example", content=Bytes(content))
        copies = await gone(house)
    top = b"Delivered-To: info@own.example\r\n"
    assert copies == {
        "ann@own.example": top + content,
        "bob@far.example": top + content,
        "cat@own.example": content,
    }
    assert not [*(tmp_path / "bodies").iterdir()]
