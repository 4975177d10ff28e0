"""What a plugin sees of a message: the received content with the edits made so far, itself an editor.

Strategy: a view holds the parsed blob (shared by all views of a message) and the edits before it; it computes nothing
until something is asked. Every change becomes an edit, is handed to `record`, and is seen at once in the same view.
Files and the turn of other sessions are ports: a view touches neither disk nor loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path as File
from typing import BinaryIO, Protocol

from gatepost.content.fields import Fields
from gatepost.content.mime import Leaf
from gatepost.content.pieces import crlf
from gatepost.content.revision import Parsed, Revision
from gatepost.content.transfer import decode
from gatepost.content.values import safe
from gatepost.model import (
    AddHeader,
    Blob,
    Bytes,
    ChangeHeader,
    DeleteHeader,
    Edit,
    ReplaceBody,
    ReplacePart,
)
from gatepost.model.edits import check_name

Record = Callable[[Edit], None]
Pause = Callable[[], Awaitable[object]]


class Files(Protocol):
    """The file system, as far as a view needs it."""

    async def private_copy(self, blob: Blob) -> File:
        """A new file with the blob's octets, for one plugin; whoever hands in the port removes it."""

    async def adopt(self, file: File) -> Blob:
        """The file's octets as a blob that no longer changes, whatever happens to the file."""


def render(blob: Blob, edits: Iterable[Edit], *, utf8: bool = False) -> Iterator[bytes]:
    """The message with its edits, in pieces. Without edits, the blob's own octets."""
    return View(Parsed(blob), edits, utf8=utf8).blob.chunks()


class Views:
    """Makes views of one blob, whose header section is parsed once for all of them; hooks' port `Content`.

    `utf8`, `files` and `pause` are what each view is made with.
    """

    __slots__ = ("_blob", "_files", "_parsed", "_pause", "_utf8")

    def __init__(self, blob: Blob, *, utf8: bool, files: Files | None, pause: Pause | None = None) -> None:
        self._blob = blob
        self._utf8 = utf8
        self._files = files
        self._pause = pause
        self._parsed: Parsed | None = None

    def view(self, edits: Sequence[Edit], record: Record) -> View:
        """The content with these edits."""
        return View(self._parse(), edits, record, utf8=self._utf8, files=self._files, pause=self._pause)

    def with_edits(self, edits: Sequence[Edit]) -> Blob:
        """The content with these edits, for good."""
        return View(self._parse(), edits, utf8=self._utf8).blob if edits else self._blob

    def _parse(self) -> Parsed:
        if self._parsed is None:
            self._parsed = Parsed(self._blob)
        return self._parsed


class View:
    """A message as one asking plugin sees it. Invariant: `blob` is the base with all edits, earlier ones first.

    `record` gets each new edit before it takes effect, and may raise to forbid it. `utf8`: the message travels with
    SMTPUTF8, so header values stay UTF-8. Without `files`, `path` and replacing by file raise RuntimeError.
    """

    __slots__ = ("_copy", "_earlier", "_files", "_parsed", "_pause", "_record", "_revision", "_utf8", "headers")

    def __init__(
        self,
        parsed: Parsed | Blob,
        edits: Iterable[Edit] = (),
        record: Record | None = None,
        *,
        utf8: bool = False,
        files: Files | None = None,
        pause: Pause | None = None,
    ) -> None:
        self._parsed = parsed if isinstance(parsed, Parsed) else Parsed(parsed)
        self._earlier = tuple(edits)
        self._record = record
        self._utf8 = utf8
        self._files = files
        self._pause = pause
        self._revision: Revision | None = None
        self._copy: File | None = None
        self.headers = ViewHeaders(self)

    @property
    def size(self) -> int:
        """Octets as it would be stored now."""
        return self.blob.size

    @property
    def message_id(self) -> str | None:
        """The Message-ID without angle brackets."""
        found = self.headers.get("Message-ID")
        return None if found is None else found.strip().removeprefix("<").removesuffix(">")

    @property
    def blob(self) -> Blob:
        """The message with its edits, as content that no longer changes."""
        if self._revision is None and not self._earlier:
            return self._parsed.blob
        return self.revision.rendered()

    @property
    def revision(self) -> Revision:
        """The content with the edits so far, made on first use."""
        if self._revision is None:
            self._revision = Revision(self._parsed, utf8=self._utf8)
            for edit in self._earlier:
                self._revision.apply(edit)
        return self._revision

    def open(self) -> BinaryIO:
        """The message as a stream: CRLF line ends, dots not stuffed."""
        return self.blob.open()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The message in chunks, letting other sessions go on between them."""
        first = True
        for chunk in self.blob.chunks():
            if not first and self._pause is not None:
                await self._pause()
            first = False
            yield chunk

    async def path(self) -> File:
        """A file with the message, made on demand and again only after an edit."""
        if self._copy is None:
            self._copy = await self._port().private_copy(self.blob)
        return self._copy

    async def parts(self) -> AsyncIterator[ViewPart]:
        """The MIME leaves, depth first; `structure_cut` says whether a limit or malformed content hid some."""
        structure = await self.revision.structure_with(self._pause)
        for leaf in structure.leaves:
            yield ViewPart(self, leaf)

    async def structure_cut(self) -> bool:
        """Whether the MIME structure is malformed or larger than the limits, so that `parts` can't show all of it."""
        return (await self.revision.structure_with(self._pause)).cut

    async def replace(self, content: bytes | File) -> None:
        """Another body (everything after the header section)."""
        if isinstance(content, bytes):
            self.edit(ReplaceBody(Bytes(b"".join(crlf([content])))))
        else:
            self.edit(ReplaceBody(await self._port().adopt(content)))

    def edit(self, edit: Edit) -> None:
        """Record an edit and let it take effect here. Raises ValueError for one that can't be applied."""
        if isinstance(edit, AddHeader | ChangeHeader | DeleteHeader):
            check_name(edit.name)
        if self._record is not None:
            self._record(edit)
        self.revision.apply(edit)
        self._copy = None

    def _port(self) -> Files:
        if self._files is None:
            raise RuntimeError("this message can't be made into a file: no file system was handed in")
        return self._files


