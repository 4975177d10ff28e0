"""What the pages point to is there: files, sections, and the functions they name."""

from __future__ import annotations

import ast
import re

import pytest

from unit.docs.pages import PAGES, ROOT, SOURCE, prose

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)")
_NAMED = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)(?::([A-Za-z_][\w.]*))?`")


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def _definitions(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                found.add(name)
                inner = (one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
                found |= {f"{name}.{method}" for method in inner}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case _:
                pass
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in _LINK.findall(text):
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name}: there is no {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_function_that_is_named_exists(page):
    for file, name in _NAMED.findall(prose(page)):
        path = ROOT / file if (ROOT / file).is_file() else SOURCE / file
        assert path.is_file(), f"{page.name}: there is no {file}"
        if name:
            assert name in _definitions(ast.parse(path.read_text(encoding="utf-8"))), f"{page.name}: {file}:{name}"
