"""Addresses that lead to users, aliases and quotas, at RCPT and in Maildirs, by a running server."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.premises import Premises, fresh_mark, listener, message
from house.server_process import LOOPBACK, eventually

SETTINGS = """
[users]
domain_aliases = { "example.net" = "example.org" }
catch_all = { "example.org" = "bob@example.org" }
quota = "100 KiB"
[[route]]
match = ["*@example.org", "*@example.net"]
deliver = "maildir"
[[alias]]
address = "team@example.org"
to = ["ann@example.org", "bob@example.org", "team@elsewhere.example"]
[[alias]]
address = "postmaster"
to = ["ann@example.org"]
[[route]]
match = "*@elsewhere.example"
deliver = "discard"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    folder: Path = tmp_path_factory.mktemp("addresses")
    with Premises(folder, listener("mx"), SETTINGS).running() as premises:
        yield premises


def send(house: Premises, *to: str) -> str:
    mark = fresh_mark()
    with smtplib.SMTP(LOOPBACK, house.port("mx"), "client.example") as client:
        client.sendmail("dave@bobo.example", to, message(mark).encode())
    return mark


@pytest.mark.parametrize(
    ("address", "user"),
    [
        ("ann+shop@example.org", "ann@example.org"),
        ("ANNE@example.net", "ann@example.org"),
        ("eve+x+y@example.net", "eve@example.org"),
        ("nobody@example.org", "bob@example.org"),
        ("postmaster", "ann@example.org"),
    ],
)
def test_an_address_leads_to_a_maildir(house: Premises, address: str, user: str) -> None:
    assert house.delivered(send(house, address), user).count(b"\nDelivered-To: ") == (
        2 if address == "postmaster" else 1
    )


def test_an_alias_reaches_each_once_and_explain_tells_of_it(house: Premises) -> None:
    mark = send(house, "team@example.org", "ann@example.org")
    house.delivered(mark, "bob@example.org")
    house.delivered(mark)
    assert b"Delivered-To: team@example.org" in house.delivered(mark, "bob@example.org")
    assert b"Delivered-To: team@example.org" not in house.delivered(mark)
    ticket = re.search(rb"\sid ([\w.-]+)", house.delivered(mark))
    assert ticket is not None
    eventually(lambda: "goes on to ann@example.org, bob@example.org" in house.ask("explain", ticket[1].decode()))


def test_a_full_mailbox_refuses_and_has_room_at_once_when_it_is_emptied(house: Premises) -> None:
    full = house.box("eve@example.org") / "new" / "1.a,S=102400,W=102400"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(b"x" * 102_400)
    with smtplib.SMTP(LOOPBACK, house.port("mx"), "client.example") as client:
        client.ehlo()
        client.mail("dave@bobo.example", ["SIZE=5"])
        eventually(lambda: client.rcpt("eve@example.org")[0] == 452)
        assert client.rcpt("eve+x@example.net") == (452, client.rcpt("eve@example.org")[1])
        assert client.rcpt("ann@example.org")[0] == 250
        full.unlink()
        assert client.rcpt("eve@example.org")[0] == 250
        client.rset()
        client.mail("dave@bobo.example", ["SIZE=200000"])
        code, text = client.rcpt("ann@example.org")
        assert code == 552 and text.startswith(b"5.3.4")


def test_unknown_is_unknown(house: Premises) -> None:
    with smtplib.SMTP(LOOPBACK, house.port("mx"), "client.example") as client:
        client.ehlo()
        client.mail("dave@bobo.example")
        code, text = client.rcpt("abuse@example.org")
        assert code == 550 and text.startswith(b"5.1.1")


def test_other_rules_take_effect_with_a_reload(house: Premises) -> None:
    house.settings.write_text(house.settings.read_text().replace('"bob@example.org" }', '"eve@example.org" }'))
    house.ask("reload")
    house.delivered(send(house, "somebody@example.org"), "eve@example.org")
