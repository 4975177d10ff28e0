"""A message's content with edits applied in order, and the parse of the received one that all views share.

Strategy: header edits work on `Fields`; a new body takes the old one's place; new parts are remembered by their place
in the body and put between spans of it when the message is rendered. So an edit costs what it changes, whatever the
size of the message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from gatepost.content.fields import Fields
from gatepost.content.headers import Section, read_section
from gatepost.content.mime import DEFAULT_LIMITS, Leaf, MimeLimits, Structure, Walk
from gatepost.content.pieces import Rendered, Span, crlf, has_bare_line_end
from gatepost.content.transfer import encode
from gatepost.model import (
    AddHeader,
    AddRecipient,
    Blob,
    Bytes,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    Edit,
    Keep,
    RemoveRecipient,
    ReplaceBody,
    ReplaceMessage,
    ReplacePart,
    Split,
)

_SHAPING = (b"content-type", b"content-transfer-encoding", b"mime-version")  # fields the structure hangs on


class Parsed:
    """A blob and what was found out about it, once for all views. Nothing is read before it is asked for."""

    __slots__ = ("_body", "_section", "blob", "known_structure", "limits")

    def __init__(self, blob: Blob, limits: MimeLimits = DEFAULT_LIMITS, section: Section | None = None) -> None:
        self.blob = blob
        self.limits = limits
        self.known_structure: Structure | None = None
        self._section = section
        self._body: Rendered | None = None

    @property
    def section(self) -> Section:
        """The header section; whoever has it from a scanner hands it in."""
        if self._section is None:
            self._section = read_section(self.blob)
        return self._section

    @property
    def body(self) -> Rendered:
        """Everything after the header section."""
        if self._body is None:
            start = len(self.section.raw)
            self._body = Rendered([Span(self.blob, start, self.blob.size - start)])
        return self._body


class Revision:
    """The content with the edits so far. Invariant: `rendered()` is what storing the message now would store."""

    def __init__(self, parsed: Parsed, *, utf8: bool = False) -> None:
        self.fields = Fields(parsed.section, utf8=utf8)
        self._parsed = parsed
        self._new_body: Rendered | None = None
        self._unchecked: Blob | None = None  # a plugin's body whose line ends nobody has looked at yet
        self._structure: Structure | None = None
        self._shape = 0  # counts what may change the structure; 0: as received
        self._parts: dict[int, _NewPart] = {}
        self._rendered: Blob | None = parsed.blob

    @property
    def body(self) -> Rendered:
        """The body without the replaced parts."""
        if self._unchecked is not None:
            self._new_body = _clean(self._unchecked)
            self._unchecked = None
        return self._parsed.body if self._new_body is None else self._new_body

    def apply(self, edit: Edit) -> None:
        """Let an edit take effect; those that don't concern the content are passed over."""
        match edit:
            case AddHeader() | ChangeHeader() | DeleteHeader():
                if edit.name.lower().encode("ascii", "replace") in _SHAPING:
                    self._settle()
                self.fields.apply(edit)
            case ReplaceBody(body):
                self._parts.clear()
                self._unchecked, self._structure = body, None
                self._shape += 1
            case ReplaceMessage(content):
                whole = _clean(content)
                section = read_section(whole)
                self.fields = Fields(section, utf8=self.fields.utf8)
                self._parts.clear()
                self._new_body = Rendered(whole.span(len(section.raw), whole.size))
                self._unchecked = self._structure = None
                self._shape += 1
            case ReplacePart(index, content):
                self._replace_part(index, content)
            case AddRecipient() | RemoveRecipient() | ChangeSender() | Split() | Keep():
                return
        self._rendered = None

    def rendered(self) -> Blob:
        """The content as it is now."""
        if self._rendered is None:
            body = self._body_spans()
            head = self.fields.join(with_blank=bool(body))
            body.insert(0, Span(Bytes(head), 0, len(head)))
            self._rendered = Rendered(body)
        return self._rendered

    def replaced(self, index: int) -> bytes | None:
        """The new content of a leaf, if it has one."""
        part = self._parts.get(index)
        return None if part is None else part.content

    def structure(self) -> Structure:
        """The MIME structure, walked at once."""
        for _ in self._walking():
            pass
        return self._known()

    async def structure_with(self, pause: Callable[[], Awaitable[object]] | None) -> Structure:
        """The MIME structure; `pause` is awaited between pieces of the body."""
        for _ in self._walking():
            if pause is not None:
                await pause()
        return self._known()

    def _walking(self) -> Iterator[None]:
        shape = self._shape
        if self._structure is None and shape == 0:
            self._structure = self._parsed.known_structure
        if self._structure is not None:
            return
        walk = Walk(Section(self.fields.join()), self._parsed.limits)
        for chunk in self.body.chunks():
            if not walk.feed(chunk):
                break
            yield
        if self._shape != shape:
            return  # an edit came while others had their turn: what was found belongs to the old content
        self._structure = walk.end(self.body.size)
        if shape == 0:
            self._parsed.known_structure = self._structure

    def _known(self) -> Structure:
        if self._structure is None:
            raise RuntimeError("the message changed while its structure was being read")
        return self._structure

    def _settle(self) -> None:
        """Before the structure changes, replaced parts become part of the body."""
        if self._parts:
            self._new_body = Rendered(self._body_spans())
            self._parts.clear()
        self._structure = None
        self._shape += 1

    def _replace_part(self, index: int, content: bytes) -> None:
        leaves = self.structure().leaves
        if not 0 <= index < len(leaves):
            return
        leaf = leaves[index]
        before = self._parts.get(index)
        current = leaf.encoding if before is None else before.encoding
        octets, encoding = encode(content, current, text=leaf.type.startswith("text/"), outside=leaf.boundaries)
        head: bytes | None = None
        if leaf.is_message:
            octets += b"\r\n" if octets else b""
            if encoding != current:
                self.fields.apply(ChangeHeader("Content-Transfer-Encoding", encoding))
        elif encoding != leaf.encoding or not leaf.header.blank.endswith(b"\n"):
            fields = Fields(leaf.header)
            if encoding != leaf.encoding:
                fields.apply(ChangeHeader("Content-Transfer-Encoding", encoding))
            head = fields.join(with_blank=True)
        self._parts[index] = _NewPart(leaf, content, octets, encoding, head)

    def _body_spans(self) -> list[Span]:
        body = self.body
        if not self._parts:
            return list(body.spans)
        spans: list[Span] = []
        at = 0
        for part in sorted(self._parts.values(), key=lambda part: part.leaf.start):
            start = part.leaf.start if part.head is None else part.leaf.head
            octets = part.octets if part.head is None else part.head + part.octets
            spans += body.span(at, start)
            if octets:
                spans.append(Span(Bytes(octets), 0, len(octets)))
            at = part.leaf.stop
        return spans + body.span(at, body.size)


class _NewPart:
    """A leaf's new content, as octets for the message; `head` where the part's header had to change too."""

    __slots__ = ("content", "encoding", "head", "leaf", "octets")

    def __init__(self, leaf: Leaf, content: bytes, octets: bytes, encoding: str, head: bytes | None) -> None:
        self.leaf = leaf
        self.content = content
        self.octets = octets
        self.encoding = encoding
        self.head = head


def _clean(body: Blob) -> Rendered:
    """The body with whole line ends (DESIGN: a bare CR or LF is never passed on)."""
    if has_bare_line_end(body.chunks()):
        body = Bytes(b"".join(crlf(body.chunks())))
    return Rendered([Span(body, 0, body.size)])
