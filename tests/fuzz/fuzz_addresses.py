"""Fuzz target: any octets as an address, an address list, a HELO name and an authserv-id.

Run `python tests/fuzz/fuzz_addresses.py -max_total_time=60` where atheris is installed; the laws drive it with
hypothesis.
"""

from __future__ import annotations

import sys

from gatepost.content.addresses import parse_list
from gatepost.content.intake import authserv_id
from gatepost.content.received import received, return_path
from gatepost.content.values import read_value, write_field
from gatepost.model import AddressError, Path


def one_input(data: bytes) -> None:
    """Whatever is read ends in a value or an AddressError; whatever is written is one field."""
    text = data.decode("utf-8", "replace")
    paths: tuple[Path, ...] = ()
    try:
        path = Path.parse(text)
    except AddressError:
        pass
    else:
        assert Path.parse(path.address) == path
        one_field(return_path(path), 1)
        paths = (path,)
    for mailbox in parse_list(read_value(data)).mailboxes:
        assert "@" in mailbox.address
        one_field(write_field("To", f"{mailbox.name} <{mailbox.address}>"))
    authserv_id(text)
    stamp = received(
        helo=text, address=None, hostname=text, keyword="ESMTP", ticket="T", unix_time=0, name=text, recipients=paths
    )
    one_field(stamp, 4)


def one_field(octets: bytes, lines: int | None = None) -> None:
    """Only the first line begins without a blank, and no CR or LF stands alone."""
    rows = octets.split(b"\r\n")
    assert rows.pop() == b""
    assert lines is None or len(rows) == lines
    assert all(row[:1] in (b" ", b"\t") for row in rows[1:])
    assert not any(b"\r" in row or b"\n" in row or b"\0" in row for row in rows)


def main() -> None:
    """Let atheris look for findings."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
