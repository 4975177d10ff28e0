"""The lists that have routes: the built-in plugin `lists`, ready to be bound."""

from __future__ import annotations

from typing import Any

from gatepost.app.gates import delivery_routes
from gatepost.app.settings.root import Settings
from gatepost.delivery.route import ToList
from gatepost.hooks.stages import Message, Recipient
from gatepost.lists.addressing import Purpose
from gatepost.lists.gate import NAME, PRIORITY, Listed, ListGate
from gatepost.model import Path
from gatepost.plugins.loaded import Loaded, Wish, bind_stages
from gatepost.store.lists import ListStore
from gatepost.store.lists_facts import check_address


def load_list_gate(settings: Settings, store: ListStore) -> Loaded:
    """The plugin that answers for the addresses of lists. Posts to each list are judged by a binding of their own, so
    that recipients of one message that could hear different answers are sent separately.
    """
    gate = ListGate(store, listed(settings))
    loaded = Loaded(NAME, "[[route]]")
    first: dict[Any, Any] = {Recipient: gate.recipient}
    bind_stages(loaded, first, [Wish(priority=PRIORITY, always=True)])
    posts: dict[Any, Any] = {Message: gate.message}
    rules = [Wish(priority=PRIORITY, always=True, rule=f"rcpt to={address}") for address in _addresses(settings)]
    bind_stages(loaded, posts, rules)
    return loaded


def listed(settings: Settings) -> Listed:
    """Which list's route takes a recipient, as delivery will see it: the first that fits."""
    routes = delivery_routes(settings)
    known = _addresses(settings)
    purposes = tuple(purpose.value for purpose in Purpose if purpose.value)

    def find(recipient: Path, sender: Path, user: str | None) -> str | None:
        local = recipient.local.lower().partition("+")[0]
        bases = (local, *(local.removesuffix(one) for one in purposes if local.endswith(one)))
        if not any(f"{base}@{recipient.domain}" in known for base in bases):  # as for nearly every recipient
            return None
        route = routes.find(recipient, sender, user)
        return route.action.name if route is not None and isinstance(route.action, ToList) else None

    return find


def _addresses(settings: Settings) -> dict[str, None]:
    """The lists' addresses in lower case, in the order of their routes."""
    routes = [route for route in settings.route if route.deliver.by == "list"]
    return dict.fromkeys(check_address(match).address.lower() for route in routes for match in route.match)
