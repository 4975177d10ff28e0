"""The content of the message that a sink in a library gets, and the forks that it makes of it."""

from __future__ import annotations

import pytest

from native.sink_message.conftest import (
    ADDRESS,
    ARGUMENT,
    CONTENT,
    DOMAIN,
    FLAGS,
    NO_MEMORY,
    OK,
    SCRIPT,
    SENDER,
    STORY,
    dword,
)

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_content_is_read_at_offsets(player):
    player.check(
        ("m GetContentSize", f"{OK} 26"),
        ("m ReadContent 0 7", f"{OK} 7 Subject"),
        ("m ReadContent 20 100", f"{OK} 6 %0D%0A..%0D%0A"),
        ("m ReadContent 20 0", f"{OK} 0"),
        ("m ReadContent 26 1", "80070026 0"),
        ("m ReadContent 0xffffffff 100", "80070026 0"),
        ("m ReadContent 0 0xffffffff", f"{OK} 26 Subject:%20x%0D%0A%0D%0A.hello%0D%0A..%0D%0A"),
    )
    assert player.message["size"] is None
    assert player.file.read_bytes() == CONTENT


def test_content_is_written_at_offsets(player):
    player.check(
        ("m WriteContent 9 %2A", f"{OK} 1"),
        ("m WriteContent 30 tail", f"{OK} 4"),
        ("m WriteContent 99 -", f"{OK} 0"),
        ("m GetContentSize", f"{OK} 34"),
        ("m WriteContent 0xfffffff0 far", "80030070 0"),
        ("m Commit", OK),
    )
    assert player.message["size"] == 34
    assert player.file.read_bytes() == b"Subject: *" + CONTENT[10:] + b"\0\0\0\0tail"


def test_the_size_of_content_is_set(player):
    player.check(
        ("m SetContentSize 10", OK),
        ("m ReadContent 0 100", f"{OK} 10 Subject:%20x"),
        ("m SetContentSize 12", OK),
        ("m SetContentSize 0xffffffff", "80030070"),
    )
    assert player.message["size"] == 12
    assert player.file.read_bytes() == b"Subject: x\0\0"


def test_content_that_is_set_to_what_it_is_has_not_changed(player):
    player.check(
        ("m SetContentSize 26", OK),
        ("m MapContent 1", f"{OK} 26 Subject:%20x%0D%0A%0D%0A.hello%0D%0A..%0D%0A"),
        ("m UnmapContent", OK),
    )
    assert player.message["size"] is None


def test_no_content_yet(player):
    player.check(
        ("m GetContentSize", f"{OK} 77"),
        ("m ReadContent 0 5", "80030002 0"),
        ("m WriteContent 0 x", "80030002 0"),
        ("m SetContentSize 0", "80030002"),
        ("m MapContent 0", "80030002 0"),
        ("m CopyContentToFile -", "80030002"),
        ("m ForkForRecipients", "80030002"),
        content=None,
        size=77,
    )


def test_content_that_is_gone(player):
    player.asked += 1
    script = b"m GetContentSize\nm ReadContent 0 5\nm WriteContent 0 x\nm MapContent 1\nm ForkForRecipients\0"
    facts = {"properties": [(SCRIPT, script)], "recipients": [], "size": 5}
    answer = player.ask(facts, player.path(player.folder / "not there"))
    story = dict(answer.verdict["message"]["properties"])[STORY].decode()
    assert [line.split()[0] for line in story.splitlines()[:-1]] == ["80004005"] * 5


def test_empty_content(player):
    player.check(
        ("m GetContentSize", f"{OK} 0"),
        ("m ReadContent 0 5", "80070026 0"),
        ("m MapContent 1", f"{OK} 0"),
        ("m UnmapContent", OK),
        content=b"",
    )


def test_mapped_content(player):
    player.check(
        ("m MapContent 0", f"{OK} 26 Subject:%20x%0D%0A%0D%0A.hello%0D%0A..%0D%0A"),
        ("m Poke 0 lost", ""),
        ("m UnmapContent", OK),
        ("m UnmapContent", ARGUMENT),
        ("m UnmapContent -", ARGUMENT),
        ("m MapContent 1", f"{OK} 26 Subject:%20x%0D%0A%0D%0A.hello%0D%0A..%0D%0A"),
        ("m Poke 0 Comment", ""),
        ("m ReadContent 0 7", f"{OK} 7 Subject"),
        ("m UnmapContent", OK),
        ("m ReadContent 0 7", f"{OK} 7 Comment"),
    )
    assert player.message["size"] == 26
    assert player.file.read_bytes() == b"Comment" + CONTENT[7:]


