"""Views: what a plugin reads, what its edits do to the octets, and what they can't do."""

from __future__ import annotations

import tempfile
from pathlib import Path as File

import pytest

from gatepost import model
from gatepost.content.pieces import Rendered, Span, crlf, has_bare_line_end
from gatepost.content.revision import Parsed
from gatepost.content.view import View, render
from gatepost.model import AddHeader, Bytes, ChangeHeader, DeleteHeader, ReplaceBody, ReplacePart

HEAD = b"From: a@b\r\nSubject: one\r\nX-Tag: 1\r\nx-tag: 2\r\n\r\n"
MESSAGE = HEAD + b"line one\r\nline two\r\n"

MIXED = (
    b'Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b1"\r\n\r\npreamble\r\n'
    b"--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"J=C3=B6rg\r\n--b1\r\nContent-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"aGVsbG8=\r\n--b1\r\n\r\nplain\r\n--b1--\r\nepilogue\r\n"
)


def out(view: View) -> bytes:
    return b"".join(view.blob.chunks())


class Disk:
    """A file system in a temporary folder."""

    def __init__(self, folder: File) -> None:
        self.folder = folder
        self.made = 0

    async def private_copy(self, blob: model.Blob) -> File:
        self.made += 1
        file = self.folder / f"{self.made}.eml"
        file.write_bytes(b"".join(blob.chunks()))
        return file

    async def adopt(self, file: File) -> model.Blob:
        return Bytes(file.read_bytes())


def test_a_view_is_a_message_for_the_type_checker_too():
    view: model.Message = View(Bytes(MESSAGE))
    assert isinstance(view.blob, model.Blob)


def test_headers_are_read_without_regard_to_case():
    headers = View(Bytes(MESSAGE)).headers
    assert headers["SUBJECT"] == "one"
    assert headers.all("X-TAG") == ["1", "2"]
    assert headers.raw("x-tag") == [b" 1", b" 2"]
    assert "subject" in headers
    assert "nothing" not in headers
    assert "" not in headers
    assert 7 not in headers
    assert headers.get("nothing") is None
    assert headers.get("", "default") == "default"
    assert len(headers) == 4
    assert list(headers) == [("From", "a@b"), ("Subject", "one"), ("X-Tag", "1"), ("x-tag", "2")]
    with pytest.raises(KeyError):
        headers["nothing"]


def test_without_edits_the_blob_is_the_base_itself():
    base = Bytes(MESSAGE)
    view = View(base)
    assert view.headers["From"] == "a@b"
    assert view.blob is base


def test_edits_are_recorded_and_seen_at_once():
    edits: list[model.Edit] = []
    view = View(Bytes(MESSAGE), record=edits.append)
    view.headers["subject"] = "two"
    view.headers["X-New"] = "n"
    view.headers.add("X-Top", "t", at=0)
    del view.headers["X-TAG"]
    del view.headers["X-Nothing"]
    assert view.headers["Subject"] == "two"
    assert out(view) == b"X-Top: t\r\nFrom: a@b\r\nSubject: two\r\nX-New: n\r\n\r\nline one\r\nline two\r\n"
    assert edits == [
        ChangeHeader("subject", "two"),
        ChangeHeader("X-New", "n"),
        AddHeader("X-Top", "t", 0),
        DeleteHeader("X-TAG"),
    ]
    assert b"".join(render(Bytes(MESSAGE), edits)) == out(view)


def test_a_later_view_sees_earlier_edits():
    parsed = Parsed(Bytes(MESSAGE))
    second = View(parsed, [AddHeader("X-Spam", "yes")])
    assert second.headers["X-Spam"] == "yes"
    assert "X-Spam" not in View(parsed).headers


@pytest.mark.parametrize(
    ("at", "place"), [(0, 0), (1, 1), (4, 4), (5, 4), (10**9, 4), (None, 4), (-1, 0)]
)  # fmt: skip
def test_P7_an_index_is_well_defined_wherever_it_points(at: int | None, place: int):
    view = View(Bytes(MESSAGE), [AddHeader("X-Tag", "new", at)])
    assert list(view.headers)[place] == ("X-Tag", "new")
    assert len(view.headers) == 5


