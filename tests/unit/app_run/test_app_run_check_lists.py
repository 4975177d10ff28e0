"""What `gatepost check` says about lists."""

from pathlib import Path

from gatepost.app.looking_at_lists import look_at_lists
from gatepost.app.settings.root import Settings
from gatepost.store.lists_database import ListDatabase
from gatepost.store.lists_facts import ListOptions


def test_each_list_is_looked_at_once(tmp_path: Path) -> None:
    routes = [{"match": f"{name}@Example.org", "deliver": f"list {name}"} for name in ("news", "dev", "ghost", "moved")]
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


def test_without_lists_nothing_is_said(tmp_path: Path) -> None:
    assert list(look_at_lists(Settings.in_memory(hostname="mx.test"))) == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "lists.db").write_bytes(b"x" * 5000)
    settings = Settings.in_memory(hostname="mx.test").model_copy(update={"data": tmp_path})
    [(_, state, text)] = look_at_lists(settings)
    assert state == "failed" and "lists.db" in text
