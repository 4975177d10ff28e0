"""What `gatepost check` says of TLS to other servers: our own certificates, and whether DANE can work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from gatepost.app.ourselves import resolver
from gatepost.app.protecting import pair
from gatepost.app.settings.dkim import Dkim
from gatepost.app.settings.root import Settings
from gatepost.app.settings.tls import Certificate
from gatepost.model import glob_matches
from gatepost.model.path import parse_domain
from gatepost.net.answers import ResolverError
from gatepost.net.client_contexts import ends_at

_FEW_DAYS = 14
_ANSWER_S = 5.0
_BY_DANE = frozenset({"dane", "dane-only", "published"})

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words for it."""


def look_at_tls(settings: Settings) -> Iterator[Seen]:
    """Everything about TLS to other servers that can be seen from here; asks the name servers once where DANE is on."""
    for certificate in dict.fromkeys(_shown(settings)):
        yield _certificate(certificate)
    if settings.tls.reports.contact is not None:
        yield _reports(settings, settings.tls.reports.contact)
    levels = {route.deliver.tls for route in settings.route if route.deliver.by in {"mx", "relay", "lmtp"}}
    levels |= {policy.tls for policy in settings.tls.policy if policy.tls}
    if levels & _BY_DANE:
        yield asyncio.run(_dane(settings, is_needed="dane-only" in levels))


def _shown(settings: Settings) -> Iterator[Certificate]:
    for one in (settings.tls.client, *(policy.certificate for policy in settings.tls.policy)):
        if one is not None:
            yield one
    for route in settings.route:
        if route.deliver.certificate is not None:
            yield route.deliver.certificate


def _certificate(certificate: Certificate) -> Seen:
    what, files = "client certificate", pair(certificate)
    assert files is not None
    end = ends_at(files)
    days = (end - datetime.now(UTC)).days
    if days < 0:
        return what, "failed", f"{files.chain} ended on {end:%Y-%m-%d}; renew it"
    return what, "warning" if days < _FEW_DAYS else "ok", f"{files.chain}, {days} days left"


def _reports(settings: Settings, contact: str) -> Seen:
    """Reports by mail are to be signed (RFC 8460)."""
    domain = parse_domain(contact.rpartition("@")[2])
    if not any(_signs(table, domain) for table in settings.dkim):
        text = f"no [[dkim]] signs for {domain}, and reports that nobody has signed are ignored"
        return "tls reports", "warning", f'{text}; [[dkim]] with domain = "{domain}"'
    return "tls reports", "ok", f"sent from {contact}, signed"


def _signs(table: Dkim, domain: str) -> bool:
    return parse_domain(table.domain) == domain or any(glob_matches(pattern, domain) for pattern in table.patterns)


async def _dane(settings: Settings, *, is_needed: bool) -> Seen:
    otherwise = "mail waits where tls is dane-only" if is_needed else "mail goes without DANE"
    asking = resolver(settings)
    try:
        if not asking.is_trusted:
            text = "the name servers aren't on this machine, so nobody believes what they say they have validated"
            mend = "run a validating resolver here, or dns.trust_ad = true where the way to them is safe"
            return "dane", "warning", f"{text}, and {otherwise}; {mend}"
        async with asyncio.timeout(_ANSWER_S):
            root = await asking.find(".", "NS")  # signed, so every validating resolver says so
    except (ResolverError, TimeoutError):
        return "dane", "warning", f"the name servers don't answer, and {otherwise}"
    finally:
        await asking.close()
    if not root.is_secure:
        text = f"the name servers don't validate (DNSSEC), and {otherwise}"
        return "dane", "warning", f"{text}; switch it on there, or ask one that does: dns.servers"
    return "dane", "ok", "the name servers validate, and are believed"
