"""What the log says of a plugin that failed."""

import logging

import pytest

from gatepost.app.recording import TraceRecorder
from gatepost.plugins.host import HostDown


class Nowhere:
    """A store that forgets."""

    def record(self, *told):
        self.told = told


@pytest.mark.parametrize(
    ("error", "lines"),
    [(HostDown("its process is down"), 1), (TimeoutError("late"), 1), (ZeroDivisionError("division by zero"), 2)],
)
def test_a_traceback_is_there_only_where_it_tells_something(error, lines, caplog):
    recorder = TraceRecorder(Nowhere())
    with caplog.at_level(logging.WARNING):
        recorder.failed("TOKEN", "filter", "message", error)
    said = caplog.text.rstrip().splitlines()
    assert "plugin filter" in said[0]
    assert "TOKEN" in said[0]
    assert len(said) == lines
    assert isinstance(error, TimeoutError) or str(error) in caplog.text
