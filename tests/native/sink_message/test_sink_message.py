"""The message that a sink in a library gets: its properties, wrong arguments, how long it lives, and what the answer
says of it. `player.c` calls what a test writes, line by line.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from gatepost.wire.host import Answer, Ask, Failed, Load, Loaded, Log, Stop
from native.sink_message.conftest import (
    ADDRESS,
    ARGUMENT,
    CONTENT,
    GONE,
    NO_MEMORY,
    NO_WISHES,
    OK,
    POINTER,
    SENDER,
    SHORT,
    STATUS,
    dword,
    recipient,
)  # fmt: skip
from native.talking import Talk

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time


# ── properties ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_properties_of_each_type(player):
    player.check(
        ("m GetDWORD 0x1014", f"{OK} 5"),
        ("m PutDWORD 0x1014 2", OK),
        ("m GetDWORD 0x1014", f"{OK} 2"),
        ("m PutBool 0x100b 7", OK),
        ("m GetBool 0x100b", f"{OK} 1"),
        ("m PutStringA 0x1002 b@b.example", OK),
        ("m GetStringA 0x1002 12", f"{OK} b@b.example"),
        ("m GetProperty 0x1002 100", f"{OK} 12 b@b.example%00"),
        ("m PutStringW 0x9000 wide", OK),
        ("m GetStringW 0x9000 5", f"{OK} wide"),
        ("m PutProperty 0x9001 %00%FF%0D%0A", OK),
        ("m GetProperty 0x9001 4", f"{OK} 4 %00%FF%0D%0A"),
        ("m Commit", OK),
        properties=[(STATUS, dword(5)), (SENDER, b"a@a.example\0")],
    )
    assert player.message == {
        "properties": {
            STATUS: dword(2),
            0x100B: dword(1),
            SENDER: b"b@b.example\0",
            0x9000: "wide\0".encode("utf-16-le"),
            0x9001: b"\x00\xff\r\n",
        },
        "recipients": [],
        "list": None,
        "size": None,
        "forks": [],
    }


def test_a_property_that_is_not_there_is_no_failure(player):
    player.check(
        ("m GetProperty 0x9000 100", "00000001 0"),
        ("m GetStringA 0x9000 100", "00000001"),
        ("m GetStringW 0x9000 100", "00000001"),
        ("m GetDWORD 0x9000", "00000001 0"),
        ("m GetBool 0x9000", "00000001 0"),
    )


def test_a_buffer_that_is_too_short(player):
    player.check(
        ("m GetStringA 0x1002 11", SHORT),
        ("m GetStringA 0x1002 0", SHORT),
        ("m GetProperty 0x1002 11", f"{SHORT} 12"),
        ("m PutStringW 0x9000 wide", OK),
        ("m GetStringW 0x9000 4", SHORT),
        ("r GetStringA 0 0x2009 13", SHORT),
        ("r Item 0 0x2009 13", SHORT),
        ("r DomainItem 0 9", f"{SHORT}  0 2"),
        properties=[(SENDER, b"a@a.example\0")],
    )


def test_null_pointers(player):
    lines = """m PutProperty 0x1002 - 5, m PutStringA 0x1002 -, m PutStringW 0x1002 -, m GetProperty 0x1002 100 0 -,
        m GetStringA 0x1002 100 -, m GetStringW 0x1002 100 -, m GetDWORD 0x1014 -, m GetBool 0x1014 -,
        m GetContentSize -, m ReadContent 0 5 -, m ReadContent 0 5 0 -, m WriteContent 0 - 0 5,
        m WriteContent 0 x -, m MapContent 0 -, m MapContent 0 0 -, m ForkForRecipients -,
        m ForkForRecipients 0 -, m RebindAfterFork -, r Count -, r Item 0 0x2009 100 -,
        r GetStringA 0 0x2009 100 -, r PutStringA 0 0x2009 -, r PutStringW 0 0x2009 -, r GetDWORD 0 0x200d -,
        r GetBool 0 0x200d -, r DomainCount -, r DomainItem 0 100 -, r AllocNewList -, r WriteList -,
        r Walk 0 0 0 -, g AllocPropIDRange - 1, g AllocPropIDRange 1 1 -, g EnumPropIDRange -"""
    calls = [line.strip() for line in lines.split(",")]
    came = player.play(*calls, properties=[(SENDER, b"a@a.example\0"), (STATUS, dword(0))])
    assert {line: result[:8] for line, result in zip(calls, came, strict=True)} == dict.fromkeys(calls, POINTER)
    assert player.message == {"properties": {}, "recipients": [], "list": None, "size": None, "forks": []}


def test_a_length_that_nobody_wants_may_be_null(player):
    player.check(("m GetProperty 0x1002 100 -", f"{OK} 4711"), properties=[(SENDER, b"a@a.example\0")])


def test_what_is_said_of_a_property_is_its_last_value_and_its_size_is_bounded(player):
    player.check(
        ("m PutDWORD 0x9000 1", OK),
        ("m PutDWORD 0x9000 2", OK),
        ("m PutProperty 0x9001 x 0x7fffffff", NO_MEMORY),
        ("m GetProperty 0x9001 100", "00000001 0"),
    )
    assert player.message["properties"] == {0x9000: dword(2)}


def test_the_interfaces_are_one_object(player):
    (came,) = player.play("m Identity")
    assert came.split() == [*["00000000="] * 15, "80004002", POINTER, came.split()[-1]]


# ── ids of one's own ───────────────────────────────────────────────────────────────────────────────────────────────


def start_of(number: int) -> int:
    """FNV-1a of the GUID as it stands in memory chooses one of the blocks of 0x1000 ids."""
    value = 0xCBF29CE484222325
    for octet in UUID(f"{number:08x}-6a7e-4057-9a7e-905700000101").bytes_le:
        value = (value ^ octet) * 0x100000001B3 % 2**64
    return 0x10000 + value % ((0x80000000 - 0x10000) // 0x1000) * 0x1000


def test_ids_of_ones_own_are_the_same_in_every_message(player):
    lines = ("g AllocPropIDRange 1 3", "g AllocPropIDRange 2 3", "g AllocPropIDRange 1 3", "g AllocPropIDRange 1 4")
    one, two, again, other = player.play(*lines)
    assert [one, two] == [f"{OK} {start_of(1):#x}", f"{OK} {start_of(2):#x}"]
    assert one == again and start_of(1) >= 0x8000
    assert other[:8] == ARGUMENT
    player.check(
        (lines[1], two),
        (lines[0], one),
        ("g EnumPropIDRange 0", f"{OK} 1 0x2 3 {two.split()[1]}"),
        ("g EnumPropIDRange 1", f"{OK} 2 0x1 3 {one.split()[1]}"),
        ("g EnumPropIDRange 2", "80030012 2 0x5e1d0101 0 0x0"),
        ("g EnumPropIDRange 0xffffffff", "80030012 4294967295 0x5e1d0101 0 0x0"),
        ("g AllocPropIDRange 3 0", f"{ARGUMENT} 0x0"),
        ("g AllocPropIDRange 3 0xffffffff", f"{ARGUMENT} 0x0"),
    )


# ── how long it lives ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_nobody_has_changed(player):
    assert player.play("m GetDWORD 0x1014", "r AllocNewList l0", "m Silent") == []
    assert player.message is None


def test_after_the_answer_every_method_fails_and_what_is_kept_is_reported(player):
    player.play("m Keep")
    (came,) = player.play("m UseKept")
    assert came.split() == [*[GONE] * 10, "0"]
    assert player.message["list"] is None


DAMAGED = [
    5,
    "x",
    [],
    {"properties": 5},
    {"properties": [5]},
    {"properties": [[5]]},
    {"properties": [[5, b"", 5]]},
    {"properties": [["x", b""]]},
    {"properties": [[-1, b""]]},
    {"properties": [[2**32, b""]]},
    {"properties": [[5, 5]]},
    {"properties": [[5, None]]},
    {"properties": {"5": b""}},
    {"properties": None},
    {"properties": [], "recipients": 5},
    {"properties": [], "recipients": [5]},
    {"properties": [], "recipients": [[[5, 5]]]},
    {"properties": [], "recipients": None},
    {"properties": [], "recipients": [], "size": "x"},
    {"properties": [], "recipients": [], "size": None},
    {"properties": [[5, b"x" * 300_000]]},
]


@pytest.mark.parametrize("facts", DAMAGED)
def test_damaged_facts_are_a_failure_and_the_host_lives(player, facts):
    player.asked += 1
    if isinstance(facts, dict) and 5 in dict(
        facts.get("properties") or {} if isinstance(facts.get("properties"), dict) else {}
    ):
        pytest.skip("a map has texts as its keys")
    assert isinstance(player.ask(facts, None), Failed)
    player.check(("m GetContentSize", f"{OK} 26"))


def test_a_size_that_is_absurd(player):
    for size in (2**63 - 1, 2**32, -1):
        player.check(("m GetContentSize", f"{OK} 4294967295"), content=None, size=size)


def test_questions_leave_no_memory_and_no_files_open(begin, tmp_path):
    """The host is the shipped one: sanitizers keep memory of their own."""
    player = begin("linux", tmp_path)
    lines = ["r AllocNewList l0", "l0 Many 50 a.example", "r WriteList l0", "m MapContent 1", "m ForkForRecipients",
             "l3 AddPrimary 0x2009=dee@d.example r 0", "m WriteContent 0 x"]  # fmt: skip
    pid = player.talk.process.pid

    def measured() -> tuple[int, int]:
        for _ in range(200):
            player.play(*lines)
            for each in player.folder.iterdir():
                each.unlink()
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))

    pages, files = measured()
    again, still = measured()
    assert still == files
    assert again <= pages + 40  # one fork's recipients alone, kept each time, would be 100


def test_many_threads_use_a_message_while_its_question_ends(host_of, library_of, tmp_path):
    command, env = host_of("sanitized")
    talk = Talk(command, env=env)
    try:
        wish = Load("p", str(library_of("crowd", "linux")), {"threads": 2, **NO_WISHES})
        assert isinstance(talk.begin("sink", wish), Loaded)
        file = tmp_path / "content.eml"
        file.write_bytes(CONTENT)
        message = {"properties": [], "recipients": [recipient("ann@a.example")], "size": len(CONTENT)}
        facts = {"method": "OnMessageSubmission", "instance": 1, "server": [], "bag": [], "context": {}}
        talk.send(Ask(1, "s", 1, "message", {**facts, "message": message}, 5.0, str(file)))
        while isinstance(heard := talk.hear(), Log):
            pass
        assert isinstance(heard, Answer), talk.said()
        (listed,) = heard.verdict["message"]["list"]
        assert dict(listed)[ADDRESS] == b"ann@a.example\0"
        talk.wait_for("crowd: ")
        talk.send(Stop())
        status, said = talk.end()
        assert status == 0 and "crowd: 0 strange" in said and "runtime error" not in said, said
    finally:
        talk.close()
