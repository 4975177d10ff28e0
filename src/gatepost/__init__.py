"""Gatepost: a programmable mail server. Plugins decide while the sender is still on the line.

What authors and embedders use is here, and imported when it is first used (PEP 562): neither the command line nor a
child process loads the house for a name it doesn't need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "gatepost.hooks.api": (
        "Answer",
        "Plugin",
        "accept",
        "discard",
        "end_session",
        "fail",
        "hangup",
        "jump",
        "on",
        "per_session",
        "per_transaction",
        "prepare",
        "quarantine",
        "refuse",
        "repeat",
        "send_line",
        "send_octets",
        "skip",
        "take",
        "tempfail",
    ),
    "gatepost.app.queueing": ("QueueError",),
    "gatepost.app.send": ("send", "send_sync"),
    "gatepost.app.sending": ("Progress", "Sent", "SentTo", "SendState"),
    "gatepost.app.server": ("Server",),
    "gatepost.app.settings": ("Settings", "SettingsError"),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from gatepost.app.queueing import QueueError
    from gatepost.app.send import send, send_sync
    from gatepost.app.sending import Progress, SendState, Sent, SentTo
    from gatepost.app.server import Server
    from gatepost.app.settings import Settings, SettingsError
    from gatepost.hooks import stages
    from gatepost.hooks.api import (
        Answer,
        Plugin,
        accept,
        discard,
        end_session,
        fail,
        hangup,
        jump,
        on,
        per_session,
        per_transaction,
        prepare,
        quarantine,
        refuse,
        repeat,
        send_line,
        send_octets,
        skip,
        take,
        tempfail,
    )

__all__ = [
    "Answer",
    "Plugin",
    "Progress",
    "QueueError",
    "SendState",
    "Sent",
    "SentTo",
    "Server",
    "Settings",
    "SettingsError",
    "__version__",
    "accept",
    "discard",
    "end_session",
    "fail",
    "hangup",
    "jump",
    "on",
    "per_session",
    "per_transaction",
    "prepare",
    "quarantine",
    "refuse",
    "repeat",
    "send",
    "send_line",
    "send_octets",
    "send_sync",
    "skip",
    "stages",
    "take",
    "tempfail",
]


def __getattr__(name: str) -> Any:
    if name == "stages":
        return import_module("gatepost.hooks.stages")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'gatepost' has no attribute {name!r}")
