"""What can only be judged with all settings on the table: names, promises, relaying, TLS, sizes that contradict.

Each check is a function from Settings to problems; the loader runs all of them and finds the places.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import IPv4Network
from pathlib import Path as File

from gatepost.app.settings.addresses import check_addresses
from gatepost.app.settings.bindings import check_instances
from gatepost.app.settings.collect import check_collect
from gatepost.app.settings.dkim import check_dkim
from gatepost.app.settings.plugins import Asked
from gatepost.app.settings.pop3 import check_pop3
from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.root import Settings
from gatepost.app.settings.tls import Certificate
from gatepost.app.settings.units import Network, is_ip, show_duration, show_size
from gatepost.app.settings.user_files import check_secret, check_user_files
from gatepost.hooks.rules import RuleError, parse_rule, parse_when
from gatepost.hooks.stages import BY_OTHER_NAMES, STAGES
from gatepost.model import AddressError, Path
from gatepost.model.path import parse_domain

LMTP_FORBIDDEN_PORT = 25
_WIDEST_V4, _WIDEST_V6 = 8, 16  # a wider network in `for` is the world, not a neighbourhood

_THEIR_NAMES = {
    "dataend": "MailEnable's DATAEND",
    "mailfrom": "MailEnable's MAILFROM",
    "rcptto": "MailEnable's RCPTTO",
    "oninboundcommand": "the event sinks' OnInboundCommand",
    "onsmtpinboundcommand": "the event sinks' OnSmtpInboundCommand",
    "onarrival": "the event sinks' OnArrival",
    "actionpoplogin": "the host program's ACTION_POP_LOGIN",
    "actionpopgetmsg": "the host program's ACTION_POP_GETMSG",
    "actionpopdelmsg": "the host program's ACTION_POP_DELMSG",
    "envfrom": "milter's envfrom",
    "envrcpt": "milter's envrcpt",
    "eoh": "milter's eoh",
    "eom": "milter's eom",
}


def check_names(settings: Settings) -> Iterator[Problem]:
    """Names are used once; so are addresses."""
    for section, key in (("listen", "name"), ("listen", "address"), ("plugin", "name"), ("user", "name")):
        seen: set[str] = set()
        for at, table in enumerate(getattr(settings, section)):
            name = str(getattr(table, key)).lower()
            if name in seen and not (key == "address" and name.endswith(":0")):
                yield Problem(
                    (section, at, key), f'{key} "{name}" is taken by an earlier [[{section}]]', mend="give another"
                )
            seen.add(name)
    try:
        parse_domain(settings.hostname)
    except AddressError as error:
        yield Problem(("hostname",), f'hostname "{settings.hostname}": {error}', mend='hostname = "mx.example.org"')


def check_stages(settings: Settings) -> Iterator[Problem]:
    """Stages are those there are; other servers' names are known."""
    for at, plugin in enumerate(settings.plugin):
        yield from _unknown_stages(plugin.stages, ("plugin", at))
        for number, binding in enumerate(plugin.binding):
            yield from _unknown_stages(binding.stages, ("plugin", at, "binding", number))


def _unknown_stages(stages: tuple[str, ...] | None, path: KeyPath) -> Iterator[Problem]:
    for at, stage in enumerate(stages or ()):
        if stage in STAGES:
            continue
        word = stage.lower().replace("_", "").replace("-", "")
        ours = BY_OTHER_NAMES.get(word) or next(iter(get_close_matches(word, STAGES, 1)), "")
        theirs = _THEIR_NAMES.get(word, "it" if word in BY_OTHER_NAMES else "")
        note = f'{theirs} is called "{ours}" here' if theirs else f'did you mean "{ours}"?' if ours else ""
        mended = [ours if other == stage else other for other in stages or ()] if ours else list(STAGES)
        see = "all stages: gatepost plugin list --stages" if ours else ""
        mend = "stages = [" + ", ".join(f'"{name}"' for name in mended) + "]"
        yield Problem((*path, "stages", at), f'there is no stage "{stage}"', note, mend, see)


