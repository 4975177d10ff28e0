"""What a plugin's file is and how it would be run, found without running any of it: `gatepost plugin check`.

Libraries are read by their headers, Python files are parsed, programs are looked up. What keeps one from running is a
`Hindrance`, with what to do about it.
"""

from __future__ import annotations

import ast
import asyncio
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatepost.app.settings.display import toml
from gatepost.plugins.host.binary import (
    MARKS,
    Library,
    NotALibrary,
    dialect_of,
    inspect,
    lies_beside,
    missing,
    unresolved,
)
from gatepost.plugins.host.native import HostMissing, Target, host_path
from gatepost.plugins.host.wine import WineError, find_wine
from gatepost.plugins.sink.constants import INTERFACES
from gatepost.plugins.sink.spelling import SPELLED

SHOWN = 12
"""Names in a line; JSON has all of them."""
_GIVE = "give a library (.so, .dll), a .py file, or a program"
_MAX_SOURCE = 4 * 2**20
_MAX_FILES = 64
_MAX_LINE = 256
_SYSTEMS = {"elf": "Linux", "pe": "Windows"}
_TARGETS: dict[str, Target] = {"x86-64": "win64", "i386": "win32"}


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why it can't be run as it is. `is_lacking`: the file is right, and something has to be installed."""

    text: str
    mend: str = ""
    is_lacking: bool = False


@dataclass(slots=True)
class Examination:
    """One file. What isn't known of its kind is empty."""

    file: str
    what: str = ""
    dialect: str = ""
    why: str = ""
    """What says so."""
    exports: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    run: str = ""
    """How it would be run."""
    settings: str = ""
    """What would stand in [[plugin]]."""
    remarks: list[str] = field(default_factory=list)
    hindrances: list[Hindrance] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.file,
            "what": self.what,
            "dialect": self.dialect or None,
            "why": self.why,
            "exports": [*self.exports],
            "needs": [*self.needs],
            "missing": [*self.missing],
            "unresolved": [*self.unresolved],
            "run": self.run,
            "runs": not self.hindrances,
            "settings": self.settings,
            "remarks": self.remarks,
            "hindrances": [{"text": one.text, "mend": one.mend} for one in self.hindrances],
        }

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        yield f"{self.file}: {self.what}"
        rows = {
            "dialect": f"{self.dialect}, since {self.why}" if self.dialect and self.why else self.dialect,
            "exports": listed(self.exports),
            "needs": listed(self.needs),
            "run": self.run,
            "settings": self.settings,
        }
        yield from (f"  {name:<9} {text}" for name, text in rows.items() if text)
        yield from (f"  note: {text}" for text in self.remarks)
        for one in self.hindrances:
            yield f"  can't be run: {one.text}"
            if one.mend:
                yield f"    mend:  {one.mend}"


