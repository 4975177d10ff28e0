"""How POP3 is spoken: the section, and what its listeners can't be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import Duration, Switch

if TYPE_CHECKING:
    from gatepost.app.settings.root import Settings


class Pop3(Section):
    """How the POP3 listeners speak."""

    inactivity: Duration = Field(
        default=600.0,
        gt=0,
        description="How long the next command may take; then the session ends and nothing is deleted. RFC 1939 wants "
        "at least 10 minutes.",
    )  # rfc1939#3
    failure_delay: Duration = Field(
        default=2.0,
        ge=0,
        le=30,
        description="How long the reply to a failed login waits; at the second of a session twice as long, and so on.",
    )
    login_delay: Duration = Field(
        default=0.0,
        ge=0,
        description="The least time between two logins of a user, told by LOGIN-DELAY in whole seconds; 0 is none.",
    )  # rfc2449#6.5
    apop: Switch = Field(
        default=False,
        description="Offer APOP, whose timestamp stands in the greeting; it only works for users whose password is "
        "kept in the clear: `{PLAIN}` in a file, or `gatepost user passwd --keep-plain`.",
    )  # rfc1939#7


def check_pop3(settings: Settings) -> Iterator[Problem]:
    """POP3 listeners have maildrops to show, and none of what is SMTP's."""
    for at, listener in enumerate(settings.listen):
        if listener.protocol != "pop3":
            continue
        path: KeyPath = ("listen", at)
        if settings.data is None and settings.sends_on:
            what = "POP3 shows maildrops, and without data there are none where mail is sent on"
            yield Problem((*path, "protocol"), what, mend='data = "gatepost-data"')
        if listener.auth != "required":
            what = f'auth = "{listener.auth}" can\'t be said of POP3, where everybody logs in'
            yield Problem((*path, "auth"), what, mend='auth = "required", or leave it out')
        for key in ("xclient", "xforward"):
            if getattr(listener, key):
                yield Problem((*path, key), f"{key} is SMTP's", mend="proxy_protocol names clients here too")