def test_P7_an_existing_name_in_another_case_is_another_field():
    view = View(Bytes(MESSAGE))
    view.headers.add("SUBJECT", "shouted")
    assert view.headers.all("subject") == ["one", "shouted"]
    view.headers["subject"] = "first only"
    assert view.headers.all("Subject") == ["first only", "shouted"]


@pytest.mark.parametrize(
    ("edit", "tags"),
    [
        (ChangeHeader("X-TAG", "new", 1), ["1", "new"]),
        (ChangeHeader("X-TAG", "new", 2), ["1", "2", "new"]),
        (ChangeHeader("X-TAG", "new", -1), ["1", "2", "new"]),
        (DeleteHeader("X-TAG", 0), ["2"]),
        (DeleteHeader("X-TAG", 5), ["1", "2"]),
        (DeleteHeader("X-TAG", -1), ["1", "2"]),
        (DeleteHeader("X-TAG"), []),
    ],
)
def test_P7_occurrences_are_well_defined(edit: model.Edit, tags: list[str]):
    assert View(Bytes(MESSAGE), [edit]).headers.all("x-tag") == tags


@pytest.mark.parametrize("value", ["a\r\nBcc: x@y", "a\n\nbody", "a\rb", "\r\n.\r\n", "a\0b", "ä\r\nBcc: x@y"])
@pytest.mark.parametrize("utf8", [False, True])
def test_I1_a_plugins_value_stays_one_field(value: str, utf8: bool):
    edits: list[model.Edit] = []
    view = View(Bytes(MESSAGE), record=edits.append, utf8=utf8)
    view.headers.add("X-Evil", value)
    added = out(view).removeprefix(HEAD[:-2]).removesuffix(b"\r\nline one\r\nline two\r\n")
    assert added.startswith(b"X-Evil: ")
    assert added.endswith(b"\r\n")
    assert added.count(b"\n") == added.count(b"\r") == 1
    assert b"\0" not in added
    assert b"".join(render(Bytes(MESSAGE), [AddHeader("X-Evil", value)], utf8=utf8)) == out(view)


def test_an_impossible_name_is_told_to_the_plugin_and_changes_nothing():
    edits: list[model.Edit] = []
    view = View(Bytes(MESSAGE), record=edits.append)
    with pytest.raises(ValueError, match="can't be a header name"):
        view.headers.add("X Evil", "x")
    assert edits == []
    assert out(view) == MESSAGE


def test_an_edit_that_may_not_be_recorded_has_no_effect():
    def closed(edit: model.Edit) -> None:
        raise PermissionError

    view = View(Bytes(MESSAGE), record=closed)
    with pytest.raises(PermissionError):
        view.headers["Subject"] = "x"
    assert out(view) == MESSAGE


@pytest.mark.parametrize(
    ("content", "edited"),
    [
        (b"", b"X: y\r\n"),
        (b"\r\nbody", b"X: y\r\n\r\nbody"),
        (b"A: b", b"A: b\r\nX: y\r\n"),
        (b"A: b\r", b"A: b\r\nX: y\r\n"),
        (b"A: b\r\n", b"A: b\r\nX: y\r\n"),
        (b"A: b\n\nbody\n", b"A: b\nX: y\r\n\nbody\n"),
    ],
)
def test_a_field_added_at_the_end_comes_before_the_empty_line(content: bytes, edited: bytes):
    assert b"".join(render(Bytes(content), [AddHeader("X", "y")])) == edited


def test_I7_the_top_is_after_a_mailbox_line():
    content = b"From ann Mon Nov 24\r\nSubject: x\r\n\r\n"
    assert b"".join(render(Bytes(content), [AddHeader("X", "y", 0)])) == (
        b"From ann Mon Nov 24\r\nX: y\r\nSubject: x\r\n\r\n"
    )
    assert b"".join(render(Bytes(b" folded\r\n"), [AddHeader("X", "y", 0)])) == b" folded\r\nX: y\r\n"


