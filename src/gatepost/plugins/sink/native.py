"""Sinks that are COM classes in a library: they live in the plugin host, and are asked there.

The host makes the class's objects and calls them; here a call becomes one question, and what the sink changed comes
back with the answer. A library of this system is a shared object that exports DllGetClassObject; a DLL runs under Wine,
made by its class factory as well, or through the registry, as a Windows program would. Contract: Object model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gatepost.hooks.events import Event
from gatepost.hooks.session import ServerView
from gatepost.model import Blob
from gatepost.plugins.host import Backoff, Crew, HostError, Limits, LoadRefused
from gatepost.plugins.host.binary import Dialect, Library
from gatepost.plugins.host.crew import Facts, Receive
from gatepost.plugins.host.facts import Take
from gatepost.plugins.host.keeping import keep
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.host.recipes import Surroundings, examine, in_thread, lacking, native_recipe
from gatepost.plugins.host.wine import Keeper, Windows
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink.constants import INTERFACES, is_failure
from gatepost.plugins.sink.native_answers import Returned, call_facts, nonsense, read_answer
from gatepost.plugins.sink.options import USUAL, SinkOptions
from gatepost.plugins.sink.states import Call, Submission
from gatepost.wire.host import Answer

DIALECT: Dialect = "sink"
SUFFIX = ".eml"
MOST_THREADS = 256

_CLSID = re.compile(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_PROG_ID = re.compile(r"[A-Za-z][A-Za-z0-9._]*")
_METHODS = {interface: method for method, interface in INTERFACES.items() if method != "OnArrival"}
_LONG = range(-0x80000000, 0x80000000)  # what a VARIANT of VT_I4 holds


_MENDS = {
    "0x80040154": "the class isn't registered there: register = true does what regsvr32 does",
    "exports no DllRegisterServer": 'without create = "com" the class factory that it exports is used',
}
"""What to do, by what the host says."""


class Asks(Protocol):
    """Who asks the class's processes: plugins.host.Crew."""

    async def exchange(
        self,
        event: Event,
        facts: Facts,
        *,
        content: Blob | None = None,
        suffix: str | None = None,
        receive: Receive | None = None,
    ) -> tuple[Answer, Blob | None]: ...

    async def open(self, facts: dict[str, Any]) -> None: ...

    async def close(self) -> list[LoadRefused]: ...


class NativeSink:
    """A class in processes of its own. It has one from the moment it is loaded: close it, whatever becomes of it."""

    def __init__(
        self, crew: Asks, methods: frozenset[str], *, clsid: str = "", is_cacheable: bool = False, keeper: Any = None
    ) -> None:
        """`clsid`, `is_cacheable`: what the class says of itself. `keeper` keeps Wine warm for it."""
        self.crew = crew
        self.methods = methods
        self.clsid = clsid
        self.is_cacheable = is_cacheable
        self._keeper: Keeper | None = keeper

    async def call(self, method: str, event: Event, call: Call) -> int:
        """The HRESULT, unsigned, after whatever was pending; what the sink changed is in `call`, if that is a success.

        The content goes to transport events only, as a private copy. Raises HostError, TimeoutError, RecordError,
        OSError, ValueError: all of them a failed hook.
        """
        answered: list[Returned] = []
        forks: list[Blob] = []

        async def receive(answer: Answer, take: Take) -> None:
            returned = read_answer(answer.verdict, call)
            answered.append(returned)
            for file in returned.files:
                forks.append(await take(file))

        message = call.message
        content = message.content if message is not None and isinstance(call.context, Submission) else None
        facts = partial(_facts, method, call)
        _, rewritten = await self.crew.exchange(event, facts, content=content, suffix=SUFFIX, receive=receive)
        (returned,) = answered
        if not is_failure(returned.hresult):
            returned.merge(call, rewritten, forks)
            for blob in (*forks, *(() if rewritten is None else (rewritten,))):
                keep(blob, event.transaction)
        return returned.hresult

    async def open(self, server: ServerView) -> None:
        """Before the first connection; PluginError if its processes can't begin."""
        try:
            await self.crew.open({})
        except (HostError, LoadRefused, OSError) as error:
            raise PluginError(f"its processes can't begin: {error}") from error

    async def close(self) -> None:
        """After the last session; nothing of its processes is left."""
        try:
            errors = await self.crew.close()
        finally:
            if self._keeper is not None:
                await self._keeper.close()
        if errors:
            raise ExceptionGroup("the sink couldn't be closed", errors)