def listed(names: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    known = [*names]
    more = len(known) - SHOWN
    return ", ".join(known[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def examine(file: Path) -> Examination:
    """What the file (or folder) is. OSError where it can't be read; its code is never run."""
    found = Examination(str(file))
    if file.is_dir():
        _folder(found, file)
        return found
    if file.exists() and not file.is_file():  # a pipe would be waited for
        found.what = "nothing that could be a plugin"
        found.hindrances.append(Hindrance("it isn't a regular file", _GIVE))
        return found
    with file.open("rb") as opened:
        begin = opened.read(_MAX_LINE)
    if file.suffix == ".py":
        _python(found, file)
    elif begin.startswith(b"#!"):
        _script(found, file, begin)
    else:
        _binary(found, file)
    return found


# ── libraries ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _binary(found: Examination, file: Path) -> None:
    try:
        library = inspect(file)
    except NotALibrary as error:
        found.what = "nothing that could be a plugin"
        found.hindrances.append(Hindrance(str(error), _GIVE))
        return
    system = _SYSTEMS[library.format]
    found.what = f"{system} {'library' if library.is_library else 'program'}, {library.machine}"
    found.exports = library.exports
    found.needs = tuple(one.library for one in library.imports)
    if not library.is_library:
        _native_program(found, file, library)
        return
    _named(found, library)
    if _runs(found, library):
        _needs(found, library)


def _named(found: Examination, library: Library) -> None:
    """The dialect, or why there is none."""
    dialect = dialect_of(library)
    if library.managed:
        found.what += ", a .NET assembly"
        found.hindrances.append(Hindrance("plugins in .NET aren't in this version"))
    elif dialect is None:
        marks = ", ".join(names[0] for names in MARKS.values())
        mend = 'if its function has another name: dialect = "indimail", indimail = { symbol = "…" }'
        if any("DllGetClassObject" in name or name == "GatepostSinkClasses" for name in library.exports):
            mend = (
                'a library of event sinks exports it by its plain name: GATEPOST_SINK_EXPORT, or extern "C" and a .def'
            )
        found.hindrances.append(Hindrance(f"it exports none of {marks}, so nobody could call it", mend))
    else:
        found.why = f"it exports {next(mark for mark in MARKS[dialect] if mark in library.exports)}"
        found.dialect = "indimail" if dialect == "indimail-queue" else dialect
        found.settings = f"source = {toml(found.file)}"
        if dialect == "indimail-queue":
            found.remarks.append('it is asked about whole messages, as by qmail-queue: indimail = { abi = "queue" }')


def _runs(found: Examination, library: Library) -> bool:
    """Says how it would be run; False if nothing here could load it, whatever is installed."""
    if library.format == "elf":
        return _runs_on_linux(found, library)
    target = _TARGETS.get(library.machine)
    if target is None:
        text = f"it is for Windows on {library.machine}, and only x86-64 and i386 can be run"
        found.hindrances.append(Hindrance(text, "ask for the plugin's x64 DLL"))
        return False
    _host(found, target)
    if sys.platform == "win32":
        found.run = f"by the Windows host ({'x64' if target == 'win64' else '32-bit'})"
        return True
    name = "Wine (x64)" if target == "win64" else "32-bit Wine"
    found.run = f"by {name}"
    try:
        asyncio.run(find_wine(library.bits))
    except WineError as error:
        why, _, mend = str(error).partition(": ")
        if "isn't here" in why and mend:
            found.run += f": not installed here; {mend.removeprefix('in Debian, ')}"
        found.hindrances.append(Hindrance(why, mend, is_lacking=True))
    return True


def _runs_on_linux(found: Examination, library: Library) -> bool:
    if sys.platform == "win32":  # pragma: no cover  nobody runs this there
        found.hindrances.append(Hindrance("it is for Linux", "ask for the plugin's DLL"))
        return False
    host = _host(found, "linux")
    ours = inspect(host or Path(sys.executable).resolve())
    if (library.machine, library.bits, library.byte_order) != (ours.machine, ours.bits, ours.byte_order):
        text = f"it is for {_kind(library)}, and the host here is for {_kind(ours)}"
        found.hindrances.append(Hindrance(text, f"build it for {_kind(ours)}"))
        return False
    found.run = "by the Linux host"
    return True


def _kind(library: Library) -> str:
    endian = f", {library.byte_order}-endian" if library.byte_order == "big" else ""
    return f"{library.machine} ({library.bits}-bit{endian})"


def _host(found: Examination, target: Target) -> Path | None:
    try:
        return host_path(target)
    except HostMissing as error:
        text, _, mend = str(error).partition(": ")
        found.hindrances.append(Hindrance(text, mend, is_lacking=True))
        return None


def _needs(found: Examination, library: Library) -> None:
    """What its loader wouldn't find."""
    found.missing = missing(library)
    folder = library.path.parent
    for name in found.missing:
        if library.format == "pe":
            mend = "put it beside the file; and into windows = { drive_c = … } what belongs to a Windows of its own"
        elif lies_beside(library, name):
            mend = f"the loader doesn't look beside the file: patchelf --set-rpath '$ORIGIN' {found.file}, or "
            mend += f'env = {{ LD_LIBRARY_PATH = "{folder}" }}'
        else:
            mend = "install what has it"
        found.hindrances.append(Hindrance(f"it needs {name}, which can't be found", mend, is_lacking=True))
    found.unresolved = unresolved(library)
    if found.unresolved:
        text = f"nobody has the symbols it wants: {listed(found.unresolved)}"
        if found.dialect == "indimail":
            found.remarks.append(f"{text}; a call of one would end its process")
        else:
            found.hindrances.append(Hindrance(text, "link it with what has them"))


def _folder(found: Examination, folder: Path) -> None:
    """A folder as qmail-smtpd has it: each of its libraries is looked at."""
    files = sorted(folder.glob("*.so"))[:_MAX_FILES]
    found.what = f"a folder with {len(files)} {'library' if len(files) == 1 else 'libraries'}"
    if not files:
        found.hindrances.append(
            Hindrance("there is no .so in it", "give the folder that qmail-smtpd loads from, or a file")
        )
        return
    found.dialect, found.why, found.settings = "indimail", "it holds .so files", f"source = {toml(found.file)}"
    for file in files:
        inner = examine(file)
        found.run = found.run or inner.run
        if inner.dialect not in ("indimail", ""):
            inner.hindrances.append(
                Hindrance(f"it is a plugin of the dialect {inner.dialect}", f"source = {toml(str(file))}")
            )
        found.remarks += [f"{file.name}: {text}" for text in inner.remarks]
        found.hindrances += [
            Hindrance(f"{file.name}: {one.text}", one.mend, one.is_lacking) for one in inner.hindrances
        ]


# ── programs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _program(found: Examination, file: Path, why: str) -> None:
    found.dialect, found.why, found.run = "program", why, "as a program, once for each message"
    found.settings = f'source = {toml(found.file)}, dialect = "program", program = {{ mode = "filter" }}'
    found.remarks.append("what its answer means is for you to say: mode filter, qfilter, scan or pickup")
    if not os.access(file, os.X_OK):
        found.hindrances.append(Hindrance("it isn't executable", f"chmod +x {found.file}"))


def _script(found: Examination, file: Path, begin: bytes) -> None:
    line = begin[2:].partition(b"\n")[0].decode("utf-8", "replace")
    words = "".join(c if c.isprintable() else "\ufffd" for c in line.removesuffix("\r")).split()
    found.what = f"a script for {words[0]}" if words else "a script without an interpreter"
    _program(found, file, "it begins with #!")
    if line.endswith("\r"):
        found.hindrances.append(
            Hindrance("its first line ends with CR LF, which the system takes for a name", "save it with LF")
        )
    elif not words:
        found.hindrances.append(Hindrance("its first line names no interpreter", "#!/bin/sh"))
    elif not os.access(words[0], os.X_OK):
        found.hindrances.append(Hindrance(f"there is no {words[0]} here", "install it", is_lacking=True))
    elif Path(words[0]).name == "env":
        named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        if named and shutil.which(named) is None:
            found.hindrances.append(Hindrance(f"there is no {named} in PATH", "install it", is_lacking=True))


def _native_program(found: Examination, file: Path, library: Library) -> None:
    found.exports = ()
    if library.format == "pe" and sys.platform != "win32":
        found.dialect, found.why = "program", "it is no library"
        found.run = "as a program, by Wine if the command line says so"
        found.settings = (
            f'source = {toml("wine64 " + found.file)}, dialect = "program", program = {{ mode = "filter" }}'
        )
        try:
            asyncio.run(find_wine(library.bits))
        except WineError as error:
            why, _, mend = str(error).partition(": ")
            found.hindrances.append(Hindrance(why, mend, is_lacking=True))
        return
    _program(found, file, "it is no library")
    found.missing = missing(library)
    found.hindrances += [
        Hindrance(f"it needs {name}, which can't be found", "install what has it", is_lacking=True)
        for name in found.missing
    ]


# ── Python ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _python(found: Examination, file: Path) -> None:
    found.what = "a Python file"
    found.dialect, found.why, found.settings = "python", "its name ends with .py", f"source = {toml(found.file)}"
    found.run = "within the server; with isolate = true in a process of its own"
    try:
        with file.open("rb") as opened:
            source = opened.read(_MAX_SOURCE + 1)
        if len(source) > _MAX_SOURCE:
            raise ValueError(f"it is larger than {_MAX_SOURCE} octets")
        tree = ast.parse(source, str(file))
    except SyntaxError as error:
        found.hindrances.append(Hindrance(f"line {error.lineno or 1}: {error.msg}"))
    except (ValueError, RecursionError, MemoryError) as error:
        found.hindrances.append(Hindrance(f"it can't be read as Python: {error}"))
    else:
        stages = list(dict.fromkeys(_marked(tree)))
        if stages:
            found.remarks.append(f"asked at {listed(stages)}")
        elif sinks := _sinks(tree):
            first, methods = next(iter(sinks.items()))
            found.dialect, found.why = "sink", f"its class {first} has {methods[0]}"
            found.run = "within the server"
            found.settings = f'source = {toml(f"{found.file}:{first}")}, dialect = "sink"'
            found.remarks += [f"event sink {name}: {', '.join(methods)}" for name, methods in sinks.items()]
        else:
            found.remarks.append("no @on(…) is in it; a plugin has at least one, its own or an inherited one")


def _marked(tree: ast.AST) -> Iterator[str]:
    """The stages that `@on(…)` marks, as written."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and mark.args and _last_name(mark.func) == "on":
                stage = mark.args[0]
                yield str(stage.value) if isinstance(stage, ast.Constant) else _last_name(stage).lower()


def _sinks(tree: ast.Module) -> dict[str, list[str]]:
    """The classes with methods of event sinks, and these."""
    known = {name for method in INTERFACES for name in SPELLED[method]}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {
        one.name: [
            node.name
            for node in one.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in known
        ]
        for one in classes
    }
    return {name: methods for name, methods in found.items() if methods}


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
