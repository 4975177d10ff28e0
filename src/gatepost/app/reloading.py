"""What can change while a server runs, and what needs a restart: said before anything is loaded."""

from __future__ import annotations

from gatepost.app.settings.root import Settings
from gatepost.app.stores import takes_everybody


class NeedsRestart(RuntimeError):
    """These settings can't take effect in a running server."""


def check_reloadable(before: Settings, after: Settings) -> None:
    """NeedsRestart names what differs and can't be changed while the server runs."""
    keys = [key for key in _FIXED if getattr(before, key) != getattr(after, key)]
    if before.delivery.model_copy(update=_BY_DESTINATION) != after.delivery.model_copy(update=_BY_DESTINATION):
        keys.append("delivery")
    listeners = [(one.name, one.address, one.protocol, one.tls == "implicit") for one in before.listen]
    if listeners != [(one.name, one.address, one.protocol, one.tls == "implicit") for one in after.listen]:
        keys.append("listeners")
    if bool(before.tls.certificate) and not after.tls.certificate:
        keys.append("certificates, once there are any,")
    keys += [f"tls.{key}" for key in _TLS_TO_OTHERS if getattr(before.tls, key) != getattr(after.tls, key)]
    keys += [f"users.{key}" for key in _OF_USERS if getattr(before.users, key) != getattr(after.users, key)]
    if takes_everybody(before) != takes_everybody(after):
        keys.append("a maildrop for everybody")
    if keys:
        verb = "change" if len(keys) > 1 or keys[0].endswith("s") else "changes"
        raise NeedsRestart(f"{' and '.join(keys)} {verb} only with a restart")


_FIXED = ("hostname", "data", "workers", "run_as", "dns", "delivery", "trace", "spool", "user")
_BY_DESTINATION: dict[str, tuple[object, ...]] = {"destination": (), "sender": ()}  # these change while it runs
_OF_USERS = ("files", "default_domain")  # what stands in the files may change at any time
_TLS_TO_OTHERS = ("client", "policy", "reports")
