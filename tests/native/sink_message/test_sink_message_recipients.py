"""The recipients of the message that a sink in a library gets, the lists that it makes, domains, and walks."""

from __future__ import annotations

import pytest

from gatepost.wire.host import Failed
from native.sink_message.conftest import (
    ADDRESS,
    ARGUMENT,
    DOMAIN,
    DUPLICATE,
    FLAGS,
    NO_MEMORY,
    NO_MORE,
    NO_PROPERTY,
    NO_RECIPIENT,
    OK,
    POINTER,
    SCRIPT,
    THREE,
    X500,
    dword,
    recipient,
)

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time


def test_recipients_by_index(player):
    player.check(
        ("r Count", f"{OK} 3"),
        ("r Item 0 0x2009 14", f"{OK} ann@a.example"),
        ("r GetStringA 2 0x2009 100", f"{OK} cy@b.example"),
        ("r GetDWORD 0 0x200d", f"{OK} 1"),
        ("r PutDWORD 1 0x200d 2096", OK),
        ("r GetDWORD 1 0x200d", f"{OK} 2096"),
        ("r PutBool 1 0x4000 1", OK),
        ("r GetBool 1 0x4000", f"{OK} 1"),
        ("r PutStringA 1 0x200e 550%20no", OK),
        ("r PutStringW 1 0x2014 Bob", OK),
        ("r GetStringW 1 0x2014 4", f"{OK} Bob"),
        ("r PutProperty 1 0x9000 %00%01", OK),
        ("r GetProperty 1 0x9000 2", f"{OK} 2"),
        ("r Commit 2", OK),
    )
    put = [[FLAGS, dword(2096)], [0x4000, dword(1)], [0x200E, b"550 no\0"]]
    put += [[0x2014, "Bob\0".encode("utf-16-le")], [0x9000, b"\0\1"]]
    assert player.message == {"properties": {}, "recipients": [[1, put]], "list": None, "size": None, "forks": []}


def test_a_property_that_a_recipient_has_not(player):
    player.check(
        ("r Item 0 0x200b 100", NO_PROPERTY),
        ("r GetStringA 0 0x200b 100", NO_PROPERTY),
        ("r GetStringW 0 0x200b 100", NO_PROPERTY),
        ("r GetDWORD 0 0x200b", f"{NO_PROPERTY} 0"),
        ("r GetBool 0 0x200b", f"{NO_PROPERTY} 0"),
        ("r GetProperty 0 0x200b 100", f"{NO_PROPERTY} 0"),
    )


@pytest.mark.parametrize("index", ["3", "0xffffffff", "0x80000000"])
def test_a_recipient_that_is_not_there(player, index):
    lines = [
        f"r {call}".format(index)
        for call in ("Item {} 0x2009 100", "GetStringA {} 0x2009 100", "GetStringW {} 0x2009 100", "GetDWORD {} 5",
                     "GetBool {} 5", "GetProperty {} 5 5", "PutStringA {} 5 x", "PutStringW {} 5 x", "PutDWORD {} 5 5",
                     "PutBool {} 5 1", "PutProperty {} 5 x", "Commit {}", "DomainItem {} 100")
    ]  # fmt: skip
    came = player.play(*lines, "r AllocNewList l0", f"l0 AddPrimary 0x2009=a@a.example r {index}", "l0 Count")
    assert [one[:8] for one in came[:-3]] == [NO_RECIPIENT] * len(lines)
    assert came[-3:] == [OK, f"{NO_RECIPIENT} 4711", f"{OK} 0"]


def test_a_message_without_recipients(player):
    player.check(
        ("r Count", f"{OK} 0"),
        ("r DomainCount", f"{OK} 0"),
        ("r DomainItem 0 100", f"{NO_RECIPIENT}  4711 4711"),
        ("r Walk 0 0 0", f"{ARGUMENT} {NO_MORE} {OK} {NO_MORE}"),
        ("r SetNextDomain 0 0 0", ARGUMENT),
        recipients=[],
    )


# ── new lists ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_list_becomes_the_messages(player):
    player.check(
        ("r PutDWORD 2 0x200d 5", OK),
        ("r AllocNewList l0", OK),
        ("l0 Count", f"{OK} 0"),
        ("l0 AddPrimary 0x2009=new@n.example,0x200b=cn%3dnew", f"{OK} 0"),
        ("l0 AddPrimary - r 2", f"{OK} 1"),
        ("l0 AddPrimary 0x2009=other@o.example r 0", f"{OK} 2"),
        ("l0 PutDWORD 1 0x200d 16", OK),
        ("l0 PutStringA 0 0x2014 New", OK),
        ("l0 Item 2 0x2009 100", f"{OK} other@o.example"),
        ("l0 GetDWORD 2 0x200d", f"{OK} 1"),
        ("r Count", f"{OK} 3"),
        ("r WriteList l0", OK),
        ("r Count", f"{OK} 3"),
        ("r Item 0 0x2009 100", f"{OK} new@n.example"),
        ("l0 AddPrimary 0x2009=late@l.example", f"{OK} 3"),
        ("r PutBool 2 0x4000 1", OK),
        ("r Count", f"{OK} 3"),
    )
    new = [[ADDRESS, b"new@n.example\0"], [DOMAIN, b"n.example\0"], [X500, b"cn%3dnew\0"], [0x2014, b"New\0"]]
    copied = [[ADDRESS, b"cy@b.example\0"], [FLAGS, dword(16)]]
    other = [[ADDRESS, b"other@o.example\0"], [DOMAIN, b"o.example\0"], [FLAGS, dword(1)], [0x4000, dword(1)]]
    assert player.message == {
        "properties": {}, "recipients": [], "list": [new, copied, other], "size": None, "forks": [],
    }  # fmt: skip