async def load_native(
    source: str | Path,
    *,
    name: str | None = None,
    options: SinkOptions = USUAL,
    properties: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    processes: int = 1,
    threads: int | None = None,
    starter: Starter = DIRECTLY,
    windows: Windows | None = None,
    prefixes: Path | None = None,
    scratch: Path | None = None,
    load_s: float = 30.0,
    grace_s: float = 1.0,
    stop_s: float = 5.0,
    backoff: Backoff | None = None,
) -> NativeSink:
    """The class that `options` name, in the library at `source`: a shared object of this system, or a Windows DLL.

    `properties` are its SinkProperties: texts, whole numbers, truths, fractions. What it keeps for a virtual server,
    and its cached objects, belong to one process: so there is one, unless `processes` says otherwise. `threads`: calls
    at a time in each. The others are as in `load_mailenable`. PluginError says what is wrong.
    """
    file = Path(os.path.abspath(source))  # noqa: ASYNC240, PTH100  asks no disk
    name = name or file.stem
    threads = options.threads if threads is None else threads
    try:
        told = _told(options, properties or {}, threads)
        library = await in_thread(_examined, file, options)
        around = Surroundings(env or {}, limits, scratch, load_s, starter, windows, prefixes)
        recipe, keeper = await native_recipe(library, DIALECT, lambda folder: {**told, "folder": folder}, around)
    except PluginError as error:
        raise PluginError(f'plugin "{name}": {error}') from error
    crew = Crew(name, recipe, processes=processes, grace_s=grace_s, stop_s=stop_s, backoff=backoff)
    try:
        facts = await crew.load()
        return _made(name, crew, keeper, facts, has_properties=bool(properties))
    except BaseException as error:
        await crew.close()
        if keeper is not None:
            await keeper.close()
        if isinstance(error, HostError | LoadRefused | OSError | ValueError) and not isinstance(error, PluginError):
            mend = "".join(f"; {mend}" for sign, mend in _MENDS.items() if sign in str(error))
            mend = mend or await in_thread(lacking, library)
            raise PluginError(f'plugin "{name}" ({file}) can\'t be loaded: {error}{mend}') from error
        raise


def _facts(method: str, call: Call, path: str | None) -> dict[str, Any]:
    return call_facts(method, call)


def _made(
    name: str, crew: Crew, keeper: Keeper | None, facts: Mapping[str, Any], *, has_properties: bool
) -> NativeSink:
    """The sink, from what its class says of itself. PluginError if nobody could use it."""
    match facts:
        case {
            "class": str(clsid),
            "interfaces": [*interfaces],
            "cacheable": bool(cacheable),
            "takes_properties": takes,
        }:
            pass
        case _:
            raise nonsense(f"{str(facts)[:80]} about its class")
    methods = frozenset(_METHODS[one] for one in interfaces if one in _METHODS)
    if not methods:
        raise PluginError(
            f'plugin "{name}": its class {clsid} has no interface of an event sink; there are: {", ".join(_METHODS)}'
        )
    if has_properties and not takes:
        raise PluginError(
            f'plugin "{name}": its class {clsid} has no IPersistPropertyBag, so nobody would read its properties; '
            "leave them out"
        )
    return NativeSink(crew, methods, clsid=clsid, is_cacheable=cacheable, keeper=keeper)


def _examined(file: Path, options: SinkOptions) -> Library:
    """What the library is. PluginError if it can't have the class."""
    library = examine(file, DIALECT, "library of COM classes")
    if options.create == "com" and library.format != "pe":
        raise PluginError(f'create = "com" is for Windows libraries, and {file} is none; leave it out')
    return library


def _told(options: SinkOptions, properties: Mapping[str, object], threads: int) -> dict[str, Any]:
    """What the host is told of the class. PluginError where that can't be meant."""
    cls = options.cls
    if cls and not (_CLSID.fullmatch(cls) if cls.startswith("{") else _PROG_ID.fullmatch(cls)):
        raise PluginError(
            f'class = "{cls}" is no class of a library; write "{{8-4-4-4-12 hexadecimal digits}}" or a ProgID'
        )
    if not 1 <= threads <= MOST_THREADS:
        raise PluginError(f"threads is from 1 to {MOST_THREADS}")
    return {
        "threads": threads,
        "class": cls.upper() if cls.startswith("{") else str(cls),
        "create": str(options.create),
        "register": options.create == "com" and options.register,
        "sink_properties": {str(key): _plain(key, value) for key, value in properties.items()},
    }


def _plain(key: str, value: object) -> str | int | float:
    """The value without what settings know of it. PluginError for what a property bag of COM doesn't hold."""
    if not key or "\0" in key:
        raise PluginError(f"a property's name is a text without NUL, not {key!r}")
    if not isinstance(value, str | int | float):
        raise PluginError(
            f'property "{key}" is a {type(value).__name__}; a sink reads texts, whole numbers, true and false, '
            "and fractions"
        )
    if isinstance(value, int) and not isinstance(value, bool) and value not in _LONG:
        raise PluginError(f'property "{key}" = {value} has more than 32 bits')
    if isinstance(value, str) and "\0" in value:
        raise PluginError(f'property "{key}" has a NUL in it')
    return str(value) if isinstance(value, str) else value
