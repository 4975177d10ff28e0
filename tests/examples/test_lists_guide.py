"""docs/lists.md and the web page behind one-click unsubscription: what they say can be done, and does it."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from wsgiref.util import setup_testing_defaults

import pytest

from gatepost.app.cli import main
from gatepost.app.settings import load
from gatepost.lists.addressing import unsubscribe_token
from gatepost.store.lists_database import ListDatabase

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "lists.md").read_text(encoding="utf-8")
[SETTINGS] = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
Page = Callable[..., tuple[str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gatepost.toml"
    file.write_text(SETTINGS.replace("/var/lib/gatepost", "data"), encoding="utf-8")
    return file


def run(file: Path, line: str) -> int:
    return main(["-c", str(file), *shlex.split(line.removeprefix("gatepost "))])


def test_its_first_list_can_be_made(file: Path) -> None:
    assert load(file, environ={}).has_lists
    first = GUIDE.partition("## The first list")[2].partition("```\n")[2].partition("```")[0]
    assert [run(file, line) for line in first.splitlines() if line.startswith("gatepost list ")] == [0, 0]
    lists = ListDatabase(file.parent / "data/lists.db")
    assert [one.address for one in lists.members("news")] == ["ann@example.org", "bob@example.net"]
    lists.close()


def test_every_option_has_its_row_and_every_row_an_option(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(file, "list create news news@example.org")
    capsys.readouterr()
    run(file, "list show news")
    options = set(re.findall(r"^  (\w+) =", capsys.readouterr().out, re.MULTILINE))
    table = GUIDE.partition("| option | value |")[2].partition("\n\n")[0]
    assert {
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if "|" in row else "")
    } == options


@pytest.fixture
def lists(file: Path) -> Iterator[ListDatabase]:
    run(file, "list create news news@example.org")
    run(file, "list subscribe news ann@example.org bob@example.org")
    opened = ListDatabase(file.parent / "data/lists.db")
    yield opened
    opened.close()


@pytest.fixture
def page(file: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setenv("GATEPOST_CONFIG", str(file))
    example = module(ROOT / "examples" / "one_click.py")

    def ask(method: str, path: str, body: bytes = b"List-Unsubscribe=One-Click") -> tuple[str, str]:
        """The status and the page."""
        said: list[str] = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
        setup_testing_defaults(environ)
        page = b"".join(example.application(environ, lambda status, headers: said.append(status)))
        return said[0][:3], page.decode()

    return ask


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_one_post_leaves_the_list_and_looking_does_not(lists: ListDatabase, page: Page) -> None:
    ann, bob = lists.members("news")
    path = f"/leave/{unsubscribe_token(ann.id, lists.secret)}"
    status, shown = page("GET", path)
    assert (status, 'name="List-Unsubscribe" value="One-Click"' in shown) == ("200", True)
    assert page("HEAD", path) == ("200", "")
    assert lists.members("news") == [ann, bob]
    for _ in range(2):  # a second time does no harm
        assert page("POST", path)[0] == "200"
        assert lists.members("news") == [bob]
    assert page("POST", f"/leave/{bob.id}-aaaaaaaaaa")[0] == "404"  # asks the command, which says 65
    assert lists.members("news") == [bob]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "1",
        "--help",
        "-c",
        "1-",
        "1-aaaaaaaaaa;reboot",
        "1-aaaaaaaaaa\n",
        "1-aaaaaaaaa\0",
        "1-aaaaaaaaaä",
        "<script>",
        "9" * 5000,
    ],
)
def test_what_is_no_token_never_becomes_an_argument(page: Page, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr("subprocess.run", None)
    status, shown = page("POST", f"/leave/{token}")
    assert status == "404" and "script" not in shown


def test_when_the_lists_cant_be_asked_it_is_for_later(lists: ListDatabase, page: Page, file: Path) -> None:
    [ann, _] = lists.members("news")
    file.write_text("hostname = 1")
    assert page("POST", f"/leave/{unsubscribe_token(ann.id, lists.secret)}")[0] == "503"
