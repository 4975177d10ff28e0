"""What `gatepost check` sees of mailing lists: routes that lead to a list, lists that nobody leads to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gatepost.app.settings.root import Settings
from gatepost.app.settings.routes import Route
from gatepost.store.lists_facts import ListError, MailingList, check_address

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words for it."""


def look_at_lists(settings: Settings) -> Iterator[Seen]:
    """Each list once, by a route or by itself. Nothing is made: what isn't there yet is told."""
    routes = {route.deliver.name or "": route for route in settings.route if route.deliver.by == "list"}
    file = None if settings.data is None else settings.data / "lists.db"
    lists: dict[str, tuple[MailingList, int]] = {}
    if file is not None and file.exists():
        from gatepost.store.lists_database import ListDatabase  # noqa: PLC0415  whoever has no lists doesn't wait

        try:
            database = ListDatabase(file)
            try:
                lists = {one.name: (one, database.count(one.name)) for one in database.all()}
            finally:
                database.close()
        except ListError as error:
            yield "list", "failed", str(error)
            return
    for name, route in routes.items():
        yield _routed(name, route, lists)
    for name, (one, _) in lists.items():
        if name not in routes:
            mend = f'match = "{one.address}", deliver = "list {name}"'
            yield "list", "warning", f"{name} has no route, so nobody can write to it; [[route]] {mend}"


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
