"""What signs return paths is in no log: a log shows objects as they show themselves."""

from __future__ import annotations

from gatepost.content.batv import Batv
from gatepost.content.srs import Srs


def test_what_signs_is_not_shown() -> None:
    assert "hunter" not in repr(Srs("own.example", (b"hunter2",)))
    assert "hunter" not in repr(Batv((b"hunter2",)))
