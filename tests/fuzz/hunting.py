"""What every fuzz target shares: atheris looks for findings, beginning with the target's seeds. `make fuzz` runs all.

One alone: `PYTHONPATH=tests python tests/fuzz/fuzz_frames.py -max_total_time=60`, where atheris is installed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def hunt(one_input: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing was found."""
    import atheris

    with tempfile.TemporaryDirectory(prefix="seeds-") as folder:
        for number, seed in enumerate(seeds):
            Path(folder, str(number)).write_bytes(seed)
        atheris.instrument_all()
        atheris.Setup([*sys.argv, folder], one_input)
        atheris.Fuzz()


def pieces(data: bytes, places: bytes) -> list[bytes]:
    """`data` cut where `places` say: each octet is a distance from the cut before."""
    found: list[bytes] = []
    for distance in places:
        found.append(data[: distance + 1])
        data = data[distance + 1 :]
    return [piece for piece in (*found, data) if piece]