def check_plugins(settings: Settings) -> Iterator[Problem]:
    """Files exist, conditions name listeners that exist."""
    listeners = [listener.name for listener in settings.listen]
    for at, plugin in enumerate(settings.plugin):
        file, is_native = plugin.file, plugin.dialect != "python"
        if plugin.enabled and file and not (file.exists() if plugin.dialect == "indimail" else file.is_file()):
            mend = "name a file that is there" if is_native else 'source = "plugins/mine.py"'
            yield Problem(("plugin", at, "source"), f'there is no file "{file}"', mend=mend)
        places: list[tuple[KeyPath, object]] = [(("plugin", at, "when"), (plugin.when or {}).get("listener"))]
        for number, binding in enumerate(plugin.binding):
            places.append((("plugin", at, "binding", number, "when"), (binding.when or {}).get("listener")))
        for path, named in places:
            for name in [named] if isinstance(named, str) else named if isinstance(named, list) else []:
                if listeners and name not in listeners:
                    mend = f'listener = "{next(iter(get_close_matches(str(name), listeners, 1)), listeners[0])}"'
                    note = "there are " + ", ".join(listeners)
                    yield Problem((*path, "listener"), f'there is no listener "{name}"', note, mend)


def check_rules(settings: Settings) -> Iterator[Problem]:
    """Rules and conditions can be read."""
    for at, plugin in enumerate(settings.plugin):
        bindings: list[tuple[KeyPath, Asked]] = [(("plugin", at), plugin)]
        bindings += [(("plugin", at, "binding", number), binding) for number, binding in enumerate(plugin.binding)]
        for path, asked in bindings:
            try:
                parse_rule(asked.rule or "")
            except RuleError as error:
                what, _, mend = str(error).partition("; ")
                yield Problem((*path, "rule"), what, mend=mend, offset=error.position)
            try:
                parse_when(asked.when or {})
            except RuleError as error:
                what, _, mend = str(error).partition("; ")
                key = next((key for key in asked.when or {} if f'"{key}"' in what or f"when.{key}" in what), "")
                yield Problem((*path, "when", key) if key else (*path, "when"), what, mend=mend)


def check_promises(settings: Settings) -> Iterator[Problem]:
    """What `never` excludes isn't possible by any setting."""
    if "quarantine" in settings.never:
        for at, plugin in enumerate(settings.plugin):
            places: list[tuple[KeyPath, str | None]] = [(("plugin", at), plugin.on_failure)]
            places += [(("plugin", at, "binding", n), binding.on_failure) for n, binding in enumerate(plugin.binding)]
            for path, on_failure in places:
                if on_failure == "quarantine":
                    note = 'never = ["quarantine"] promises that nothing is'
                    yield Problem((*path, "on_failure"), "a failure could quarantine", note, 'on_failure = "tempfail"')
        if settings.smtp.recipients_disagree == "hold-others":
            note = 'never = ["quarantine"] promises that nothing is'
            mend = 'recipients_disagree = "one-policy"'
            yield Problem(("smtp", "recipients_disagree"), "mail for other recipients could be held", note, mend)
    if "discard" in settings.never:
        for at, route in enumerate(settings.route):
            if route.deliver.by == "discard":
                note = 'never = ["discard"] promises that nothing is'
                yield Problem(
                    ("route", at, "deliver"), "the route discards mail", note, "remove the route, or the promise"
                )


def check_relaying(settings: Settings) -> Iterator[Problem]:
    """No setting makes an open relay."""
    for at, route in enumerate(settings.route):
        if route.deliver.by not in {"relay", "lmtp", "mx"}:
            continue
        if route.for_whom == "anyone":
            for number, pattern in enumerate(route.match):
                if route.model_copy(update={"match": (pattern,)}).matches_every_domain:
                    what = f'an open relay: anyone could send to "{pattern}" through "{route.deliver}"'
                    path: KeyPath = ("route", at, "match", number)
                    mend = 'match = "*@your.domain", or for = "authenticated", or for = ["your network"]'
                    yield Problem(path, what, "it isn't a domain of yours", mend)
        elif not isinstance(route.for_whom, str) and route.matches_every_domain:
            for number, network in enumerate(route.for_whom):
                if _is_the_world(network):
                    what = f'an open relay: the network {network} in for is "anyone"'
                    yield Problem(("route", at, "for", number), what, mend='for = ["192.0.2.0/24"], your own networks')


