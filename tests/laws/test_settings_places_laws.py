"""The places of keys in a TOML text agree with what tomllib reads there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import tomlkit
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.app.settings.places import line_and_column, spots
from gatepost.app.settings.units import parse_duration, parse_size, show_duration, show_size

GNARLY = '''
# [not.a.table]
top = """three
quotes "" and \\""" and = [ end"""""   # comment = 1
'single.quoted' = '\\'
"double \\" quoted".inner = {a=1,b={c=[1,[2,"]"],{d="}"}]}}
date = 1979-05-27 07:32:00
list = [ # [
  "a,b", 'c]', """
d""",
]
[table.sub]
key=true
[[array]]
x = 1
[array.own]
y = 2
[[array.own.inner]]
z = 3
[[array]]
x = 4
[[array.nested]]
deep.er = -1.5e3
'''

scalars = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.text(st.characters(codec="utf-8"), max_size=12))
keys = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=6)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from leaves(value, (*path, at))
    else:
        yield path, node


def check(text: str) -> None:
    found = spots(text)
    for path, value in leaves(tomllib.loads(text)):
        spot = found[path]
        assert tomllib.loads("value = " + text[spot.start : spot.end])["value"] == value
        line, column = line_and_column(text, spot.start)
        assert text.split("\n")[line - 1][column - 1 :] == text[spot.start :].split("\n")[0]


def test_a_gnarly_text() -> None:
    check(GNARLY)
    assert spots(GNARLY)[("array", 1, "nested", 0, "deep", "er")].start == GNARLY.index("-1.5e3")


@given(st.dictionaries(keys, trees, max_size=5))
@example({"a": [{"b": 1}, {"b": 2}]})
@example({"a": {"b": {"c": [[], {}, ""]}}})
def test_every_value_is_found_where_it_stands(tree: dict[str, Any]) -> None:
    check(tomlkit.dumps(tree).replace("\r\n", "\n"))


@given(st.integers(0, 2**50))
def test_sizes_read_back_as_they_are_shown(octets: int) -> None:
    assert parse_size(show_size(octets)) == octets


@given(st.one_of(st.integers(0, 10**8), st.integers(0, 999).map(lambda ms: ms / 1000)))
def test_durations_read_back_as_they_are_shown(seconds: float) -> None:
    assert abs(parse_duration(show_duration(seconds)) - seconds) < 1e-9
