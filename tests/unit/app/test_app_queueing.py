"""What is handed in through the data folder: only files that lie there, and only envelopes that can be."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import pytest

from gatepost.admin.queue import ActionError
from gatepost.app.queueing import FOLDER, take_in
from gatepost.app.submission import Submissions
from gatepost.model import token_at
from gatepost.store import memory_spool

GIVEN = {"file": "one", "sender": "a@own.example", "recipients": [["b@own.example", {}]]}


async def taken(data: File, arguments: Mapping[str, Any]) -> bytes:
    """The content that was queued."""
    spool = memory_spool(time.time)
    submissions = Submissions(
        spool,
        lambda: token_at(1_800_000_000_000, 0, 1),
        hostname="mx.example",
        size_limit=1 << 20,
        has_room=lambda octets: True,
        has_route=lambda *whose: True,
        record=lambda token, kind, facts: None,
    )
    await take_in(submissions, data, {**GIVEN, **arguments})
    [entry] = await spool.due(time.time() + 1, 1)
    return entry.content.read()


@pytest.fixture
def folder(tmp_path: File) -> File:
    made = tmp_path / FOLDER
    made.mkdir()
    (made / "one").write_bytes(b"Subject: x\r\n\r\nhello\r\n")
    return made


async def test_a_file_of_the_folder_is_taken(folder: File) -> None:
    assert b"hello" in await taken(folder.parent, {})


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "/etc/passwd", "a\0b", "none", "folder", "link", "pipe"])
async def test_anything_else_is_not(folder: File, name: str) -> None:
    (folder.parent / "outside").write_bytes(b"Subject: x\r\n\r\nnot for you\r\n")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder.parent / "outside")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ActionError) as caught:
        await taken(folder.parent, {"file": name})
    assert caught.value.code == 65


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipients": "ab"},
        {"recipients": [["b@own.example", None]]},
        {"recipients": [["b@own.example", {"NOTIFY": 7}]]},
        {"recipients": [["../b@own.example\r\nX: y", {}]]},
        {"sender": 5},
        {"parameters": [1]},
        {"parameters": {"RET": ["FULL"]}},
    ],
)
async def test_an_envelope_that_cannot_be_is_refused_for_good(folder: File, wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ActionError) as caught:
        await taken(folder.parent, wrong)
    assert caught.value.code == 65


async def test_no_line_of_ours_is_anybody_elses(folder: File) -> None:
    content = await taken(folder.parent, {"user": "x\r\nEvil: 1", "name": "A\r\nEvil: 2"})
    assert b"\nEvil" not in content


async def test_the_name_of_a_user_keeps_a_message_in_seven_bits(folder: File) -> None:
    assert (await taken(folder.parent, {"user": "ünal"})).isascii()
