"""Settings: one TOML file, its includes, the environment and the call, checked whole and frozen.

`load` makes Settings or raises SettingsError with everything that is wrong; `show` tells every value and where it came
from; `schema` is the JSON Schema. Nothing is imported until it is asked for, so that commands which need no settings
stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatepost.app.settings.display import describe, schema, show
    from gatepost.app.settings.loading import Check, load
    from gatepost.app.settings.plugins import Binding, Plugin
    from gatepost.app.settings.problems import Finding, KeyPath, Problem, SettingsError
    from gatepost.app.settings.root import Listener, Settings
    from gatepost.app.settings.routes import Deliver, Route
    from gatepost.app.settings.sections import Delivery, Limits, Log, Smtp, Spool, Trace
    from gatepost.app.settings.tls import Certificate, TlsSettings
    from gatepost.app.settings.units import Endpoint, Network, Secret
    from gatepost.app.settings.users import Alias, User, Users

_HOMES = {
    "display": ("describe", "schema", "show"),
    "loading": ("Check", "load"),
    "plugins": ("Binding", "Plugin"),
    "problems": ("Finding", "KeyPath", "Problem", "SettingsError"),
    "root": ("Listener", "Settings"),
    "routes": ("Deliver", "Route"),
    "sections": ("Delivery", "Limits", "Log", "Smtp", "Spool", "Trace"),
    "tls": ("Certificate", "TlsSettings"),
    "units": ("Endpoint", "Network", "Secret"),
    "users": ("Alias", "User", "Users"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alias",
    "Binding",
    "Certificate",
    "Check",
    "Deliver",
    "Delivery",
    "Endpoint",
    "Finding",
    "KeyPath",
    "Limits",
    "Listener",
    "Log",
    "Network",
    "Plugin",
    "Problem",
    "Route",
    "Secret",
    "Settings",
    "SettingsError",
    "Smtp",
    "Spool",
    "TlsSettings",
    "Trace",
    "User",
    "Users",
    "describe",
    "load",
    "schema",
    "show",
]


def __getattr__(name: str) -> Any:
    if home := _HOME_OF.get(name):
        return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
