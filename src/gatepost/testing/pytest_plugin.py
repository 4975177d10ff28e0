"""pytest fixtures: `gatepost`, a server in memory for synchronous tests, `try_plugin`, `smtp_session`, `sink_session`.

The dialogues of a test's sessions stand in its report if it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from gatepost.app.server import SyncServer
    from gatepost.testing.talking import MemoryTalk, Talk

T = TypeVar("T", bound="Talk")
_TALKS = pytest.StashKey["list[Talk]"]()


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


@pytest.fixture
def smtp_session(request: pytest.FixtureRequest) -> Iterator[Callable[..., Talk]]:
    """`smtp_session(server)`, or `(host, port)`: a session with a server that runs, spoken by hand; see `Talk`.

    The server is anything with `host` and `port`. It must not run in the loop of the test itself.
    """
    from gatepost.testing.talking import Socket, Talk  # noqa: PLC0415  only tests that use it pay for it

    with ExitStack() as closing:

        def connect(server: Any, port: int | None = None) -> Talk:
            host, port = (server, port) if port is not None else (server.host, server.port)
            talk = Talk(Socket(host, port))
            closing.callback(_hang_up, talk)
            return _kept(request, talk)

        yield connect


@pytest.fixture
def sink_session(request: pytest.FixtureRequest) -> Iterator[Callable[..., MemoryTalk]]:
    """`sink_session(plugin, properties=…, rule=…, priority=…)`: a session with a server in memory that has this plugin.

    The plugin is a source as in settings, in any dialect, or an object in Python; the words are keys of `[[plugin]]`.
    The same plugin with the same words is loaded once in a test, so that sessions share what it remembers.
    `talk.messages()` gives the contents that were stored.
    """
    from gatepost.testing.talking import InMemory  # noqa: PLC0415  as above

    servers: dict[str, InMemory] = {}
    with ExitStack() as closing:

        def connect(plugin: object, *, ip: str = "192.0.2.1", **words: Any) -> MemoryTalk:
            key = repr((plugin if isinstance(plugin, str) else id(plugin), sorted(words.items())))
            if key not in servers:
                servers[key] = InMemory(plugin, **words)
                closing.callback(servers[key].close)
            return _kept(request, servers[key].connect(ip))

        yield connect


def _hang_up(talk: Talk) -> None:
    with suppress(OSError):
        talk.hang_up()


def _kept(request: pytest.FixtureRequest, talk: T) -> T:
    request.node.stash.setdefault(_TALKS, []).append(talk)
    return talk


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failing test shows what was said."""
    report = yield
    talks: list[Talk] = []
    talks = item.stash.get(_TALKS, talks)
    if report.failed:
        for number, talk in enumerate(talks, 1):
            report.sections.append((f"SMTP session {number}", str(talk)))
    return report
