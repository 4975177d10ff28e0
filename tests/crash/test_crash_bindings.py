"""The registry of bindings through a crash at every step of a command: the old rows are there, or the new ones."""

import tomllib
from pathlib import Path

import pytest

from crash.recording import Recorder, RecordingFiles, write_down
from gatepost.app.bindings import Row, rows_in, text_of
from gatepost.app.bindings_changes import added, switched
from gatepost.app.bindings_events import event_named
from gatepost.app.bindings_file import KeptText

NAME = "bindings.toml"


def history() -> list[str]:
    """The texts that commands write, one after the other."""
    rows: list[Row] = []
    texts = []
    for number in range(3):
        rows, row = added(rows, 1, event_named("OnArrival"), f"sink {number}", "sinks:Sink", "rcpt to=*@x")
        texts.append(text_of(rows))
    rows, _ = switched(rows, row, enabled=False)
    return [*texts, text_of(rows), text_of(rows[:1])]


def test_a_crash_leaves_the_old_rows_or_the_new(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    recorder = Recorder(root)
    kept = KeptText(root, NAME, RecordingFiles(recorder))
    texts = history()
    done = [0]  # steps after which each text is durable
    for text in texts:
        with kept.alone():
            kept.write(text)
        done.append(len(recorder.log))
        recorder.mark(text)
    tried = 0
    for step, crash, left in recorder.crashes():
        folder = tmp_path / f"after-{tried}"
        write_down(left, folder)
        tried += 1
        file = folder / NAME
        found = file.read_text() if file.exists() else None
        finished = sum(1 for end in done[1:] if end <= step)
        allowed = {texts[at] for at in (finished - 1, finished) if 0 <= at < len(texts)} | (
            {None} if not finished else set()
        )
        assert found in allowed, (step, crash)
        assert found is None or rows_in(tomllib.loads(found))[1] == []
    assert tried > len(texts)


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "syncdir"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    recorder = Recorder(root)
    kept = KeptText(root, NAME, RecordingFiles(recorder))
    kept.write("before")

    def fail(what: str) -> None:
        if what == kind:
            raise OSError(28, "No space left on device")

    recorder.fail = fail
    with pytest.raises(OSError, match="No space"):
        kept.write("after")
    assert (root / NAME).read_text() == ("after" if kind == "syncdir" else "before")
    recorder.fail = lambda _: None
    kept.write("later")
    assert kept.read() == "later"
    kept.write(None)
    assert kept.read() is None
