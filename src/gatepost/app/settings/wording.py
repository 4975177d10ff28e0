"""Turns pydantic's errors into problems: what is wrong in our words, and what to write instead.

Our own validators bring their words along. For the rest the table of error types below is complete for the constraints
that the sections use; whatever else comes keeps pydantic's sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gatepost.app.settings.display import header, kind_of, toml
from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.units import shown

_MANY = 10


def problems_of(errors: Iterable[ErrorDetails], root: type[BaseModel], tree: Mapping[str, Any]) -> list[Problem]:
    """One problem for each error."""
    return [_problem(error, _path_in(error["loc"], tree), root) for error in errors]


def _problem(error: ErrorDetails, path: KeyPath, root: type[BaseModel]) -> Problem:
    context = error.get("ctx", {})
    if error["type"] == "gatepost":
        path = (*path, *context["at"])
    key = str(next((step for step in reversed(path) if isinstance(step, str)), "the file"))
    value = error.get("input")
    match error["type"]:
        case "gatepost":
            mend = context["mend"]
            is_value = mend.startswith(('"', "[")) and not mend.startswith("[[")
            return Problem(path, context["what"], context["note"], f"{key} = {mend}" if is_value else mend)
        case "extra_forbidden":
            return _unknown(path, root)
        case "missing":
            return Problem(path, f"{key} is missing", mend=f"{key} = …", see=_described(path, root), at_key=True)
        case "literal_error":
            choices = _choices(context["expected"])
            near = get_close_matches(str(value), choices, 1)
            mend = f'{key} = "{near[0]}"' if near else " or ".join(f'"{choice}"' for choice in choices)
            there_are = "" if not near else "there are " + ", ".join(choices)
            return Problem(path, f"{key} can't be {shown(value)}", note=there_are, mend=mend)
        case "greater_than_equal" | "greater_than" | "less_than_equal":
            limit = context.get("ge", context.get("gt", context.get("le")))
            word = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"}
            bound = _in_unit(limit, path, root)
            mend = f'{key} = "30s"' if error["type"] == "greater_than" else f"{key} = {bound}"  # only durations exclude
            return Problem(path, f"{key} can't be {shown(value)}: it is {word[error['type']]} {bound}", mend=mend)
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(path, f"{key} is a table", mend=f"{header(path)} on a line of its own, its keys below")
        case "tuple_type":
            return Problem(path, f"{key} is a list", mend=_list_mend(path, root, key))
        case _:
            return Problem(path, f"{key}: {error['msg'][:1].lower()}{error['msg'][1:]}")


def _path_in(location: Iterable[str | int], tree: Any) -> KeyPath:
    """The key path of pydantic's location: without what it adds for the members of a union."""
    path: list[str | int] = []
    steps = list(location)
    for at, step in enumerate(steps):
        known = (isinstance(tree, Mapping) and step in tree) or (isinstance(tree, list) and isinstance(step, int))
        if known:
            tree = tree[step] if not isinstance(tree, list) or int(step) < len(tree) else None
            path.append(step)
        elif at == len(steps) - 1 and isinstance(tree, Mapping):
            path.append(step)
    return tuple(path)


def _unknown(path: KeyPath, root: type[BaseModel]) -> Problem:
    names = _names(_model_at(path[:-1], root))
    key = str(path[-1])
    what = f'there is no key "{key}"'
    if near := next(iter(get_close_matches(key, names, 1)), ""):
        meant = (*path[:-1], near)
        return Problem(path, what, f'did you mean "{near}"?', _written(meant, root), at_key=True, meant=meant)
    if homes := _homes_of(key, root):
        mend = ", or ".join(f"{header(home)} {key} = …" for home in homes)
        return Problem(path, f"{what} here", "it belongs elsewhere", mend, at_key=True)
    if key in _names(root):
        return Problem(
            path, f"{what} here", "it belongs elsewhere", f"{key} = … before the first [section]", at_key=True
        )
    mend = "there are " + ", ".join(names) if len(names) <= _MANY else "all keys: gatepost config schema"
    return Problem(path, what, mend=mend, at_key=True)


def _written(path: KeyPath, root: type[BaseModel]) -> str:
    """How a key is written: `recipients = …`, or the header of the section that it is."""
    field = root.model_fields.get(str(path[-1])) if len(path) == 1 else None
    if field is None or model_in(field.annotation) is None:
        return f"{path[-1]} = …"
    return header((*path, 0) if get_origin(field.annotation) is tuple else path)


def _homes_of(key: str, root: type[BaseModel]) -> list[KeyPath]:
    """The tables that have the key: of the outermost, and no more than two."""
    tables: list[tuple[KeyPath, type[BaseModel]]] = [((), root)]
    while tables:
        tables = [
            ((*path, name, 0) if get_origin(field.annotation) is tuple else (*path, name), inner)
            for path, model in tables
            for name, field in model.model_fields.items()
            if (inner := model_in(field.annotation))
        ]
        if homes := [path for path, model in tables if key in _names(model)]:
            return homes[:2]
    return []


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(path: KeyPath, root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for step in path:
        if isinstance(step, str) and (field := model.model_fields.get(step)) and (inner := model_in(field.annotation)):
            model = inner
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := model_in(inner))), None)


def _described(path: KeyPath, root: type[BaseModel]) -> str:
    model = _model_at(path[:-1], root)
    field = next((field for name, field in model.model_fields.items() if path[-1] in (name, field.alias)), None)
    return (field.description or "") if field else ""


def _in_unit(limit: Any, path: KeyPath, root: type[BaseModel]) -> str:
    field = _model_at(path[:-1], root).model_fields.get(str(path[-1]))
    kind = kind_of(field) if field else None
    return toml(limit, kind)


def _list_mend(path: KeyPath, root: type[BaseModel], key: str) -> str:
    field = _model_at(path[:-1], root).model_fields.get(str(path[-1]))
    if field and model_in(field.annotation):
        return "[[" + ".".join(str(step) for step in path if isinstance(step, str)) + "]], with two brackets"
    return f'{key} = ["one", "two"]'


def _choices(expected: str) -> list[str]:
    """pydantic says `'a', 'b' or 'c'`."""
    return [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(",")]
