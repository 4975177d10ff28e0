"""What a session offers, from its profile and how far it has come; and what it refuses because it doesn't offer it.

The legality table says what may follow what; here is what depends on settings, TLS and authentication.
"""

from __future__ import annotations

from gatepost.model import Reply
from gatepost.wire.smtp import naming
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp.profile import Profile
from gatepost.wire.smtp.states import Protocol, Verb


def capabilities(profile: Profile, *, tls: bool, authenticated: bool) -> list[str]:
    """The lines of the EHLO reply after the first; an extension is there only if it would be honoured now."""
    offered = ["PIPELINING"] if profile.pipelining else []  # rfc2920
    offered += [f"SIZE {profile.message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]  # rfc1870, rfc6152, rfc2034
    if profile.dsn:
        offered.append("DSN")  # rfc3461
    if profile.requiretls and tls:
        offered.append("REQUIRETLS")  # rfc8689#2
    if profile.smtputf8:
        offered.append("SMTPUTF8")  # rfc6531
    if profile.chunking:
        offered.append("CHUNKING")  # rfc3030
        if profile.binarymime:
            offered.append("BINARYMIME")
    offered.append(f"LIMITS RCPTMAX={profile.recipients} MAILMAX={profile.transactions}")  # rfc9422
    if profile.prdr and profile.protocol is not Protocol.LMTP:
        offered.append("PRDR")
    if profile.starttls and not tls:
        offered.append("STARTTLS")
    if profile.auth and not authenticated and (tls or profile.auth_without_tls):
        offered.append("AUTH " + " ".join(profile.auth))
    if profile.xclient:
        offered.append("XCLIENT " + " ".join(naming.CLIENT))
    if profile.xforward:
        offered.append("XFORWARD " + " ".join(naming.FORWARDED))
    return offered


def guard(profile: Profile, verb: Verb, *, extended: bool, tls: bool, authenticated: bool) -> Reply | None:
    """Why a command the table allows is refused all the same."""
    match verb:
        case Verb.MAIL:
            if profile.require_tls and not tls:
                return no.TLS_FIRST
            return no.AUTH_FIRST if profile.require_auth and not authenticated else None
        case Verb.STARTTLS:
            if tls:
                return no.TLS_TWICE
            return _extension(offered=profile.starttls, extended=extended)
        case Verb.AUTH:
            if refusal := _extension(offered=bool(profile.auth), extended=extended):
                return refusal
            if authenticated:
                return no.AUTH_TWICE
            if tls:
                return None
            if profile.require_tls:
                return no.TLS_FIRST
            return None if profile.auth_without_tls else no.AUTH_NEEDS_TLS
        case Verb.BDAT:
            return _extension(offered=profile.chunking, extended=extended)
        case Verb.XCLIENT:
            return None if profile.xclient else no.NOT_TRUSTED
        case Verb.XFORWARD:
            return None if profile.xforward else no.NOT_TRUSTED
        case _:
            return None


def _extension(*, offered: bool, extended: bool) -> Reply | None:
    if not offered:
        return no.NOT_OFFERED
    return None if extended else no.HELLO_FIRST
