"""Fuzz target: any octets as a message. Headers, view, structure and parts must come through whole and unharmed.

Run `python tests/fuzz/fuzz_headers.py -max_total_time=60` where atheris is installed; the laws drive it with
hypothesis.
"""

from __future__ import annotations

import sys

from gatepost.content.headers import HeaderScanner, Limits, Section, read_section
from gatepost.content.intake import authors, forged_results
from gatepost.content.revision import Parsed, Revision
from gatepost.content.transfer import decode
from gatepost.content.view import View, render
from gatepost.model import AddHeader, Bytes, ReplacePart


def one_input(data: bytes) -> None:
    """Everything `content` does to a stranger's octets; an AssertionError or any exception is a finding."""
    blob = Bytes(data)
    section = read_section(blob)
    assert b"".join(section.fields) + section.blank == section.raw
    assert b"".join(render(blob, [])) == data

    scanner = HeaderScanner(Limits(1 << 20, 1 << 20))
    found = None
    for at in range(0, len(data), 7):
        if (found := scanner.feed(data[at : at + 7])) is not None:
            break
    found = found or scanner.end()
    assert isinstance(found, Section)
    assert found.raw == section.raw

    view = View(blob)
    for name, value in view.headers:
        assert name
        assert not set(value) & set("\r\n\0"), value
        assert view.headers[name] is not None
    authors(section)
    for edit in forged_results(section, "mx.example.org", ("X-Route",)):
        view.edit(edit)
    assert forged_results(read_section(view.blob), "mx.example.org", ("X-Route",)) == []

    parsed = Parsed(blob)
    structure = Revision(parsed).structure()
    assert len(structure.leaves) <= parsed.limits.parts
    at = 0
    for leaf in structure.leaves:
        assert at <= leaf.start <= leaf.stop <= parsed.body.size
        at = leaf.stop
        decode(parsed.body, leaf.start, leaf.stop, leaf.encoding, 1000)
        assert leaf.filename is None or "/" not in leaf.filename
        rendered = b"".join(render(blob, [ReplacePart(leaf.index, b"new \xff"), AddHeader("X-New", "x")]))
        assert b"X-New: x\r\n" in rendered


def main() -> None:
    """Let atheris look for findings."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
