"""`gatepost plugin register` and `unregister`: what regsvr32 does, for the event sinks in libraries; and
`include`: what they are compiled against.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.bindings import Row
    from gatepost.app.bindings_file import KeptText
    from gatepost.app.classes import ComClass
    from gatepost.app.settings import Settings


@click.command("register")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The classes, as JSON.")
@pass_frame
def register(frame: Frame, *, file: Path, as_json: bool) -> None:
    """Let a library with event sinks say its COM classes, so that bindings can name them.

    A DLL registers itself under Wine, as regsvr32 lets it; a .so says its classes by GatepostSinkClasses.
    """
    from gatepost.app.classes_found import classes_of
    from gatepost.app.dialects import wine_prefixes
    from gatepost.plugins.loaded import PluginError

    settings, kept = _kept(frame)
    library = file.absolute()
    try:
        found = asyncio.run(classes_of(library, wine_prefixes(None, settings.data)))
    except PluginError as error:
        raise _failure(error) from None
    ids = {one.id for one in found}
    before = _change(kept, lambda classes: [*(one for one in classes if one.id not in ids), *found])
    if as_json:
        click.echo(json.dumps([_plain(one) for one in found], indent=2))
        return
    for one in found:
        click.echo(f"registered: {_words(one)}")
        earlier = next((known for known in before if known.id == one.id and known.library != one.library), None)
        if earlier is not None:
            click.echo(f"  it was registered for {earlier.library} before")
    example = found[0].name or f'"{found[0].id}"'
    click.echo(f"next:  gatepost binding add 1 OnInboundCommand NAME {example}")


@click.command("unregister")
@click.argument("file", type=click.Path(path_type=Path))
@pass_frame
def unregister(frame: Frame, *, file: Path) -> None:
    """Forget the COM classes of a library; a DLL takes back what it has registered, if it is there still."""
    from gatepost.app.classes_found import unregister as take_back
    from gatepost.app.dialects import wine_prefixes
    from gatepost.plugins.loaded import PluginError

    settings, kept = _kept(frame)
    library = file.absolute()
    gone = [one for one in _classes(kept) if one.library == str(library)]
    if not gone:
        raise Failure(f"no class of {library} is registered", Exit.USAGE, next_step="gatepost plugin register FILE")
    assert settings.data is not None
    ids = {word.lower() for one in gone for word in (one.id, one.name) if word}
    if used := [row.shown for row in _rows(settings.data) if row.cls.lower() in ids]:
        raise Failure(f"bindings use it: {', '.join(used)}", Exit.USAGE, next_step="gatepost binding remove …")
    if library.is_file():
        try:
            asyncio.run(take_back(library, wine_prefixes(None, settings.data)))
        except PluginError as error:
            raise _failure(error) from None
    _change(kept, lambda classes: [one for one in classes if one.library != str(library)])
    for one in gone:
        click.echo(f"unregistered: {_words(one)}")


@click.command("include")
def include() -> None:
    """Print the folder of gatepost_sinks.h, which event sinks are compiled with.

    cc -shared -fPIC -I"$(gatepost plugin include)" -o sink.so sink.c
    """
    from gatepost.plugins.host.native import HEADER, headers

    folder = headers()
    if folder is None:
        raise Failure(f"{HEADER} isn't in this installation", Exit.UNAVAILABLE, next_step="install Gatepost anew")
    click.echo(str(folder))


def _kept(frame: Frame) -> tuple[Settings, KeptText]:
    """The settings, and the list of classes; from here on we are the server's user."""
    from gatepost.app.bindings_file import KeptText
    from gatepost.app.settings.bindings_rows import CLASSES
    from gatepost.store.files import RealFiles

    settings, _ = frame.settings_or_without_bindings()  # a library that is gone may be the reason for this
    if settings.data is None:
        raise Failure("these settings have no data folder", Exit.CONFIGURATION, next_step='data = "/var/lib/gatepost"')
    as_the_server(settings)
    return settings, KeptText(settings.data, CLASSES, RealFiles())


def _classes(kept: KeptText) -> list[ComClass]:
    from gatepost.app.classes import classes_in

    try:
        found, problems = classes_in(tomllib.loads(kept.read() or ""))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Failure(f"{kept.path} can't be read: {error}", Exit.CONFIGURATION, next_step="mend it by hand") from None
    if problems:
        raise Failure(f"{kept.path}: {problems[0].what}", Exit.CONFIGURATION, next_step=problems[0].mend)
    return found


def _change(kept: KeptText, edit: Callable[[list[ComClass]], list[ComClass]]) -> list[ComClass]:
    """Write the classes that `edit` makes of those there are; these."""
    from gatepost.app.bindings_file import Busy
    from gatepost.app.classes import text_of

    try:
        with kept.alone():
            before = _classes(kept)
            kept.write(text_of(edit(before)))
    except Busy as error:
        raise Failure(str(error), Exit.TEMPORARY, next_step="try again") from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Failure(f"{kept.path} can't be written: {words}", Exit.CANT_CREATE, next_step="gatepost check") from None
    return before


def _rows(data: Path) -> list[Row]:
    from gatepost.app.bindings import rows_in
    from gatepost.app.settings.bindings_rows import ROWS

    try:
        return [*rows_in(tomllib.loads((data / ROWS).read_text("utf-8-sig")))[0].values()]
    except FileNotFoundError:
        return []


def _failure(error: Exception) -> Failure:
    what, _, mend = str(error).partition("; ")
    return Failure(what, Exit.CONFIGURATION, next_step=mend or "gatepost plugin check FILE")


def _plain(one: ComClass) -> dict[str, str]:
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "library": one.library,
        "create": one.create,
    }


def _words(one: ComClass) -> str:
    return "  ".join(word for word in (one.name, one.id, one.description) if word)