def test_an_empty_list_is_one_too(player):
    player.check(("r AllocNewList l0", OK), ("r WriteList l0", OK), ("r Count", f"{OK} 0"))
    assert player.message["list"] == []


def test_names_are_compared_with_the_domain_in_any_case(player):
    player.check(
        ("r AllocNewList l0", OK),
        ("l0 AddSecondary 0x2009=ann@a.example", f"{OK} 0"),
        ("l0 AddSecondary 0x2009=ann@A.Example", f"{DUPLICATE} 0"),
        ("l0 AddSecondary 0x2009=Ann@a.example", f"{OK} 1"),
        ("l0 AddSecondary 0x200b=ann@a.example", f"{OK} 2"),
        ("l0 AddSecondary 0x2009=bob@a.example,0x200b=ann@a.example", f"{DUPLICATE} 2"),
        ("l0 AddSecondary 0x2009=", f"{OK} 3"),
        ("l0 AddSecondary 0x2009=", f"{DUPLICATE} 3"),
        ("l0 AddSecondary - r 0", f"{DUPLICATE} 0"),
        ("l0 PutStringA 0 0x2009 ann@z.example", OK),
        ("l0 AddSecondary 0x2009=ann@a.example", f"{OK} 4"),
        ("l0 AddSecondary 0x2009=ann@z.example", f"{DUPLICATE} 0"),
        ("l0 AddPrimary 0x2009=ann@Z.example", f"{OK} 0"),
        ("l0 Item 0 0x2009 100", f"{OK} ann@Z.example"),
        ("l0 Count", f"{OK} 5"),
    )


def test_names_that_are_none(player):
    player.check(
        ("r AllocNewList l0", OK),
        ("l0 AddPrimary -", f"{ARGUMENT} 4711"),
        ("l0 AddPrimary 0x2009=-", f"{POINTER} 4711"),
        ("l0 AddPrimary " + ",".join(["0x2009=a@a.example"] * 33), f"{ARGUMENT} 4711"),
        ("l0 Count", f"{OK} 0"),
        ("r WriteList -", POINTER),
        ("r WriteList own", ARGUMENT),
        ("r WriteList r", ARGUMENT),
    )


def test_properties_of_a_list_that_is_the_sinks_own(player):
    player.play(
        "r AllocNewList l0", "l0 AddPrimary - own 0", "l0 AddPrimary 0x2009=a@a.example own 9", "r WriteList l0"
    )
    own = [[ADDRESS, b"own@foreign.example\0"], [0x2014, b"n" * 5999 + b"\0"]]
    assert player.message["list"] == [own, [[ADDRESS, b"a@a.example\0"], [DOMAIN, b"a.example\0"]]]


def test_lists_are_bounded(player):
    came = player.play("r AllocNewList l0", "l0 Many 10001 a.example", "l0 Count", *["r AllocNewList l1"] * 300)
    assert came[1:3] == [f"{NO_MEMORY} 10000 1", f"{OK} 10000"]
    assert came[3:] == [OK] * 255 + [NO_MEMORY] * 45


def test_an_answer_that_is_too_long_for_a_frame_is_a_failure_and_the_host_lives(player):
    player.asked += 1
    lines = ["r AllocNewList l0", f"l0 Many 10000 {'a' * 100}.example", "r WriteList l0"]
    facts = {"properties": [(SCRIPT, "\n".join(lines).encode() + b"\0")], "recipients": [], "size": 0}
    assert isinstance(player.ask(facts, None), Failed)
    player.check(("r Count", f"{OK} 3"))


# ── domains ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_domains_are_ranges_of_recipients(player):
    player.check(
        ("r DomainCount", f"{OK} 3"),
        ("r DomainItem 0 100", f"{OK} a.example 0 2"),
        ("r DomainItem 1 10", f"{OK} b.example 2 1"),
        ("r DomainItem 2 100", f"{OK} a.example 3 1"),
        ("r DomainItem 3 100", f"{NO_RECIPIENT}  4711 4711"),
        recipients=[*THREE, recipient("dee@a.example")],
    )


def test_a_walk_over_recipients_follows_the_links_between_domains(player):
    player.check(
        ("r Walk 0 0 0", f"{OK} 0 1 {NO_MORE} {OK} {NO_MORE}"),
        ("r Walk 1 0 0", f"{OK} 2 {NO_MORE} {OK} {NO_MORE}"),
        ("r Walk 9 0 0", f"{ARGUMENT} {NO_MORE} {OK} {NO_MORE}"),
        ("r SetNextDomain 1 0 0", OK),
        ("r SetNextDomain 0 1 0", ARGUMENT),
        ("r SetNextDomain 0 0 0", ARGUMENT),
        ("r SetNextDomain 0 9 0", ARGUMENT),
        ("r Walk 1 0 0", f"{OK} 2 0 1 {NO_MORE} {OK} {NO_MORE}"),
        ("r Walk 1 1 1", f"{OK} 0 {NO_MORE} {OK} {NO_MORE}"),
        ("r Walk 1 0 1", f"{OK} 2 1 {NO_MORE} {OK} {NO_MORE}"),
        ("r Walk 1 2 3", f"{OK} {NO_MORE} {OK} {NO_MORE}"),
    )


@pytest.mark.parametrize("filling", ["0x00", "0x01", "0x7f", "0xff"])
def test_a_walk_whose_context_was_written_over_ends(player, filling):
    (came,) = player.play(f"r WalkAstray 0 0 0 {filling}")
    assert came.split()[0] == OK and came.endswith(f"{NO_MORE} {OK} {NO_MORE}")
    assert len(came.split()) <= 7
