"""The log: its shapes, and that what came from outside stays one line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from gatepost.app.logs import Journal, Shape, configure, journal, level_of, render, shape_of, stamp
from gatepost.app.settings.sections import Log

EVIL = 'a\r\n250 ok "quoted" \\ \x1b[31m\x00\u2028b'


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gatepost")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)
    logging.captureWarnings(False)


def logged(shape: str, say: Callable[[logging.Logger], object], worker: int | None = None) -> str:
    out = io.StringIO()
    configure(Log.model_validate({"format": shape}), worker=worker, out=out)
    say(logging.getLogger("gatepost.here"))
    return out.getvalue()


def test_logfmt_json_and_pretty() -> None:
    text = logged("logfmt", lambda log: log.warning("hello %s", "you"), worker=1)
    assert text.partition(" ")[2] == 'level=warning logger=gatepost.here event="hello you" worker=1\n'
    told = json.loads(logged("json", lambda log: log.warning("hello")))
    assert (told["level"], told["logger"], told["event"]) == ("warning", "gatepost.here", "hello")
    assert logged("pretty", lambda log: log.warning("hello"), worker=0).endswith(" warning hello  worker=0\n")


@pytest.mark.parametrize("shape", ["logfmt", "json", "pretty"])
def test_I9_what_came_from_outside_stays_one_line(shape: str) -> None:
    def say(log: logging.Logger) -> None:
        log.warning("said: %s", EVIL)

    text = logged(shape, say)
    assert text.count("\n") == 1 and text.endswith("\n")
    assert not set(text[:-1]) & {"\r", "\x1b", "\x00"}


def test_I9_a_traceback_cannot_forge_a_line() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError("x\n06:00:00.000 info    all is well\x1b[2J")
        except ValueError:
            log.exception("failed")

    rows = logged("pretty", fail).splitlines()
    assert all(row.startswith("    ") for row in rows[1:]) and len(rows) > 3
    assert logged("logfmt", fail).count("\n") == 1
    assert "all is well" in json.loads(logged("json", fail))["exception"]


def test_levels_go_up_and_down_with_verbosity() -> None:
    assert level_of(Log()) == logging.INFO
    assert level_of(Log(), 1) == level_of(Log(), 5) == logging.DEBUG
    assert level_of(Log(), -1) == logging.WARNING
    assert level_of(Log(level="error"), -1) == logging.ERROR


def test_auto_is_pretty_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert (shape_of(Log(), Terminal()), shape_of(Log(), io.StringIO())) == ("pretty", "logfmt")
    assert shape_of(Log(format="json"), Terminal()) == "json"


def test_the_journal_writes_in_batches_and_nothing_is_left_behind() -> None:
    written: list[str] = []
    later: list[Callable[[], None]] = []
    told = Journal(written.append, lambda _, call: later.append(call), shape="logfmt", clock=lambda: 0.25, worker=3)
    told.say("session", {"token": "7K3MAB", "accepted": 1})
    told.say("delivered", {"to": "a b@c.example"})
    assert (written, len(later)) == ([], 1)
    later[0]()
    assert written == [
        "time=1970-01-01T00:00:00.250Z level=info logger=gatepost event=session worker=3 token=7K3MAB accepted=1\n"
        'time=1970-01-01T00:00:00.250Z level=info logger=gatepost event=delivered worker=3 to="a b@c.example"\n'
    ]
    told.say("session", {})
    assert len(later) == 2
    told.flush()
    told.flush()
    assert len(written) == 2


@pytest.mark.parametrize("shape", ["logfmt", "json", "pretty"])
def test_I4_a_reply_of_another_server_cannot_forge_a_line_of_the_journal(shape: Shape) -> None:
    written: list[str] = []
    told = Journal(written.append, lambda _, call: None, shape=shape)
    told.say("bounced", {"reply": EVIL})
    told.flush()
    assert written[0].count("\n") == 1 and not set(written[0][:-1]) & {"\r", "\x1b", "\x00"}


def test_the_shortcut_for_logfmt_says_what_render_would() -> None:
    written: list[str] = []
    told = Journal(written.append, lambda _, call: None, shape="logfmt", clock=lambda: 5.0)
    facts = {"token": "x", "count": 3, "said": 'a "b"=c'}
    told.say("session", facts)
    told.flush()
    whole = {"time": stamp(5.0), "level": "info", "logger": "gatepost", "event": "session", **facts}
    assert written == [render("logfmt", whole) + "\n"]


def test_nobody_keeps_a_journal_that_nobody_reads() -> None:
    assert journal(Log(level="warning"), lambda _, call: None) is None
    assert journal(Log(), lambda _, call: None, verbosity=-1) is None
    assert journal(Log(), lambda _, call: None, out=io.StringIO()) is not None
