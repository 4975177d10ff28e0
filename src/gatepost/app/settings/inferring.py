"""What a plugin's table leaves out because the file says it: its name, its dialect; and what doesn't go together.

Strategy: everything happens before the keys are looked at one by one, on the table as it was written, so that what was
written can be told from what is a default.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatepost.app.settings.origins import Written
from gatepost.app.settings.sink import check_properties, split_source
from gatepost.app.settings.units import parse_path, parse_text, shown, wrong

NATIVE = ("mailenable", "indimail", "program")
"""The dialects whose plugins always have processes of their own; a sink has them if it is a library."""
TABLES = (*NATIVE, "sink")
"""The dialects that have a table of their name."""
TO_COME = ("milter", "policy")
_LIBRARY = re.compile(r"\.(?:so(?:\.[0-9.]+)?|dll|ocx)\Z", re.IGNORECASE | re.ASCII)
_PROCESSES = ("env", "processes", "limits", "user")
_SOME = 6


def filled_in(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table with its source made absolute where it is a file, and with name, dialect and its own table."""
    source = value.get("source")
    if not isinstance(source, str | Path):
        return value
    filled = dict(value)
    text = str(source)
    given = filled.get("dialect")
    if given in TO_COME:
        wrong(
            f'the dialect "{given}" isn\'t in this version',
            at=("dialect",),
            mend=" or ".join(_quoted("python", *TABLES)),
        )
    folder = source.folder if isinstance(source, Written) else Path()
    tables = [dialect for dialect in TABLES if filled.get(dialect) is not None]
    if given == "sink" or (given is None and tables == ["sink"]):
        text = _with_class(filled, text)
    command = given == "program" or (given is None and tables == ["program"])
    is_file = not command and (isinstance(source, Path) or given in NATIVE or is_file_name(text))
    if is_file:
        filled["source"] = str(parse_path(Written.of(text, folder)))
    elif command:
        filled["source"] = _command(text, folder, filled.get("program"))
    parse_text(filled["source"])
    filled.setdefault("name", _name(text, is_file=is_file, is_command=command))
    if given is None:
        filled["dialect"] = (
            tables[0] if len(tables) == 1 else _dialect(Path(filled["source"]), text) if is_file else "python"
        )
    _check_together(filled)
    return _with_own_table(filled)


def is_file_name(text: str) -> bool:
    """Whether a source can't be anything but a file."""
    return text.endswith(".py") or "/" in text or _LIBRARY.search(text) is not None


def _name(text: str, *, is_file: bool, is_command: bool) -> str:
    if is_command:
        return Path((text.split() or [""])[0]).stem
    if is_file:
        return _LIBRARY.sub("", Path(text).name).removesuffix(".py")
    return text.replace(":", ".").rpartition(".")[2] or text


def _command(text: str, folder: Path, options: object) -> str:
    """The command line with its programs' paths made absolute; a shell gets it as it is."""
    if isinstance(options, Mapping) and options.get("shell") in (True, "true"):
        return text
    try:
        words = shlex.split(text)
    except ValueError as error:
        wrong(
            f"{shown(text)} can't be split into words: {str(error).lower()}", at=("source",), mend="close every quote"
        )
    chained = isinstance(options, Mapping) and options.get("mode") == "qfilter"
    programs = [at for at in range(len(words)) if at == 0 or (chained and words[at - 1] == "--")]
    paths = [at for at in programs if "/" in words[at] and not words[at].startswith("/")]
    for at in paths:
        words[at] = str(parse_path(Written.of(words[at], folder)))
    return shlex.join(words) if paths else text


def _dialect(file: Path, text: str) -> str:
    """The dialect of a file or folder, or the reason why it doesn't say one. A file that isn't there has its name."""
    from gatepost.plugins.host.binary import MARKS, NotALibrary, dialect_of, inspect

    if text.endswith(".py"):
        return "python"
    cant = f"the dialect of {shown(text)} can't be told"
    if file.is_dir():
        if any(file.glob("*.so")):
            return "indimail"
        wrong(f"{cant}: there is no .so in that folder", at=("source",), mend='a file, or dialect = "indimail"')
    if not file.exists():
        return "mailenable" if _LIBRARY.search(text) else "python"  # that it isn't there is told with all others
    try:
        library = inspect(file)
    except NotALibrary as error:
        mend = 'dialect = "program"' if "script" in str(error) else "name a library or a .py file, or say the dialect"
        wrong(f"{cant}: {error}", at=("source",), mend=mend)
    if not library.is_library:
        wrong(f"{cant}: it is a program", at=("source",), mend='dialect = "program"')
    match dialect_of(library):
        case "mailenable" | "indimail" | "sink" as dialect:
            return dialect
        case "indimail-queue":
            return "indimail"
        case _:
            marks = ", ".join(names[0] for names in MARKS.values())
            some = ", ".join(library.exports[:_SOME]) or "nothing"
            more = " and others" if len(library.exports) > _SOME else ""
            mend = 'dialect = "mailenable" or "indimail", if its names are set otherwise; see gatepost plugin check'
            wrong(f"{cant}: it exports none of {marks}", at=("source",), note=f"it exports {some}{more}", mend=mend)