async def test_a_new_body_has_whole_line_ends():
    edits: list[model.Edit] = []
    view = View(Bytes(MESSAGE), record=edits.append)
    await view.replace(b"a\nb\rc\r\n")
    assert out(view) == HEAD + b"a\r\nb\r\nc\r\n"
    assert b"".join(render(Bytes(MESSAGE), [ReplaceBody(Bytes(b"a\nb\rc\r\n"))])) == out(view)
    assert view.size == len(out(view))


def test_a_body_gets_its_empty_line_where_the_content_had_none():
    assert b"".join(render(Bytes(b"A: b"), [ReplaceBody(Bytes(b"x\r\n"))])) == b"A: b\r\n\r\nx\r\n"
    assert b"".join(render(Bytes(b""), [ReplaceBody(Bytes(b"x\r\n"))])) == b"\r\nx\r\n"


async def test_files_are_made_on_demand_and_again_only_after_an_edit():
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(File(folder))
        view = View(Bytes(MESSAGE), files=disk)
        first = await view.path()
        assert first.read_bytes() == MESSAGE
        assert await view.path() == first
        view.headers["Subject"] = "new"
        second = await view.path()
        assert second != first
        assert b"Subject: new" in second.read_bytes()
        new = File(folder) / "body"
        new.write_bytes(b"from a file\n")
        await view.replace(new)
        assert out(view).endswith(b"\r\n\r\nfrom a file\r\n")


async def test_without_a_file_system_a_file_is_a_broken_contract():
    with pytest.raises(RuntimeError, match="no file system"):
        await View(Bytes(MESSAGE)).path()


async def test_chunks_give_others_their_turn():
    turns = 0

    async def pause() -> None:
        nonlocal turns
        turns += 1

    view = View(Bytes(HEAD + b"x" * 300_000), pause=pause)
    pieces = [chunk async for chunk in view]
    assert b"".join(pieces) == HEAD + b"x" * 300_000
    assert turns == len(pieces) - 1


async def test_the_message_id_has_no_brackets():
    assert View(Bytes(b"Message-ID: <a@b>\r\n\r\n")).message_id == "a@b"
    assert View(Bytes(MESSAGE)).message_id is None


async def test_parts_are_read_and_replaced_in_their_own_encoding():
    edits: list[model.Edit] = []
    view = View(Bytes(MIXED), record=edits.append)
    parts = [part async for part in view.parts()]
    assert [(part.index, part.type, part.filename) for part in parts] == [
        (0, "text/plain", None),
        (1, "application/pdf", "x.pdf"),
        (2, "text/plain", None),
    ]
    assert [part.read(100) for part in parts] == ["Jörg".encode(), b"hello", b"plain"]
    assert [part.read(2) for part in parts] == [b"J\xc3", b"he", b"pl"]
    assert not await view.structure_cut()
    parts[0].replace("Grüße\nund mehr".encode())
    parts[1].replace(b"\0\1\2")
    parts[2].replace(b"still plain")
    assert parts[1].read(2) == b"\0\1"
    expected = (
        MIXED.replace(b"J=C3=B6rg", b"Gr=C3=BC=C3=9Fe\r\nund mehr")
        .replace(b"aGVsbG8=", b"AAEC")
        .replace(b"\r\nplain\r\n", b"\r\nstill plain\r\n")
    )
    assert out(view) == expected
    again = View(Bytes(MIXED), edits)
    assert out(again) == expected
    assert [part.read(100) async for part in again.parts()] == [
        "Grüße\nund mehr".encode(),
        b"\0\1\2",
        b"still plain",
    ]


async def test_content_that_cant_travel_plain_changes_the_parts_encoding_and_back():
    view = View(Bytes(MIXED))
    parts = [part async for part in view.parts()]
    parts[2].replace("ä".encode())
    assert b"--b1\r\nContent-Transfer-Encoding: base64\r\n\r\nw6Q=\r\n--b1--" in out(view)
    parts[2].replace(b"plain again")
    assert [part.read(100) async for part in View(view.blob).parts()][2] == b"plain again"


