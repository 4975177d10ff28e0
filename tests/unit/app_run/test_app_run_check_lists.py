"""What `gatepost check` says about lists."""

import os
from pathlib import Path

from gatepost.app.looking_at_lists import look_at_lists
from gatepost.app.settings.root import Settings
from gatepost.store.lists_database import ListDatabase
from gatepost.store.lists_facts import ListOptions
from gatepost.store.registry import Registry


def test_each_list_is_looked_at_once(tmp_path: Path) -> None:
    routes = [{"match": f"{name}@Example.org", "deliver": f"list {name}"} for name in ("news", "dev", "ghost", "moved")]
    routes.append({"match": "*@example.org", "deliver": "maildir"})
    settings = Settings.in_memory(hostname="mx.test", route=routes).model_copy(update={"data": tmp_path})
    told = [text for _, _, text in look_at_lists(settings)]
    assert len(told) == 4 and not (tmp_path / "lists.db").exists()
    lists = ListDatabase(tmp_path / "lists.db")
    lists.create("news", "news@example.org", ListOptions(owners=("boss@example.org",)))
    lists.subscribe_all("news", [("ann@example.org", "")], now=1)
    lists.create("dev", "dev@example.org", ListOptions())
    lists.create("moved", "moved@example.com", ListOptions())
    lists.create("alone", "alone@example.org", ListOptions())
    lists.close()
    assert list(look_at_lists(settings)) == [
        ("list", "ok", "news: news@example.org, members 1, post: members"),
        ("list", "warning", "dev has no owner; gatepost list set dev owners=ADDRESS"),
        (
            "list",
            "warning",
            "there is no list ghost yet, so whoever writes to ghost@example.org hears 451; "
            "gatepost list create ghost ghost@example.org",
        ),
        (
            "list",
            "failed",
            'moved is moved@example.com, but its route takes mail for moved@example.org; match = "moved@example.com"',
        ),
        (
            "list",
            "warning",
            'alone has no route, so nobody can write to it; [[route]] match = "alone@example.org", '
            'deliver = "list alone"',
        ),
    ]


def test_a_second_route_with_another_address_is_told(tmp_path: Path) -> None:
    """Whoever writes to it hears 550: the list has no such address."""
    routes = [{"match": f"{name}@example.org", "deliver": "list news"} for name in ("old", "news")]
    settings = Settings.in_memory(hostname="mx.test", route=routes).model_copy(update={"data": tmp_path})
    lists = ListDatabase(tmp_path / "lists.db")
    lists.create("news", "news@example.org", ListOptions(owners=("boss@example.org",)))
    lists.close()
    told = [(state, text) for _, state, text in look_at_lists(settings)]
    assert [state for state, _ in told] == ["failed", "ok"]
    assert told[0][1].startswith("news is news@example.org, but its route takes mail for old@example.org")


def test_without_lists_nothing_is_said(tmp_path: Path) -> None:
    assert list(look_at_lists(Settings.in_memory(hostname="mx.test"))) == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "lists.db").write_bytes(b"x" * 5000)
    settings = Settings.in_memory(hostname="mx.test").model_copy(update={"data": tmp_path})
    [(_, state, text)] = look_at_lists(settings)
    assert state == "failed" and "lists.db" in text


def test_who_else_has_an_address_and_whom_nobody_sends_to(tmp_path: Path) -> None:
    settings = Settings.in_memory(
        hostname="mx.test",
        route=[
            {"match": "news@example.org", "deliver": "list news"},
            {"match": "news-owner@example.org", "deliver": "list other"},
            {"match": "*@example.org", "deliver": "maildir"},
        ],
        user=[{"name": "News-Request@example.org"}],
        alias=[{"address": "news@example.org", "to": ["ann@example.org"]}],
    ).model_copy(update={"data": tmp_path})
    registry = Registry(tmp_path / "users.db", os.urandom)
    registry.add("carl@example.org", None, aliases=["news-unsubscribe@example.org"])
    registry.close()
    lists = ListDatabase(tmp_path / "lists.db")
    options = ListOptions(owners=("boss@example.org",))
    lists.create("news", "news@example.org", options)
    lists.create("other", "news-owner@example.org", options)
    people = [("ann@example.org", ""), ("bob@example.net", ""), ("eve@example.net", "")]
    lists.subscribe_all("news", people, now=1)
    lists.close()
    assert [text.partition(";")[0] for _, state, text in look_at_lists(settings) if state == "warning"] == [
        "news-owner@example.org is the list other, and one of the addresses of news too",
        "news@example.org is an [[alias]] too, which goes first: the list news gets none of that mail",
        "news-request@example.org is an address of the user News-Request@example.org too: that mail goes to the list "
        "news now",
        "news-unsubscribe@example.org is an address of the user carl@example.org too: that mail goes to the list "
        "news now",
        "news: no route takes mail for bob@example.net and 1 more members, so their posts wait in the queue, and then "
        "come back",
    ]
