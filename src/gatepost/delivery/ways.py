"""Where mail for a domain goes, as the queue needs to know it to be fair: what shares a next server shares its places.

A guess from the routes, with any local part: who is wrong about it is only less fair. By MX a domain stands for itself
until its servers were found; then domains with the same first server share a group.
"""

from __future__ import annotations

from collections.abc import Callable

from gatepost.delivery.destinations import Destinations
from gatepost.delivery.route import Action, Discard, Lmtp, Maildir, Mx, Relay, Routes
from gatepost.model import NULL_PATH, Path
from gatepost.store.lanes import EVERYTHING, Way

IN_LINE = 4  # entries in hand for each attempt at a time: those under way, and those that stand in line
LOCAL = "maildrops"


class Ways:
    """The way of each lane. `routes` are asked for at each look, so that a reload counts."""

    def __init__(self, routes: Callable[[], Routes], destinations: Destinations, *, reserve: int = 0) -> None:
        """`reserve` is how many places are kept for our own maildrops, however many servers are silent."""
        self._reserve = reserve
        self._routes = routes
        self._destinations = destinations

    def of(self, domain: str, sender: str) -> Way:
        """The way of a sender's (user's, domain's, or "") mail for a domain."""
        group, weight, most = self._group(domain, self.action(domain, sender))
        is_ours = group == LOCAL
        leaves = 0 if is_ours else self._reserve
        return Way(group, most, weight, self._destinations.allowances.weight_of(sender), leaves, is_ours)

    def action(self, domain: str, sender: str = "") -> Action | None:
        """What would be done with the mail; None without a route."""
        local, _, host = sender.rpartition("@")
        path = Path(local or "*", host, sender) if sender else NULL_PATH
        route = self._routes().find(Path("*", domain, domain), path, sender if local else None)
        return None if route is None else route.action

    def group(self, domain: str) -> str:
        """The name of the group of a domain's mail."""
        return self._group(domain, self.action(domain))[0]

    def _group(self, domain: str, action: Action | None) -> tuple[str, int, int]:
        allowances = self._destinations.allowances
        match action:
            case Maildir() | Discard():
                return LOCAL, allowances.find(domain).weight, EVERYTHING
            case Relay() | Lmtp():
                first = action.hosts[0]
                allowance = allowances.find("", first.name.lower(), first.address or "", str(first))
                group = ", ".join(map(str, action.hosts))
            case Mx():
                allowance, group = allowances.find(domain), domain
                if hosts := self._destinations.hosts_of(domain):
                    name = hosts[0].name.lower()
                    names = (name, hosts[0].address or "", str(hosts[0]))
                    allowance = allowances.find(domain, *names)
                    group = name if allowance == allowances.find("", *names) else domain
            case None:
                return domain, allowances.default.weight, EVERYTHING
        return group, allowance.weight, IN_LINE * allowance.concurrency
