"""The log, on standard error: logfmt, JSON, or lines for a person.

Strategy: what is said seldom goes through `logging`, and structlog puts it into shape. What is said for each session
and each delivery goes through the Journal instead, which keeps plain tuples and writes them in batches: at level
warning it costs nothing, at level info a few microseconds a line. Whatever came from outside stays one line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import IO, Any, Literal

import msgspec
import structlog

from gatepost.app.settings.sections import Log
from gatepost.model.written import printable

Shape = Literal["json", "logfmt", "pretty"]

_LEVELS = ("debug", "info", "warning", "error")
_PLAIN = re.compile(r"[!#-<>-~]+", re.ASCII)  # needs no quotes in logfmt: printable, no blank, no quote, no "="
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_COLOUR_ENDS = "\x1b[0m"
_BATCH_S = 0.1


def configure(settings: Log, *, verbosity: int = 0, worker: int | None = None, out: IO[str] | None = None) -> None:
    """Let the process's log go to `out` (standard error) as the settings say; again after a reload.

    `verbosity` counts levels up (more is said) or down; `worker` stands in each line, where there are several.
    """
    stream = out if out is not None else sys.stderr
    shape = shape_of(settings, stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[lambda _, __, event: _facts(event, worker)],
            processors=[lambda _, __, event: render(shape, event, coloured=_is_coloured(stream))],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gatepost").setLevel(level_of(settings, verbosity))
    logging.captureWarnings(True)


def level_of(settings: Log, verbosity: int = 0) -> int:
    """The least level that is written, as `logging` counts."""
    at = min(max(_LEVELS.index(settings.level) - verbosity, 0), len(_LEVELS) - 1)
    return logging.getLevelNamesMapping()[_LEVELS[at].upper()]


def shape_of(settings: Log, stream: IO[str]) -> Shape:
    """auto: pretty on a terminal, logfmt elsewhere."""
    if settings.format != "auto":
        return settings.format
    return "pretty" if stream.isatty() else "logfmt"


def _is_coloured(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _facts(event: MutableMapping[str, Any], worker: int | None) -> dict[str, Any]:
    """What a record of `logging` says, in order."""
    record: logging.LogRecord = event["_record"]
    facts: dict[str, Any] = {
        "time": stamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event["event"],
    }
    if worker is not None:
        facts["worker"] = worker
    if record.exc_info and record.exc_info[0] is not None:
        facts["exception"] = logging.Formatter().formatException(record.exc_info)
    return facts


def render(shape: Shape, facts: Mapping[str, Any], *, coloured: bool = False) -> str:
    """One line without its end; a traceback's lines, in the pretty shape, stand below it and are indented."""
    match shape:
        case "json":
            return msgspec.json.encode(facts, enc_hook=str).decode()
        case "logfmt":
            return " ".join([f"{key}={_quoted(value)}" for key, value in facts.items()])
        case "pretty":
            return _pretty(facts, coloured)


def _pretty(facts: Mapping[str, Any], coloured: bool) -> str:
    rest = {key: value for key, value in facts.items() if key not in _IN_PLACE}
    level = str(facts["level"])
    shown = f"{_COLOURS.get(level, '')}{level:<7}{_COLOUR_ENDS}" if coloured else f"{level:<7}"
    line = f"{str(facts['time'])[11:23]} {shown} {printable(str(facts['event']))}"
    for key, value in rest.items():
        line += f"  {key}={_quoted(value)}"
    for row in str(facts.get("exception", "")).splitlines():
        line += f"\n    {printable(row)}"
    return line


_IN_PLACE = frozenset({"time", "level", "logger", "event", "exception"})


def _quoted(value: object) -> str:
    """A value for logfmt: as it is, or in quotes with what could end it or the line escaped."""
    text = value if type(value) is str else str(value)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{printable(escaped)}"'


def stamp(unix_s: float) -> str:
    """The time as ISO 8601, UTC, in milliseconds."""
    whole = int(unix_s)
    return f"{_second(whole)}.{int((unix_s - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


class Journal:
    """A line for each session and each delivery, at level info. Lines are kept for a moment and written together.

    Invariant: what was said is written by the next batch, or by `close`.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        later: Callable[[float, Callable[[], None]], object],
        *,
        shape: Shape,
        clock: Callable[[], float] = time.time,
        worker: int | None = None,
        coloured: bool = False,
    ) -> None:
        """`later(seconds, call)` is the loop's call_later."""
        self._write = write
        self._later = later
        self._shape = shape
        self._clock = clock
        self._worker = worker
        self._whose = "" if worker is None else f" worker={worker}"
        self._coloured = coloured
        self._waiting: list[tuple[float, str, Mapping[str, object]]] = []

    def say(self, event: str, facts: Mapping[str, object]) -> None:
        """One line. `facts` aren't changed afterwards."""
        if not self._waiting:
            self._later(_BATCH_S, self.flush)
        self._waiting.append((self._clock(), event, facts))

    def flush(self) -> None:
        """Write what is waiting."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._write("".join([self._line(*one) for one in waiting]))

    def _line(self, at: float, event: str, facts: Mapping[str, object]) -> str:
        if self._shape == "logfmt":  # what `render` would say, in half the time
            said = [f"{key}={value if type(value) is int else _quoted(value)}" for key, value in facts.items()]
            return f"time={stamp(at)} level=info logger=gatepost event={event}{self._whose} {' '.join(said)}\n"
        told: dict[str, object] = {"time": stamp(at), "level": "info", "logger": "gatepost", "event": event}
        if self._worker is not None:
            told["worker"] = self._worker
        told.update(facts)
        return render(self._shape, told, coloured=self._coloured) + "\n"


def journal(
    settings: Log,
    later: Callable[[float, Callable[[], None]], object],
    *,
    verbosity: int = 0,
    worker: int | None = None,
    out: IO[str] | None = None,
) -> Journal | None:
    """The journal that the settings ask for; None where nobody wants to read it."""
    if level_of(settings, verbosity) > logging.INFO:
        return None
    stream = out if out is not None else sys.stderr

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return Journal(write, later, shape=shape_of(settings, stream), worker=worker, coloured=_is_coloured(stream))
