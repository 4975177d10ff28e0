"""What `gatepost check` says of aliases and catch-alls, with the users of settings and registry on the table."""

from __future__ import annotations

import os
from pathlib import Path as File

import pytest

from gatepost.app.looking_at_addresses import look_at_addresses
from gatepost.app.settings import load
from gatepost.store.registry import Registry

SETTINGS = """
hostname = "mx.example.org"
data = "data"
[[route]]
match = ["*@example.org", "*@example.net"]
deliver = "maildir"
[[route]]
match = "*@inner.example"
deliver = "relay 127.0.0.1:9"
recipients = "users"
[[user]]
name = "ann@example.org"
"""
GOOD = """
[users]
catch_all = { "example.org" = "info@example.org" }
[[alias]]
address = "info@example.org"
to = ["ann+x@example.org", "kept@example.org", "x@inner.example", "postmaster@example.org"]
[[alias]]
address = "ann@example.org"
to = ["ann@example.org", "kept@example.org"]
[[user]]
name = "bob@example.org"
aliases = ["sales@example.org"]
[[alias]]
address = "sales@example.org"
to = ["ann@example.org"]
"""


def looked(folder: File, more: str) -> list[str]:
    file = folder / "gatepost.toml"
    file.write_text(SETTINGS + more)
    registry = Registry(folder / "users.db", os.urandom)
    registry.add("kept@example.org")
    registry.close()
    (folder / "data").mkdir()
    (folder / "users.db").rename(folder / "data" / "users.db")
    return [f"{what} {state}: {text}" for what, state, text in look_at_addresses(load(file, environ={}))]


def test_where_there_are_none_nothing_is_said(tmp_path: File) -> None:
    assert looked(tmp_path, "") == []


def test_all_is_well(tmp_path: File) -> None:
    assert looked(tmp_path, GOOD) == ["addresses ok: aliases 3, catch_all 1: all lead to somebody"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[[alias]]\naddress = "info@example.org"\nto = ["ann@example.org", "gone@example.net"]',
            "info@example.org → gone@example.net: nobody has this mailbox, so copies for it fail; "
            "gatepost user add gone@example.net",
        ),
        (  # told once
            '[[alias]]\naddress = "info@example.org"\nto = ["gone@example.net"]\n'
            '[[alias]]\naddress = "a@example.org"\nto = ["gone@example.net", "ann@example.org"]',
            "info@example.org → gone@example.net: nobody has this mailbox, so copies for it fail; "
            "gatepost user add gone@example.net",
        ),
        (
            '[[alias]]\naddress = "info@example.org"\nto = ["info@example.org", "ann@example.org"]',
            "info@example.org → info@example.org: nobody has this mailbox, so copies for it fail; "
            "gatepost user add info@example.org",
        ),
        (
            '[[alias]]\naddress = "kept@example.org"\nto = ["ann@example.org"]',
            "kept@example.org → ann@example.org: its user gets none of it; put kept@example.org into to as well",
        ),
        (
            '[users]\ncatch_all = { "example.org" = "gone@example.net" }',
            "catch_all example.org → gone@example.net: nobody has it, so it catches nothing; "
            "gatepost user add gone@example.net",
        ),
        (
            '[users]\ncatch_all = { "inner.example" = "ann@example.org" }',
            "catch_all inner.example → ann@example.org: its route delivers by relay, to the address as it was; "
            '"maildir"',
        ),
    ],
)
def test_what_leads_nowhere_is_told(tmp_path: File, more: str, said: str) -> None:
    assert looked(tmp_path, more) == [f"addresses warning: {said}"]


def test_a_registry_that_cant_be_read_fails(tmp_path: File) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/users.db").write_bytes(b"no database" * 100)
    (tmp_path / "gatepost.toml").write_text(SETTINGS + GOOD)
    [(what, state, text)] = look_at_addresses(load(tmp_path / "gatepost.toml", environ={}))
    assert (what, state) == ("addresses", "failed") and "users.db can't be opened" in text
