"""What `gatepost check` sees of mailing lists: routes that lead to a list, lists that nobody leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from gatepost.app.settings.root import Settings
from gatepost.app.settings.routes import Route
from gatepost.store.lists_facts import ListError, MailingList, Member, check_address

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words for it."""


def look_at_lists(settings: Settings) -> Iterator[Seen]:
    """Each list once, by its routes or by itself. Nothing is made: what isn't there yet is told."""
    routes: dict[str, list[Route]] = {}
    for route in settings.route:
        if route.deliver.by == "list":
            routes.setdefault(route.deliver.name or "", []).append(route)
    file = None if settings.data is None else settings.data / "lists.db"
    lists: dict[str, tuple[MailingList, int]] = {}
    around: list[Seen] = []
    if file is not None and file.exists():
        from gatepost.store.lists_database import ListDatabase

        try:
            database = ListDatabase(file)
            try:
                lists = {one.name: (one, database.count(one.name)) for one in database.all()}
                around += _around(settings, [lists[name][0] for name in routes if name in lists], database.members)
            finally:
                database.close()
        except ListError as error:
            yield "list", "failed", str(error)
            return
    for name, leading in routes.items():
        yield from dict.fromkeys(_routed(name, route, lists) for route in leading)
    for name, (one, _) in lists.items():
        if name not in routes:
            mend = f'match = "{one.address}", deliver = "list {name}"'
            yield "list", "warning", f"{name} has no route, so nobody can write to it; [[route]] {mend}"
    yield from around


def _around(
    settings: Settings, lists: list[MailingList], members_of: Callable[[str], Iterable[Member]]
) -> Iterator[Seen]:
    """Of lists that have a route: who else has their addresses, and members that nothing can be sent to."""
    from gatepost.app.list_neighbours import lists_beside, people_beside, without_route

    for one, other in lists_beside(lists):
        text = f"{other.address} is the list {other.name}, and one of the addresses of {one.name} too"
        yield "list", "warning", f"{text}; gatepost list create NAME with another address, gatepost list remove"
    for one in lists:
        for text in people_beside(settings, one):
            yield "list", "warning", f"{text}; give one of them another address"
        first, count = without_route(settings, one, members_of(one.name))
        if count:
            others = f" and {count - 1:,} more members" if count > 1 else ""
            text = f"{one.name}: no route takes mail for {first}{others}"
            text += ", so their posts wait in the queue, and then come back"
            yield "list", "warning", f'{text}; [[route]] match = "*", deliver = "mx" or "relay HOST:PORT"'


def _routed(name: str, route: Route, lists: dict[str, tuple[MailingList, int]]) -> Seen:
    written = check_address(route.match[0]).address
    if name not in lists:
        text = f"there is no list {name} yet, so whoever writes to {written} hears 451"
        return "list", "warning", f"{text}; gatepost list create {name} {written}"
    one, count = lists[name]
    if one.address.lower() != written.lower():
        text = f"{name} is {one.address}, but its route takes mail for {written}"
        return "list", "failed", f'{text}; match = "{one.address}"'
    if not one.options.owners:
        return "list", "warning", f"{name} has no owner; gatepost list set {name} owners=ADDRESS"
    return "list", "ok", f"{name}: {one.address}, members {count}, post: {one.options.post}"
