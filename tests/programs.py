"""Programs of the system that tests talk to, found where they live even if a plain user's PATH leaves it out."""

from __future__ import annotations

import os
import shutil

import pytest

OWN = "/usr/local/lib/gatepost-tests"  # what tests/needs.sh has unpacked without installing its package
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/lib/wine", OWN])
MUST_BE_THERE = os.environ.get("CI", "").lower() not in ("", "0", "false", "no")

as_root = pytest.mark.skipif(
    os.geteuid() != 0 and not MUST_BE_THERE, reason="only root becomes somebody else; run as root, as CI does"
)
"""What needs root: tests that run something as another user, and servers that start as root only."""


def find(name: str) -> str | None:
    """Where a program is; None where it isn't."""
    return shutil.which(name, path=PATH)


def program(name: str) -> str:
    """Where a program is that the test's marker has promised."""
    found = find(name)
    assert found is not None, f"{name} isn't here; mark the test with needs({name!r})"
    return found
