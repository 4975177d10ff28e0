"""How bytes move: streams, listeners, TLS, names. Knows no protocol; whatever the network does is an OSError."""

from gatepost.net.connecting import Connector, connect
from gatepost.net.errors import ConnectionLost, DeadlinePassed, HandshakeFailed
from gatepost.net.listener import Listener, listen
from gatepost.net.sockets import bind
from gatepost.net.stream import Stream

__all__ = [
    "ConnectionLost",
    "Connector",
    "DeadlinePassed",
    "HandshakeFailed",
    "Listener",
    "Stream",
    "bind",
    "connect",
    "listen",
]
