"""Binds every socket before anything else is started, while we may still be root.

Strategy: where the system shares connections out among sockets of one port (SO_REUSEPORT on Linux), each worker has a
socket of its own for each listener; elsewhere all workers share one. Whoever bound them keeps them open: connections
that wait in a socket outlive the worker that would have taken them.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

from gatepost.app.settings.root import Listener
from gatepost.net import bind

IS_SHARED_OUT = sys.platform == "linux"


class Sockets:
    """Bound sockets by listener and worker. Open until `close`."""

    def __init__(self, listeners: Iterable[Listener], workers: int) -> None:
        """OSError, whose text says what to do, if one can't be bound; then none is."""
        self._by_listener: dict[str, list[socket.socket]] = {}
        count = workers if IS_SHARED_OUT else 1
        try:
            for listener in listeners:
                self._by_listener[listener.name] = bound = []
                host, port = listener.address.host, listener.address.port
                if count > 1 and port:
                    bind(host, port).close()  # alone: with SO_REUSEPORT another server's port would be shared silently
                for _ in range(count):
                    bound.append(bind(host, port, reuse_port=count > 1))
                    port = bound[0].getsockname()[1]
        except OSError:
            self.close()
            raise

    def of(self, worker: int) -> dict[str, socket.socket]:
        """A worker's sockets, by listener."""
        return {name: bound[worker % len(bound)] for name, bound in self._by_listener.items()}

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each listener really is."""
        return {name: bound[0].getsockname()[:2] for name, bound in self._by_listener.items()}

    def close(self) -> None:
        """Give them up, with whoever waits in them."""
        for bound in self._by_listener.values():
            for one in bound:
                one.close()
