"""The content of a message at rest, as plugins see it: hooks' Content over a blob."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gatepost.content.revision import Parsed
from gatepost.content.view import Files, View
from gatepost.model import Blob, Edit, Message


class StoredContent:
    """Makes views of one blob, whose header section is parsed once for all of them."""

    __slots__ = ("_blob", "_files", "_parsed", "_utf8")

    def __init__(self, blob: Blob, *, utf8: bool, files: Files | None) -> None:
        """`utf8`: header fields may hold UTF-8 as it is. `files` makes the copies that plugins ask for."""
        self._blob = blob
        self._utf8 = utf8
        self._files = files
        self._parsed: Parsed | None = None

    def view(self, edits: Sequence[Edit], record: Callable[[Edit], None]) -> Message:
        """The content with these edits."""
        return View(self._parse(), edits, record, utf8=self._utf8, files=self._files, pause=_pause)

    def with_edits(self, edits: Sequence[Edit]) -> Blob:
        """The content with these edits, for good."""
        return View(self._parse(), edits, None, utf8=self._utf8).blob if edits else self._blob

    def _parse(self) -> Parsed:
        if self._parsed is None:
            self._parsed = Parsed(self._blob)
        return self._parsed


async def _pause() -> None:
    await asyncio.sleep(0)