def _is_the_world(network: Network) -> bool:
    widest = _WIDEST_V4 if isinstance(network, IPv4Network) else _WIDEST_V6
    return network.prefixlen < widest


def check_routes(settings: Settings) -> Iterator[Problem]:
    """Each route's keys go together, and its patterns mean what they seem to."""
    for at, route in enumerate(settings.route):
        path: KeyPath = ("route", at)
        connects = route.deliver.by in {"relay", "lmtp"}
        bare = [number for number, pattern in enumerate(route.match) if "@" not in pattern and "." in pattern]
        for number in bare:
            pattern = route.match[number]
            what = f'"{pattern}" matches a local part, not a domain'
            yield Problem((*path, "match", number), what, mend=f'match = "*@{pattern.removeprefix("*.")}"')
        if route.handover == "before-reply" and not connects:
            what = f'"{route.deliver.by}" has no next server that mail could be handed to'
            yield Problem((*path, "handover"), what, mend='handover = "queue"')
        if route.recipients == "ask" and not connects:
            what = f'"{route.deliver.by}" has no next server to ask for recipients'
            yield Problem((*path, "recipients"), what, mend='recipients = "users"')
        if isinstance(route.recipients, File) and not route.recipients.is_file():
            what = f'there is no file "{route.recipients}"'
            yield Problem((*path, "recipients"), what, mend='recipients = "file:recipients.txt", one address a line')
        if settings.file and route.recipients == "any" and route.deliver.by == "maildir" and not bare:
            what = "strangers could make Maildirs without end"
            yield Problem((*path, "recipients"), what, mend='recipients = "users"', see="gatepost user add NAME")


def check_users(settings: Settings) -> Iterator[Problem]:
    """Names are addresses, one owner each; passwords are hashes."""
    owners: dict[str, str] = {}
    for at, user in enumerate(settings.user):
        names: list[tuple[KeyPath, str]] = [(("user", at, "name"), user.name)]
        names += [(("user", at, "aliases", number), alias) for number, alias in enumerate(user.aliases)]
        for path, name in names:
            try:
                address = Path.parse(name).address.lower()
            except AddressError as error:
                yield Problem(
                    path, f'"{name}" isn\'t an address: {error}', mend=f'"{name.partition("@")[0]}@example.org"'
                )
                continue
            if (owner := owners.setdefault(address, user.name)) != user.name:
                yield Problem(path, f'"{name}" belongs to {owner} already', mend="remove it from one of the two")
        yield from check_secret(user, ("user", at))


def check_listeners(settings: Settings) -> Iterator[Problem]:
    """Every listener can do what it promises."""
    for at, listener in enumerate(settings.listen):
        path: KeyPath = ("listen", at)
        if not is_ip(listener.address.host) and listener.address.host != "localhost":
            what = f'"{listener.address.host}" isn\'t an IP address'
            yield Problem((*path, "address"), what, mend=f'address = "0.0.0.0:{listener.address.port}", all of IPv4')
        if listener.tls != "none" and not settings.tls.certificate:
            what = f'tls = "{listener.tls}" needs a certificate'
            yield Problem((*path, "tls"), what, mend="[[tls.certificate]] with chain and key")
        if listener.auth != "off" and listener.tls == "none" and not listener.auth_without_tls:
            offered = "logins are" if listener.protocol == "pop3" else "AUTH is"
            what = f"{offered} offered over TLS only, and this listener has none, so nobody could authenticate"
            yield Problem((*path, "auth"), what, mend='tls = "starttls", or auth_without_tls = true')
        if listener.protocol == "submission" and listener.auth != "required":
            what = "submission requires authentication"  # rfc6409#4.3
            yield Problem((*path, "auth"), what, mend='auth = "required", or protocol = "smtp"')
        if listener.protocol == "lmtp" and listener.address.port == LMTP_FORBIDDEN_PORT:
            yield Problem((*path, "address"), "LMTP isn't spoken on port 25", mend="port 24")  # rfc2033#5


