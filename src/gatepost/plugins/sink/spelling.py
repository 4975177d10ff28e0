"""The names of a sink's methods: the interface's, the same as Python would spell it, and those meant by neither."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gatepost.plugins.sink.constants import INTERFACES

ARGUMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("OnSmtpInCommand", "OnSmtpInCallback", "OnSmtpOutCommand", "OnSmtpServerResponse"),
            ("server", "session", "message", "context"),
        ),
        **dict.fromkeys(
            ("OnMessageSubmission", "OnSyncMessagePreCategorize", "OnMessagePostCategorize"),
            ("message", "notify", "context"),
        ),
        "OnArrival": ("msg", "event_status"),
    }
)
"""What each event method is called with."""

_EVENTS_METHODS: Mapping[str, str] = {
    **dict.fromkeys(("onsmtpinboundcommand", "oninboundcommand"), "OnSmtpInCommand"),
    **dict.fromkeys(
        (
            *("onsmtpoutboundcommand", "onoutboundcommand", "onsmtpsessionstart", "onsessionstart"),
            *("onsmtpmessagestart", "onmessagestart", "onsmtpperrecipient", "onperrecipient"),
            *("onsmtpbeforedata", "onbeforedata", "onsmtpsessionend", "onsessionend"),
        ),
        "OnSmtpOutCommand",
    ),
    "onserverresponse": "OnSmtpServerResponse",
    "ontransportsubmission": "OnMessageSubmission",
    "onprecategorize": "OnSyncMessagePreCategorize",
    "onpostcategorize": "OnMessagePostCategorize",
    **dict.fromkeys(("ismtponarrivalonarrival", "ieventsinkonarrival"), "OnArrival"),
}
"""The method of an event whose name an author may take for it."""
_ALIKE = 0.9


def spelled(name: str) -> tuple[str, str]:
    """A method's name as the interface has it, and as Python would spell it."""
    return name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


SPELLED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: spelled(name) for name in (*INTERFACES, "OnSmtpInCallback", "IsCacheable", "Load", "CreateInstance")}
)


def attribute_of(owner: Any, method: str) -> str:
    """By which name an object or a class has the method; "" if by none."""
    return next((name for name in SPELLED[method] if callable(getattr(owner, name, None))), "")


def method_of(owner: Any, method: str) -> Callable[..., Any] | None:
    """The method of an object or a class, under either of its names; None if it has none."""
    name = attribute_of(owner, method)
    return getattr(owner, name) if name else None


def methods_of(kind: type) -> frozenset[str]:
    """The event methods that a class has, by their names in the interfaces."""
    return frozenset(name for name in INTERFACES if attribute_of(kind, name))


def misspelt(kind: type) -> tuple[str, str] | None:
    """A name in the class that nobody would call, and the event method that it was meant to be; None if there is none.

    The name of an event is taken for such a one only in a class without any event method.
    """
    known = {name: method for method in INTERFACES for name in SPELLED[method]}
    plain = {_plain(name): method for name, method in known.items()}
    has_methods = bool(methods_of(kind))
    for name in dir(kind):
        if name in known or name in SPELLED["OnSmtpInCallback"] or not callable(getattr(kind, name, None)):
            continue
        if not has_methods and (event := _EVENTS_METHODS.get(_plain(name))):
            return name, event
        if close := difflib.get_close_matches(_plain(name), plain, 1, _ALIKE):
            return name, plain[close[0]]
    return None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
