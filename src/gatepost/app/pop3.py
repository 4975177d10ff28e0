"""A POP3 listener's place: settings turned into what its sessions need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from gatepost.app.generation import NOBODY_IN_THE_CLEAR, Surroundings, mechanisms, nonce
from gatepost.app.settings.root import Listener, Settings
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.notices import Notice
from gatepost.hooks.stages import PopLogin
from gatepost.serving.failed_logins import FailedLogins
from gatepost.serving.place import Timeouts
from gatepost.serving.pop3_place import PopPlace
from gatepost.serving.proxied import ProxyDoor
from gatepost.wire.pop3.profile import Profile

log = logging.getLogger("gatepost")


def pop_place(
    settings: Settings,
    listener: Listener,
    dispatcher: Dispatcher,
    around: Surroundings,
    notices: Mapping[type[Notice], Sequence[Callable[[Any], Any]]],
    failures: FailedLogins | None,
) -> PopPlace:
    """The place of a listener whose protocol is pop3."""
    limits, pop3 = settings.limits, settings.pop3
    certificate = around.certificate
    decides = PopLogin in dispatcher.chains
    can_apop = not decides and getattr(around.users, "can_prove", False)
    if settings.pop3.apop and not can_apop:
        log.warning("APOP isn't offered: %s", NOBODY_IN_THE_CLEAR)
    if around.mailboxes is None:
        raise RuntimeError("a POP3 listener needs mailboxes")
    return PopPlace(
        listener=listener.name,
        hostname=settings.hostname,
        profile=pop_profile(settings, listener, mechanisms(settings, around, decides), can_apop=can_apop),
        dispatcher=dispatcher,
        mailboxes=around.mailboxes,
        tokens=around.tokens,
        clock=around.clock,
        patience=around.patience,
        recorder=around.recorder,
        counter=around.counter,
        timeouts=Timeouts(command=pop3.inactivity, handshake=limits.tls_timeout, flush=limits.reply_timeout),
        users=around.users,
        door=ProxyDoor(listener.name, listener.proxy_protocol, within_s=limits.proxy_timeout)
        if listener.proxy_protocol
        else None,
        tls=None if certificate is None or listener.tls == "none" else lambda: certificate(listener.name),
        lookup=around.lookup,
        nonce=nonce,
        failed_logins=failures,
        notices=notices,
        facts=around.facts,
        failure_delay_s=pop3.failure_delay,
        verbatim=settings.smtp.verbatim,
    )


def pop_profile(settings: Settings, listener: Listener, offered: tuple[str, ...], *, can_apop: bool = False) -> Profile:
    """What the machine has to know of the settings. `offered` are the mechanisms that every user source can answer,
    `can_apop` whether some user has a password in the clear."""
    limits = settings.limits
    return Profile(
        errors=limits.errors,
        commands=limits.junk_commands,
        auth_attempts=limits.auth_attempts,
        starttls=listener.tls == "starttls",
        auth=offered,
        auth_without_tls=listener.auth_without_tls,
        apop=settings.pop3.apop and can_apop,
        login_delay=ceil(settings.pop3.login_delay),
    )
