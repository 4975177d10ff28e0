"""Which COM classes a library has: asked of the library in the plugin host, or found in the registry after it has
registered itself, as regsvr32 lets it do. Nothing of it is loaded into this process.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from gatepost.app.bindings_events import guid
from gatepost.app.classes import ComClass
from gatepost.plugins.host import Crew, HostError, LoadRefused
from gatepost.plugins.host.binary import Library
from gatepost.plugins.host.recipes import Surroundings, examine, native_recipe
from gatepost.plugins.host.wine import WineError, find_prefix, find_wine, path_there
from gatepost.plugins.loaded import PluginError

_RUN_S = 60.0
_SETTLES_S = 5.0
_REGISTER = ("DllRegisterServer", "_DllRegisterServer@0", "DllRegisterServer@0")
_UNREGISTER = ("DllUnregisterServer", "_DllUnregisterServer@0", "DllUnregisterServer@0")
_KEYS = {64: r"HKEY_LOCAL_MACHINE\Software\Classes\CLSID", 32: r"HKEY_LOCAL_MACHINE\Software\Classes\Wow6432Node\CLSID"}
_PROGRAMS = {64: "regsvr32", 32: r"C:\windows\syswow64\regsvr32.exe"}
_SECTION = re.compile(r"\[.*?\\CLSID\\(\{[0-9A-Fa-f-]{36}\})(?:\\(\w+))?\]")
_DEFAULT = re.compile(r'@="((?:[^"\\]|\\.)*)"')


async def classes_of(file: Path, prefixes: Path | None) -> list[ComClass]:
    """The classes of the library at an absolute path. `prefixes`: where Wine's are kept. PluginError says why there are
    none."""
    library = examine(file, "sink", "library of COM classes")
    listed = await _listed(library, prefixes)
    if not _exports(library, _REGISTER):
        if not listed:
            raise PluginError(
                f"{file} doesn't say which classes it has, by GatepostSinkClasses or DllRegisterServer; "
                'name the class in the settings: sink = { class = "{CLSID}" }'
            )
        return listed
    registered = await _registered(library, prefixes)
    names = {one.id: one for one in listed}
    merged = [
        ComClass(
            one.id,
            one.name or (names[one.id].name if one.id in names else ""),
            one.library,
            (names[one.id].description if one.id in names else "") or one.description,
            "com",
        )
        for one in registered
    ]
    known = {one.id for one in merged}
    merged += [one for one in listed if one.id not in known]
    if not merged:
        raise PluginError(
            f"{file} has registered itself, but no class with an InprocServer32 of its own; is it a sink?"
        )
    return merged


async def unregister(file: Path, prefixes: Path | None) -> None:
    """Let a Windows library take back what it has registered. PluginError."""
    library = examine(file, "sink", "library of COM classes")
    if _exports(library, _UNREGISTER):
        await _regsvr32(library, prefixes, "/u")


def _exports(library: Library, names: tuple[str, ...]) -> bool:
    return library.format == "pe" and not frozenset(library.exports).isdisjoint(names)


async def _listed(library: Library, prefixes: Path | None) -> list[ComClass]:
    """What the library itself says, by GatepostSinkClasses."""

    def told(folder: str | None) -> dict[str, Any]:
        return {"threads": 1, "class": "", "create": "factory", "list": True, "folder": folder}

    recipe, keeper = await native_recipe(library, "sink", told, Surroundings(prefixes=prefixes))
    crew = Crew(library.path.stem, recipe, processes=1)
    try:
        facts = await crew.load()
    except (HostError, LoadRefused, OSError, ValueError) as error:
        raise PluginError(f"{library.path} can't be loaded: {error}") from error
    finally:
        await crew.close()
        if keeper is not None:
            await keeper.close()
    found = []
    for one in facts.get("classes", []):
        match one:
            case {"class": str(clsid), "progid": str(name), "description": str(description)}:
                found.append(ComClass(guid(clsid), name, str(library.path), description))
            case _:
                raise PluginError(f"{library.path} says nonsense about its classes")
    return found


async def _registered(library: Library, prefixes: Path | None) -> list[ComClass]:
    """What is in Wine's registry once the library has registered itself."""
    await _regsvr32(library, prefixes)
    wine = await find_wine(library.bits)
    prefix = await find_prefix(wine, folder=prefixes)
    with tempfile.TemporaryDirectory(prefix="gatepost-registry-") as folder:
        written = Path(folder) / "classes.reg"
        arguments = ("reg", "export", _KEYS[library.bits], path_there(str(written)), "/y")
        try:
            status = await wine.run(prefix, *arguments, timeout=_RUN_S, settles=0.0)
            text = written.read_text("utf-16")
        except (OSError, TimeoutError, UnicodeError) as error:
            raise WineError(f"Wine's registry can't be read: {error or type(error).__name__}") from error
        if status:
            raise WineError(f"Wine's registry can't be read: reg exits with {status}")
    return classes_in_registry(text, library.path)


async def _regsvr32(library: Library, prefixes: Path | None, *options: str) -> None:
    wine = await find_wine(library.bits)
    prefix = await find_prefix(wine, folder=prefixes)
    arguments = (_PROGRAMS[library.bits], "/s", *options, path_there(str(library.path)))
    try:
        status = await wine.run(prefix, *arguments, timeout=_RUN_S, settles=_SETTLES_S)
    except (OSError, TimeoutError) as error:
        raise WineError(f"regsvr32 can't be run: {error or type(error).__name__}") from error
    if status:
        raise PluginError(f"{library.path} can't register itself: regsvr32 exits with {status}")


def classes_in_registry(text: str, file: Path) -> list[ComClass]:
    """The classes whose InprocServer32 is that library, in what `reg export` has written."""
    defaults: dict[str, dict[str, str]] = {}
    current: tuple[str, str] | None = None
    for line in text.splitlines():
        if line.startswith("["):
            section = _SECTION.fullmatch(line.strip())
            current = (section[1].upper(), (section[2] or "").lower()) if section else None
        elif current is not None and (value := _DEFAULT.fullmatch(line.strip())):
            defaults.setdefault(current[0], {})[current[1]] = re.sub(r"\\(.)", r"\1", value[1])
    whole, name = path_there(str(file)).lower(), file.name.lower()
    servers = {clsid: keys["inprocserver32"].lower() for clsid, keys in defaults.items() if "inprocserver32" in keys}
    hits = [clsid for clsid, server in servers.items() if server == whole]
    hits = hits or [clsid for clsid, server in servers.items() if server.rpartition("\\")[2] == name]
    return [
        ComClass(clsid, defaults[clsid].get("progid", ""), str(file), defaults[clsid].get("", ""), "com")
        for clsid in hits
    ]
