"""Content on its way out: checked for bare CR and LF, dot-stuffed or cut into BDAT chunks, never held whole.

Strategy: `bytes.count` finds stray CR and LF and `bytes.replace` stuffs dots, both over whole chunks; between chunks
only a CR at the end (its LF may come next) and whether a line begins are remembered.
"""

from __future__ import annotations


class StrayLineEnd(ValueError):
    """The content holds a bare CR or LF, which is never sent on: another server might take it for a line end."""


class LineCheck:
    """Chunks whose every CR and LF is half of a CRLF, wherever the content is cut. `at_line_start` at the beginning."""

    __slots__ = ("_carry", "at_line_start")

    def __init__(self) -> None:
        self._carry = False  # a CR is held back
        self.at_line_start = True

    def pass_on(self, chunk: bytes) -> bytes:
        """The chunk, with the CR held back before and without one at its own end. Raises StrayLineEnd."""
        if self._carry:
            chunk = b"\r" + chunk
            self._carry = False
        if chunk.endswith(b"\r"):
            chunk = chunk[:-1]
            self._carry = True
        pairs = chunk.count(b"\r\n")
        if chunk.count(b"\n") != pairs or chunk.count(b"\r") != pairs:
            raise StrayLineEnd("the content has a bare CR or LF")
        return chunk

    def finish(self) -> None:
        """Raises StrayLineEnd for a CR at the very end."""
        if self._carry:
            raise StrayLineEnd("the content ends in a bare CR")


class DotStuffing:
    """Content for DATA: what `stuff` and `end` return, joined, is RFC 5321 §4.5.2's form of it."""

    __slots__ = ("_check",)

    def __init__(self) -> None:
        self._check = LineCheck()

    def stuff(self, chunk: bytes) -> bytes:
        """A chunk in its form for the wire. Raises StrayLineEnd."""
        check = self._check
        chunk = check.pass_on(chunk)
        if not chunk:
            return chunk
        leading = check.at_line_start and chunk.startswith(b".")
        check.at_line_start = chunk.endswith(b"\n")
        chunk = chunk.replace(b"\r\n.", b"\r\n..")  # rfc5321#4.5.2
        return b"." + chunk if leading else chunk

    def end(self) -> bytes:
        """What closes the content. Raises StrayLineEnd."""
        self._check.finish()
        return b".\r\n" if self._check.at_line_start else b"\r\n.\r\n"  # rfc5321#4.1.1.4


class Chunking:
    """Content for BDAT (RFC 3030), one command a chunk. The newest chunk waits, so that the last one can say LAST."""

    __slots__ = ("_check", "_held")

    def __init__(self, *, binary: bool) -> None:
        self._check = None if binary else LineCheck()
        self._held = b""

    def put(self, chunk: bytes) -> bytes | None:
        """The command and octets of the chunk before this one; None if there is none. Raises StrayLineEnd."""
        if self._check is not None:
            chunk = self._check.pass_on(chunk)
        if not chunk:
            return None
        before, self._held = self._held, chunk
        return b"BDAT %d\r\n%b" % (len(before), before) if before else None

    def end(self) -> bytes:
        """The last command and its octets. Raises StrayLineEnd."""
        if self._check is not None:
            self._check.finish()
        return b"BDAT %d LAST\r\n%b" % (len(self._held), self._held)
