"""Where a plugin in Python is: a file, `package.module:attribute`, an entry point's name, or the object itself."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import sys
from hashlib import blake2b
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType

from gatepost.plugins.loaded import PluginError

ENTRY_POINTS = "gatepost.plugins"


def find(source: str | Path, folder: Path | None = None) -> tuple[object, str]:
    """What is there, and where that is, for a person. A file is run as it is now, relative to `folder`. PluginError."""
    text = str(source)
    if text.endswith(".py") or isinstance(source, Path):
        return _module_of_file((folder or Path()) / text), text
    module_name, colon, attribute = text.partition(":")
    if colon:
        try:
            thing: object = importlib.import_module(module_name)
            for part in attribute.split("."):
                thing = getattr(thing, part)
        except (ImportError, AttributeError) as error:
            raise PluginError(f'"{text}" can\'t be imported: {error}') from error
        return thing, text
    entries = importlib.metadata.entry_points(group=ENTRY_POINTS)
    if text in entries.names:
        return entries[text].load(), f"{text} ({entries[text].value})"
    close = difflib.get_close_matches(text, entries.names, 1)
    meant = f'; did you mean "{close[0]}"?' if close else ""
    raise PluginError(f'"{text}" is no plugin: give a .py file, package.module:attribute, or an entry point{meant}')


class _AsItIsNow(SourceFileLoader):
    """Compiles the source each time: a cached copy may be older than what was written a moment ago."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _module_of_file(path: Path) -> ModuleType:
    """The file as a module of its own, as it is now; it takes the place of the one loaded from it before."""
    if not path.is_file():
        raise PluginError(f'there is no file "{path}"')
    file = path.absolute()
    module_name = f"gatepost_plugin_{path.stem}_{blake2b(bytes(file), digest_size=6).hexdigest()}"
    spec = spec_from_loader(module_name, _AsItIsNow(module_name, str(file)))
    if spec is None or spec.loader is None:
        raise PluginError(f'"{path}" can\'t be read as Python')
    module = module_from_spec(spec)
    before = sys.modules.get(module_name)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if before is not None:
            sys.modules[module_name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        at = f", line {line}" if (line := _line_within(error, file)) else ""
        raise PluginError(f"{path}{at}: {type(error).__name__}: {error}") from error
    return module


def _line_within(error: BaseException, path: Path) -> int | None:
    if isinstance(error, SyntaxError):
        return error.lineno
    line = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            line = step.tb_lineno
        step = step.tb_next
    return line
