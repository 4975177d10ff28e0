"""pytest fixtures: `gatepost`, a server in memory for synchronous tests, and `try_plugin`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gatepost.app.server import SyncServer


@pytest.fixture
def gatepost() -> Iterator[SyncServer]:
    """A server on a free port of loopback that accepts everything and keeps it in `.messages`."""
    from gatepost.app.server import Server  # noqa: PLC0415  only tests that use it pay for it

    with Server().in_thread() as server:
        yield server


@pytest.fixture
def try_plugin() -> Callable[..., Any]:
    """`gatepost.testing.try_plugin`: await it in asynchronous tests."""
    from gatepost.testing import try_plugin  # noqa: PLC0415

    return try_plugin