@pytest.mark.parametrize("encoding", [b"7bit", b"8bit", b"quoted-printable", b"base64"])
async def test_I1_a_parts_content_cant_end_the_part(encoding: bytes):
    content = MIXED.replace(b"--b1\r\n\r\nplain", b"--b1\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\nplain")
    view = View(Bytes(content))
    *_, last = [part async for part in view.parts()]
    evil = b"--b1\r\nContent-Type: application/evil\r\n\r\nx\r\n--b1--"
    last.replace(evil)
    parts = [part async for part in View(view.blob).parts()]
    assert len(parts) == 3
    assert parts[2].read(1000) == evil


async def test_a_message_of_one_part_changes_its_own_header():
    view = View(Bytes(MESSAGE))
    (part,) = [part async for part in view.parts()]
    part.replace("ä".encode())
    assert view.headers["Content-Transfer-Encoding"] == "base64"
    assert out(view).endswith(b"Content-Transfer-Encoding: base64\r\n\r\nw6Q=\r\n")
    part.replace(b"plain")
    assert [part.read(99) async for part in View(view.blob).parts()] == [b"plain"]


async def test_parts_replaced_before_the_structure_changes_stay():
    view = View(Bytes(MIXED), [ReplacePart(1, b"new"), ChangeHeader("Content-Type", "text/plain")])
    assert b"bmV3" in out(view)
    assert [part.type async for part in view.parts()] == ["text/plain"]


async def test_a_new_body_takes_replaced_parts_with_it():
    view = View(Bytes(MIXED), [ReplacePart(1, b"new"), ReplaceBody(Bytes(b"--b1\r\n\r\nonly\r\n--b1--\r\n"))])
    assert [part.read(99) async for part in view.parts()] == [b"only"]


def test_a_part_that_isnt_there_isnt_replaced():
    assert b"".join(render(Bytes(MIXED), [ReplacePart(99, b"x"), ReplacePart(-1, b"x")])) == MIXED


async def test_an_edit_while_the_structure_is_read_is_noticed():
    async def pause() -> None:
        view.headers["Content-Type"] = "text/html"

    view = View(Bytes(MIXED.replace(b"hello", b"x" * 100_000)), pause=pause)
    with pytest.raises(RuntimeError, match="changed"):
        _ = [part async for part in view.parts()]


def test_a_rendered_blob_reads_like_its_octets():
    blob = Rendered([Span(Bytes(b"0123456789"), 2, 3), Span(Bytes(b""), 0, 0), Span(Bytes(b"abcdef"), 1, 4)])
    whole = b"234bcde"
    assert blob.size == 7
    for start in range(9):
        assert blob.read(start) == whole[start:]
        for length in range(9):
            assert blob.read(start, length) == whole[start : start + length]
            assert b"".join(s.read(0, 99) for s in blob.span(start, start + length)) == whole[start : start + length]
    with blob.open() as stream:
        assert stream.read(3) == b"234"
        assert stream.seek(-2, 2) == 5
        assert stream.read() == b"de"
        assert stream.seek(1) == stream.tell() == 1
        assert stream.read() == whole[1:]
        with pytest.raises(ValueError, match="before its start"):
            stream.seek(-9, 2)
    big = Rendered([Span(Bytes(b"x" * 200_000), 0, 200_000), Span(Bytes(b"y"), 0, 1)])
    assert [len(chunk) for chunk in big.chunks()] == [65536, 65536, 65536, 3392, 1]


@pytest.mark.parametrize("cut", range(1, 9))
def test_F4_line_ends_are_made_whole_however_the_content_is_cut(cut: int):
    data = b"a\rb\nc\r\nd\r\re\n\r\n\r"
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    assert b"".join(crlf(pieces)) == b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\n\r\n"
    assert has_bare_line_end(pieces)
    assert not has_bare_line_end(crlf(pieces))
