"""What a session offers, from its profile and how far it has come; and what it refuses because it doesn't offer it.

The legality table says what may follow what; here is what depends on settings and TLS.
"""

from __future__ import annotations

from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.profile import Profile
from gatepost.wire.pop3.replies import Reply
from gatepost.wire.pop3.states import State, Verb

_LOGINS = frozenset({Verb.USER, Verb.PASS, Verb.APOP, Verb.AUTH})


def capabilities(profile: Profile, state: State, *, tls: bool) -> list[str]:
    """The lines of CAPA after the first (rfc2449#6). What is for the login is told after it too, as the RFC says: so
    what a client has learned stays true. USER and SASL are told where a login is possible."""
    logs_in = tls or profile.auth_without_tls
    offered = ["TOP", "UIDL"]
    if profile.user and logs_in:
        offered.append("USER")
    if profile.auth and logs_in:
        offered.append("SASL " + " ".join(profile.auth))  # rfc5034#3
    if profile.starttls and not tls:
        offered.append("STLS")  # rfc2595#4
    if profile.response_codes:
        offered += ["RESP-CODES", "AUTH-RESP-CODE"]  # rfc2449#6.4, rfc3206#6
    if profile.pipelining:
        offered.append("PIPELINING")  # rfc2449#6.6
    before_login = state is not State.TRANSACTION
    if profile.login_delay:
        varies = " USER" if profile.login_delay_varies and before_login else ""
        offered.append(f"LOGIN-DELAY {profile.login_delay}{varies}")  # rfc2449#6.5
    varies = " USER" if profile.expire_varies and before_login else ""
    offered.append(f"EXPIRE {'NEVER' if profile.expire is None else profile.expire}{varies}")  # rfc2449#6.7
    if profile.utf8:
        offered.append("UTF8 USER")  # rfc6856#2.2
    if profile.languages:
        offered.append("LANG")  # rfc6856#3
    if profile.implementation:
        offered.append(f"IMPLEMENTATION {profile.implementation}")  # rfc2449#6.9
    return offered


def guard(profile: Profile, verb: Verb, *, tls: bool, timestamp: str) -> Reply | None:
    """Why a command the table allows is refused all the same."""
    match verb:
        case Verb.STLS:
            if tls:
                return no.TLS_TWICE
            return None if profile.starttls else no.NOT_OFFERED
        case Verb.USER | Verb.PASS:
            is_offered = profile.user
        case Verb.APOP:
            is_offered = bool(timestamp)
        case Verb.AUTH:
            is_offered = bool(profile.auth)
        case Verb.UTF8:
            is_offered = profile.utf8
        case Verb.LANG:
            is_offered = bool(profile.languages)
        case _:
            return None
    if not is_offered:
        return no.NOT_OFFERED
    if verb in _LOGINS and not (tls or profile.auth_without_tls):
        return no.TLS_FIRST if profile.starttls else no.NEEDS_TLS
    return None


def language(profile: Profile, wanted: str) -> str | None:
    """The tag of the first language that a range means (rfc4647#3.3.1, basic filtering); `*` is the default."""
    if wanted == "*":
        return profile.languages[0][0]
    wanted = wanted.lower()
    for tag, _ in profile.languages:
        if tag.lower() == wanted or tag.lower().startswith(f"{wanted}-"):
            return tag
    return None
