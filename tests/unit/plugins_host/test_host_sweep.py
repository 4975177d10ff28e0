"""What is cleared away in a folder for temporary files is what plugins' hosts have left there, and nobody else's."""

import os
import time

import pytest

from gatepost.plugins.host.scratch import sweep


@pytest.mark.parametrize("name", ["gatepost-data", "gatepost-bench-x1", "gatepost-wine-0-plugins", "gatepost-ab12cd_9"])
def test_other_folders_of_ours_stay(tmp_path, name):
    """`gatepost-data` is where mail rests if nobody says otherwise, and a server may well be started in /tmp."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mail").write_text("precious")
    os.utime(folder, (time.time() - 3600,) * 2)
    sweep(tmp_path)
    assert (folder / "mail").read_text() == "precious"