def _check_together(filled: Mapping[str, Any]) -> None:
    """A dialect's keys stand with that dialect only; what would be without effect is refused."""
    dialect = filled["dialect"]
    for table in TABLES:
        if filled.get(table) is not None and table != dialect:
            what = f'{table} = {{ … }} belongs to the dialect "{table}", and this plugin\'s is {shown(dialect)}'
            wrong(what, at=(table,), mend=f'remove it, or dialect = "{table}"')
    if filled.get("windows") is not None and not (dialect == "mailenable" or _is_native(filled)):
        what = f"windows = {{ … }} is for Windows libraries, and this plugin's dialect is {shown(dialect)}"
        wrong(what, at=("windows",), mend="remove it")
    if dialect == "sink":
        check_properties(filled.get("properties"))
        if not _is_native(filled) and filled.get("isolate") in (True, "true"):
            wrong("a sink in Python runs within the server", at=("isolate",), mend="remove isolate")
        if _is_native(filled) and filled.get("inline") is not None:
            wrong('inline is for plugins of the dialect "python"', at=("inline",), mend="remove it")
    if dialect == "python" or (dialect == "sink" and not _is_native(filled)):
        for key in _PROCESSES:
            if filled.get(key) not in (None, {}) and filled.get("isolate") not in (True, "true"):
                what = f"{key} is for a plugin in a process of its own, and this one runs within the server"
                wrong(what, at=(key,), mend="isolate = true, beside it; or remove it")
    elif dialect in NATIVE or dialect == "sink":
        if dialect != "sink" and isinstance(properties := filled.get("properties"), Mapping) and properties:
            keys = ", ".join(f'{key} = "…"' for key in properties)
            note = "for one that reads its environment:"
            wrong(
                f"the dialect {shown(dialect)} has no properties",
                at=("properties",),
                note=note,
                mend=f"env = {{ {keys} }}",
            )
        if filled.get("isolate") in (False, "false"):
            what = f"a plugin of the dialect {shown(dialect)} always runs in processes of its own"
            wrong(what, at=("isolate",), mend="remove isolate")
        if dialect != "sink" and filled.get("inline") is not None:
            wrong("inline is for plugins in Python", at=("inline",), mend="remove it")


def _with_own_table(filled: dict[str, Any]) -> dict[str, Any]:
    """A native plugin has the table of its dialect, written or not."""
    dialect = filled["dialect"]
    if dialect not in TABLES:
        return filled
    if dialect in NATIVE or _is_native(filled):
        filled["isolate"] = True
    own = filled.get(dialect)
    if own is None:
        own = filled[dialect] = {}
    if (
        dialect == "indimail"
        and isinstance(own, Mapping)
        and "abi" not in own
        and _is_for_queue(Path(filled["source"]))
    ):
        filled[dialect] = {**own, "abi": "queue"}
    return filled


def _is_native(filled: Mapping[str, Any]) -> bool:
    """Whether a sink is a library and not a class in Python."""
    return filled["dialect"] == "sink" and _LIBRARY.search(str(filled["source"])) is not None


def _with_class(filled: dict[str, Any], text: str) -> str:
    """The source of a sink; the class that it names, `sinks.py:Shield`, goes into the sink's own table."""
    file, cls = split_source(text)
    own = filled.get("sink")
    if cls and (own is None or isinstance(own, Mapping)):
        filled["sink"] = {"class": cls, **(own or {})}
        filled.setdefault("name", cls)
    return file


def _is_for_queue(file: Path) -> bool:
    from gatepost.plugins.host.binary import NotALibrary, dialect_of, inspect

    try:
        return dialect_of(inspect(file)) == "indimail-queue"
    except NotALibrary:
        return False


def parse_variables(value: object) -> Any:
    """Names and texts of an environment."""
    if not isinstance(value, Mapping):
        wrong(f"{shown(value)} is no table", mend='env = { NAME = "value" }')
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or not name.isprintable():
            wrong(f"{shown(name)} can't be the name of a variable", at=(name,), mend='env = { NAME = "value" }')
        if not isinstance(text, str):
            wrong(
                f"{name} isn't a text",
                at=(name,),
                mend=f'{name} = "{str(text).lower() if isinstance(text, bool) else text}"',
            )
        if "\0" in text:
            wrong(f"{name} holds a NUL", at=(name,), mend=f'{name} = "value"')
    return dict(value)


def _quoted(*words: str) -> list[str]:
    return [f'"{word}"' for word in words]
