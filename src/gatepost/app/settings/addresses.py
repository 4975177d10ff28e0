"""What can only be judged with all settings on the table: where aliases and domains lead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.root import Settings
from gatepost.app.settings.routes import Route
from gatepost.app.settings.units import shown
from gatepost.app.settings.users import Alias
from gatepost.model import AddressError, Path


def check_addresses(settings: Settings) -> Iterator[Problem]:
    """Aliases and domains lead somewhere, and not in a circle."""
    yield from _wrong_domains(settings)
    if settings.alias:
        well_formed = []
        seen: dict[str, int] = {}
        for at, alias in enumerate(settings.alias):
            problems = [*_wrong_alias(settings, at, alias, seen)]
            yield from problems
            if not problems:
                well_formed.append((at, alias))
        yield from _circles(settings, well_formed)


def _wrong_domains(settings: Settings) -> Iterator[Problem]:
    users = settings.users
    for domain, other in users.domain_aliases.items():
        path: KeyPath = ("users", "domain_aliases", domain)
        if domain == other:
            yield Problem(path, f'"{domain}" stands for itself', mend="remove it")
        elif other in users.domain_aliases:
            further = users.domain_aliases[other]
            what = f'"{other}" stands for another domain itself'
            yield Problem(
                path, what, mend=f'"{domain}" = "{further}"' if further != domain else "remove one of the two"
            )
        elif users.domains and other not in users.domains:
            what = f'"{other}" isn\'t among the domains of users'
            yield Problem(path, what, mend=f"domains = {_listed((*users.domains, other))}")
    for domain in users.catch_all:
        if users.domains and not {domain, users.domain_aliases.get(domain)} & set(users.domains):
            what = f'"{domain}" isn\'t among the domains of users'
            yield Problem(("users", "catch_all", domain), what, mend=f"domains = {_listed((*users.domains, domain))}")


def _wrong_alias(settings: Settings, at: int, alias: Alias, seen: dict[str, int]) -> Iterator[Problem]:
    path: KeyPath = ("alias", at)
    try:
        address = Path.parse(alias.address, bare_postmaster=True)
    except AddressError as error:
        yield Problem(
            (*path, "address"), f"{shown(alias.address)} isn't an address: {error}", mend='"info@example.org"'
        )
        return
    if seen.setdefault(address.address.lower(), at) != at:
        what = f'"{address}" is taken by an earlier [[alias]]'
        yield Problem((*path, "address"), what, mend="put all into its to")
    domains = settings.users.domains
    if (
        domains
        and address.domain
        and not {address.domain, settings.users.domain_aliases.get(address.domain)} & {*domains}
    ):
        what = f'"{address.domain}" isn\'t among the domains of users'
        yield Problem((*path, "address"), what, mend=f"domains = {_listed((*domains, address.domain))}")
    elif address.domain and (route := _route(settings, address)) is None:
        what = f"no route takes mail for {address}"
        yield Problem((*path, "address"), what, mend=f'[[route]] match = "*@{address.domain}" deliver = "maildir"')
    elif address.domain and route is not None and route.handover == "before-reply":
        what = f"mail for {address} is handed over before it could go to others"
        yield Problem((*path, "address"), what, mend='handover = "queue" in its route')
    if not alias.to:
        yield Problem((*path, "to"), f"mail for {address} would go nowhere", mend='to = ["ann@example.org"]')
    for number, text in enumerate(alias.to):
        try:
            target = Path.parse(text)
        except AddressError as error:
            what = f"{shown(text)} isn't an address: {error}"
            yield Problem((*path, "to", number), what, mend='"ann@example.org"')
            continue
        if not target:
            yield Problem((*path, "to", number), "an empty text isn't an address", mend='"ann@example.org"')
        elif _route(settings, target) is None:
            what = f"no route takes mail for {target}"
            mend = f'[[route]] match = "*@{target.domain}" deliver = "mx"'
            yield Problem((*path, "to", number), what, "the alias leads there", mend)


def _circles(settings: Settings, aliases: Sequence[tuple[int, Alias]]) -> Iterator[Problem]:
    from gatepost.app.addresses import rules
    from gatepost.store.addresses import Addresses
    from gatepost.store.users import folded

    bare = settings.model_copy(update={"alias": tuple(alias for _, alias in aliases)})
    users = {folded(address): user.name for user in settings.user for address in (user.name, *user.aliases)}
    # who catches the rest catches nobody who may be in a file or in the registry
    addresses = Addresses(replace(rules(bare), catch_all={}), users.get, folded)
    told: set[str] = set()
    for at, alias in aliases:
        key = folded(Path.parse(alias.address, bare_postmaster=True).address)
        if key not in told and (circle := addresses.circle(key)):
            told.update(circle)
            what = f"aliases lead in a circle: {' → '.join(circle)}"
            yield Problem(("alias", at, "to"), what, mend="take one of them out of the other's to")


def _route(settings: Settings, address: Path) -> Route | None:
    """The first route that could take mail for an address, whoever sends it."""
    return next((route for route in settings.route if any(address.matches(one) for one in route.match)), None)


def _listed(texts: Iterable[str]) -> str:
    """A list of texts as the file writes it."""
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"