class ViewHeaders:
    """The header section of a view, in order; names without regard to case. Every change is an edit of the view's."""

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        self._view = view

    @property
    def _fields(self) -> Fields:
        return self._view.revision.fields

    def __getitem__(self, name: str) -> str:
        """The first field's unfolded value; KeyError if there is none."""
        if (value := self.get(name)) is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        """Replace the first field of that name, or add it at the end."""
        self._view.edit(ChangeHeader(name, safe(value)))

    def __delitem__(self, name: str) -> None:
        """Delete every field of that name."""
        if name in self:
            self._view.edit(DeleteHeader(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(name) and self._fields.place(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every field as (name, unfolded value), in order."""
        fields = self._fields
        return iter([(fields.spelling(place), fields.value(place)) for place in fields.visible()])

    def __len__(self) -> int:
        names = self._fields.names
        return len(names) - names.count(b"")

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first field's unfolded value, or `default`."""
        if not name or (place := self._fields.place(name)) is None:
            return default
        return self._fields.value(place)

    def all(self, name: str) -> list[str]:
        """Every field of that name, unfolded, in order."""
        return [self._fields.value(place) for place in self._fields.places(name)]

    def raw(self, name: str) -> list[bytes]:
        """The octets after the colon of every field of that name, folds and encoded words included."""
        return [self._fields.raw(place) for place in self._fields.places(name)]

    def add(self, name: str, value: str, at: int | None = None) -> None:
        """Add a field before index `at` (0: the very top; beyond the end: at the end), or at the end.

        Raises ValueError for an impossible name. The value may be any text: it becomes one field (I1).
        """
        self._view.edit(AddHeader(name, safe(value), at))


class ViewPart:
    """One MIME leaf of a view. Reads what the view holds: after `replace`, the new content."""

    __slots__ = ("_leaf", "_replaced", "_view")

    def __init__(self, view: View, leaf: Leaf) -> None:
        self._view = view
        self._leaf = leaf
        self._replaced: bytes | None = view.revision.replaced(leaf.index)

    @property
    def index(self) -> int:
        """Position in the depth-first order of leaves, 0 first."""
        return self._leaf.index

    @property
    def type(self) -> str:
        """Content type, lower-case, without parameters."""
        return self._leaf.type

    @property
    def parameters(self) -> dict[str, str]:
        """The content type's parameters, names in lower case, values decoded."""
        return self._leaf.parameters

    @property
    def filename(self) -> str | None:
        """The file name offered, decoded, with directories cut off."""
        return self._leaf.filename

    @property
    def size(self) -> int:
        """Octets as encoded in the received message."""
        return self._leaf.stop - self._leaf.start

    def read(self, limit: int) -> bytes:
        """Up to `limit` decoded octets."""
        if self._replaced is not None:
            return self._replaced[: max(0, limit)]
        return decode(self._body, self._leaf.start, self._leaf.stop, self._leaf.encoding, limit)

    def replace(self, content: bytes) -> None:
        """Other content for this part, in the part's own charset; it travels in the part's own transfer encoding."""
        self._view.edit(ReplacePart(self._leaf.index, content))
        self._replaced = content

    @property
    def _body(self) -> Blob:
        return self._view.revision.body