def test_mappings_are_bounded_and_those_that_are_left_are_reported(player):
    came = player.play(*["m MapContent 1"] * 17)
    assert [one[:8] for one in came] == [OK] * 16 + [NO_MEMORY]
    player.play()
    assert any("16 mappings of content" in line or "mappings of content" in line for line in player.logs)


@pytest.mark.parametrize(
    ("call", "before", "after"),
    [
        ("CopyContentToFile {}", b"", CONTENT),
        ("CopyContentToFileEx {} 0", b"", CONTENT),
        ("CopyContentToFileEx {} 1", b"", CONTENT.replace(b"\r\n.", b"\r\n..")),
        ("CopyContentToFileAtOffset {} 3", b"0123", b"012" + CONTENT),
    ],
)
def test_content_is_copied_into_a_file(player, call, before, after):
    copy = player.folder / "copy"
    copy.write_bytes(before)
    player.check(("m " + call.format(player.path(copy)), OK))
    assert copy.read_bytes() == after
    assert player.message["size"] is None


def test_dots_are_stuffed_across_blocks(player):
    """The block that is copied at once has 32 KiB."""
    copy = player.folder / "copy"
    copy.touch()
    for filling in range(32765, 32770):
        content = b"." + b"x" * (filling - 1) + b"\r\n.\r\n\n.\r." + b"." * 40000
        player.check((f"m CopyContentToFileEx {player.path(copy)} 1", OK), content=content)
        assert copy.read_bytes() == b"." + content.replace(b"\r\n.", b"\r\n..")


def test_a_file_that_is_none(player):
    player.check(("m CopyContentToFile -", "80004005"), ("m CopyContentToFileEx - 1", "80004005"))


# ── forks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fork_has_content_and_recipients_of_its_own(player):
    player.check(
        ("m PutStringA 0x1002 first@a.example", OK),
        ("m ForkForRecipients", OK),
        ("f GetStringA 0x1002 100", f"{OK} first@a.example"),
        ("f RebindAfterFork", OK),
        ("m RebindAfterFork", ARGUMENT),
        ("f WriteContent 0 Comment", f"{OK} 7"),
        ("f PutStringA 0x1002 fork@a.example", OK),
        ("m ReadContent 0 7", f"{OK} 7 Subject"),
        ("fr Count", f"{OK} 0"),
        ("l3 AddPrimary 0x2009=dee@d.example r 0", f"{OK} 0"),
        ("l3 PutDWORD 0 0x200d 16", OK),
        ("f ForkForRecipients", "80004001"),
    )
    (fork,) = player.message.pop("forks")
    assert player.message == {
        "properties": {SENDER: b"first@a.example\0"}, "recipients": [], "list": None, "size": None,
    }  # fmt: skip
    file = player.file.parent / fork.pop("file")
    assert file.read_bytes() == b"Comment" + CONTENT[7:]
    assert fork == {
        "recipients": [[[ADDRESS, b"dee@d.example\0"], [DOMAIN, b"d.example\0"], [FLAGS, dword(16)]]],
        "properties": [[SENDER, b"fork@a.example\0"]],
    }
    assert player.file.read_bytes() == CONTENT


def test_the_list_that_is_written_to_a_fork_is_the_one_that_counts(player):
    player.play(
        "m ForkForRecipients",
        "l3 AddPrimary 0x2009=dee@d.example",
        "fr AllocNewList l0",
        "l0 AddPrimary 0x2009=eve@e.example",
        "fr WriteList l0",
    )
    (fork,) = player.message["forks"]
    assert fork["recipients"] == [[[ADDRESS, b"eve@e.example\0"], [DOMAIN, b"e.example\0"]]]


def test_a_fork_without_recipients_is_none_and_leaves_no_file(player):
    player.play("m ForkForRecipients", "m ForkForRecipients", "l3 AddPrimary 0x2009=dee@d.example")
    assert len(player.message["forks"]) == 1
    assert sorted(each.name for each in player.folder.glob("*.fork*")) == [player.message["forks"][0]["file"]]
    player.play("m ForkForRecipients")
    assert player.message["forks"] == []
    assert len(list(player.folder.glob("*.fork*"))) == 1


def test_forks_come_in_their_order_and_are_bounded(player):
    lines = [line for i in range(3) for line in ("m ForkForRecipients", f"l3 AddPrimary 0x2009=n{i}@a.example")]
    player.play(*lines)
    assert [one["recipients"][0][0][1] for one in player.message["forks"]] == [b"n%d@a.example\0" % i for i in range(3)]
    came = player.play(*["m ForkForRecipients"] * 300)
    assert came == [OK] * 256 + [NO_MEMORY] * 44
    assert player.message["forks"] == []
