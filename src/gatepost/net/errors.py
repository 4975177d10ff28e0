"""What can go wrong with a connection. All are OSErrors: one `except OSError` catches whatever the network does."""

from __future__ import annotations


class ConnectionLost(ConnectionError):
    """The connection is gone: reset by the peer, broken underneath, or closed by us. Nothing can be said or heard."""


class HandshakeFailed(ConnectionError):
    """TLS was not agreed on. The alert has been sent and the stream is closing: nothing plain may follow."""


class DeadlinePassed(TimeoutError):
    """The stream's deadline passed before what was waited for happened. It stays passed until it is moved."""
