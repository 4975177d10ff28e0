"""Return paths as the settings want them, twice: as delivery makes them, and as reception reads them."""

from __future__ import annotations

from collections.abc import Callable

from gatepost.app.gates import delivery_routes
from gatepost.app.settings.root import Settings
from gatepost.app.settings.routes import Route
from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.delivery.notice import Manner
from gatepost.delivery.return_paths import ReturnPaths
from gatepost.delivery.route import ToList
from gatepost.model import Path
from gatepost.model.path import parse_domain
from gatepost.serving.returning import Returning


def own_domains(settings: Settings) -> frozenset[str]:
    """The domains whose senders are ours, and hear of failures. Where mail only leaves to, is somebody else's: what
    goes by MX, and relays that aren't for anyone."""
    routes = [route for route in settings.route if _is_into_the_house(route)]
    return frozenset(domain for route in routes for match in route.match if (domain := _own_domain(match)))


def _is_into_the_house(route: Route) -> bool:
    return route.deliver.by != "mx" and (route.deliver.by != "relay" or route.for_whom == "anyone")


def _own_domain(match: str) -> str:
    """The domain a pattern is about, if it is one; a sender of it is one of ours."""
    domain = match.rpartition("@")[2]
    return "" if "*" in domain else domain.lower()


def manner(settings: Settings) -> Manner:
    """How senders are told, and the return paths of what leaves."""
    delivery, srs, batv = settings.delivery, _srs(settings), _batv(settings)
    paths: ReturnPaths | None = None
    if srs is not None or batv is not None:
        own = own_domains(settings)
        paths = ReturnPaths(lambda path: path.domain in own, srs, settings.srs.relayed, batv, _signs(settings))
    return Manner(warn_s=delivery.warn, returned_max=delivery.returned, return_paths=paths)


def returning(settings: Settings, now: Callable[[], float]) -> Returning | None:
    """What reception knows of return paths; None where none are made. `now` gives Unix time in seconds."""
    srs, batv = _srs(settings), _batv(settings)
    if srs is None and batv is None:
        return None
    return Returning(now, srs, batv, _signs(settings), settings.batv.refuse_unsigned)


def _srs(settings: Settings) -> Srs | None:
    srs = settings.srs
    if not srs.secret:
        return None
    secrets = tuple(secret.reveal().encode() for secret in srs.secret)
    return Srs(parse_domain(srs.domain or settings.hostname), secrets, srs.days)


def _batv(settings: Settings) -> Batv | None:
    batv = settings.batv
    return Batv(tuple(secret.reveal().encode() for secret in batv.secret), batv.days) if batv.secret else None


def _signs(settings: Settings) -> Callable[[Path], bool]:
    domains = frozenset(map(parse_domain, settings.batv.domains)) or own_domains(settings)
    if not settings.has_lists:
        return lambda path: path.domain in domains
    routes = delivery_routes(settings)

    def signs(path: Path) -> bool:
        """The return paths of lists carry a signature of their own."""
        if path.domain not in domains:
            return False
        route = routes.find(path)
        return route is None or not isinstance(route.action, ToList)

    return signs