def check_certificates(settings: Settings) -> Iterator[Problem]:
    """Every chain and key can be read and belong together."""
    shown = [*_certificates(settings)]
    if not shown:
        return
    from gatepost.net.certificates import (
        CertificateError,
        Certificates,
        Pair,
    )
    from gatepost.net.client_contexts import check_pair

    for path, certificate in shown:
        missing = [key for key in ("chain", "key") if not getattr(certificate, key).is_file()]
        for key in missing:
            what = f'there is no file "{getattr(certificate, key)}"'
            yield Problem((*path, key), what, mend=f"{key} = a PEM file that the server may read")
        if missing:
            continue
        closed = [key for key in ("chain", "key") if not os.access(getattr(certificate, key), os.R_OK)]
        for key in closed:
            what = f"{getattr(certificate, key)} can't be read by this user"
            yield Problem(
                (*path, key), what, mend="let the user's group read it, or ask as the server's user or as root"
            )
        if closed:
            continue
        try:
            if path[:2] == ("tls", "certificate"):
                Certificates([Pair(certificate.chain, certificate.key)])
            else:
                check_pair(Pair(certificate.chain, certificate.key))
        except CertificateError as error:
            what, _, mend = str(error).partition("; ")
            yield Problem((*path, "key" if mend else "chain"), what, mend=mend or "chain and key are PEM files")


def _certificates(settings: Settings) -> Iterator[tuple[KeyPath, Certificate]]:
    """Those of listeners, and those shown to other servers."""
    for at, certificate in enumerate(settings.tls.certificate):
        yield ("tls", "certificate", at), certificate
    if settings.tls.client is not None:
        yield ("tls", "client"), settings.tls.client
    for at, policy in enumerate(settings.tls.policy):
        if policy.certificate is not None:
            yield ("tls", "policy", at, "certificate"), policy.certificate
    for at, route in enumerate(settings.route):
        if route.deliver.certificate is not None:
            yield ("route", at, "deliver", "certificate"), route.deliver.certificate


def check_sizes(settings: Settings) -> Iterator[Problem]:
    """Sizes and times don't contradict one another."""
    limits, delivery = settings.limits, settings.delivery
    if limits.header_size > limits.message_size:
        what = f"header_size can't be more than message_size, {show_size(limits.message_size)}"
        yield Problem(("limits", "header_size"), what, mend=f'header_size = "{show_size(limits.message_size)}"')
    if limits.text_line > limits.message_size:
        what = f"text_line can't be more than message_size, {show_size(limits.message_size)}"
        yield Problem(("limits", "text_line"), what, mend='text_line = "8KiB"')
    if limits.question_budget > limits.message_budget:
        what = f"question_budget can't be more than message_budget, {show_duration(limits.message_budget)}"
        yield Problem(("limits", "question_budget"), what, mend='question_budget = "30s"')
    for shorter, longer in (("first", "max"), ("max", "expire")):
        if getattr(delivery, shorter) > (bound := getattr(delivery, longer)):
            what = f"{shorter} can't be more than {longer}, {show_duration(bound)}"
            yield Problem(("delivery", shorter), what, mend=f'{shorter} = "{show_duration(bound)}"')


HOUSE_CHECKS = (
    check_names,
    check_stages,
    check_plugins,
    check_rules,
    check_instances,
    check_promises,
    check_relaying,
    check_routes,
    check_users,
    check_addresses,
    check_listeners,
    check_certificates,
    check_sizes,
    check_dkim,
    check_pop3,
    check_user_files,
    check_collect,
)
