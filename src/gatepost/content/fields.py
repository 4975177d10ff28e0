"""A header section that is being edited: the fields of a Section in two lists, and the header edits applied to them.

Strategy: fields are octets and stay so; only an edit makes new ones, through `values.write_field`. What isn't a field
keeps its place and isn't counted: indexes and occurrences speak of the fields an editor can see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from gatepost.content.headers import Section
from gatepost.content.values import read_value, write_field
from gatepost.model import AddHeader, ChangeHeader, DeleteHeader, HeaderEdit


class Fields:
    """Fields in order. Invariant: `names[i]` is the lower-case name of `octets[i]`, b"" for what isn't a field."""

    __slots__ = ("_blank", "names", "octets", "utf8")

    def __init__(self, section: Section, *, utf8: bool = False) -> None:
        self.octets = section.fields.copy()
        self.names = section.names.copy()
        self.utf8 = utf8
        self._blank = section.blank

    def apply(self, edit: HeaderEdit) -> None:
        """Change the fields; raises ValueError for an impossible name."""
        match edit:
            case AddHeader(name, value, at):
                self._insert(self._position(at), name, value)
            case ChangeHeader(name, value, occurrence):
                place = self.place(name, occurrence)
                if place is None:
                    self._insert(len(self.names), name, value)
                else:
                    self.octets[place] = write_field(self.spelling(place), value, utf8=self.utf8)
            case DeleteHeader(name, occurrence):
                one = None if occurrence is None else self.place(name, occurrence)
                places = self.places(name) if occurrence is None else [] if one is None else [one]
                for place in reversed(places):
                    del self.octets[place], self.names[place]
            case _:
                assert_never(edit)

    def place(self, name: str, occurrence: int = 0) -> int | None:
        """Where the `occurrence`-th field of that name stands."""
        key, at = _key(name), -1
        try:
            for _ in range(occurrence + 1):
                at = self.names.index(key, at + 1)
        except ValueError:
            return None
        return at if at >= 0 else None

    def places(self, name: str) -> list[int]:
        """Where the fields of that name stand, in order."""
        key = _key(name)
        return [place for place, known in enumerate(self.names) if known == key] if key else []

    def visible(self) -> Iterator[int]:
        """Where the fields stand, in order."""
        return (place for place, name in enumerate(self.names) if name)

    def spelling(self, place: int) -> str:
        """The name of the field there, as written."""
        return self.octets[place][: len(self.names[place])].decode("ascii")

    def raw(self, place: int) -> bytes:
        """The octets after the colon of the field there, folds included, without the last line end."""
        return self.octets[place].partition(b":")[2].rstrip(b"\r\n")

    def value(self, place: int) -> str:
        """The text of the field there."""
        return read_value(self.raw(place))

    def join(self, *, with_blank: bool = False) -> bytes:
        """The section's octets; with the empty line even where the content ended before it, if asked for."""
        head = b"".join(self.octets)
        if with_blank and not self._blank.endswith(b"\n"):
            return head + (b"\r\n\r\n" if head and not head.endswith(b"\n") else b"\r\n")
        return head + self._blank

    def _position(self, at: int | None) -> int:
        if at is None:
            return len(self.names)
        at = max(0, at)
        if b"" not in self.names:
            return min(at, len(self.names))
        visible = list(self.visible())
        return visible[at] if at < len(visible) else len(self.names)

    def _insert(self, place: int, name: str, value: str) -> None:
        field = write_field(name, value, utf8=self.utf8)
        if place and place == len(self.octets) and not self.octets[-1].endswith(b"\n"):
            last = self.octets[-1]  # the content ended within this line
            self.octets[-1] = last + (b"\n" if last.endswith(b"\r") else b"\r\n")
        self.octets.insert(place, field)
        self.names.insert(place, name.lower().encode("ascii"))


def _key(name: str) -> bytes:
    return name.lower().encode("ascii", "replace")
