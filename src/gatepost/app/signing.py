"""The domains of the settings that sign, with their keys read: the built-in plugin `dkim`, ready to be bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatepost.app.settings.dkim import Dkim, DkimKey
from gatepost.app.settings.routes import Route
from gatepost.checks import dkim
from gatepost.content.dkim import OVERSIGNED, SIGNED, SigningKey, Style
from gatepost.content.dkim_canonical import Canonical
from gatepost.content.dkim_keys import KeyProblem, load_key
from gatepost.hooks.stages import OutMessage
from gatepost.model import Path
from gatepost.model.path import parse_domain
from gatepost.plugins.loaded import Loaded, PluginError, Wish, bind_stages

NAME = "dkim"


def load_signing(tables: Sequence[Dkim], routes: Sequence[Route] = ()) -> Loaded:
    """The plugin that signs for these domains. PluginError where a key can't be read (any more)."""

    def is_open(recipient: Path) -> bool:
        for route in routes:
            if any(map(recipient.matches, route.match)):
                if route.for_whom == "anyone":
                    return True
                if not route.senders:  # others take the next route
                    return False
        return False

    plugin = dkim.Dkim([_signer(table) for table in tables], is_open)
    loaded = Loaded(NAME, "[[dkim]]")
    hooks: dict[Any, Any] = {OutMessage: plugin.sign}
    bind_stages(loaded, hooks, [Wish(priority=dkim.PRIORITY)])
    return loaded


def _signer(table: Dkim) -> dkim.Signer:
    header, _, body = table.canonical.partition("/")
    style = Style(
        Canonical(header),
        Canonical(body),
        signed=table.headers or SIGNED,
        oversigned=table.oversign or OVERSIGNED,
        expires_s=int(table.expire),
    )
    domain = parse_domain(table.domain)
    return dkim.Signer(domain, table.patterns, tuple(_timed(domain, key) for key in table.key), style, table.strangers)


def _timed(domain: str, key: DkimKey) -> dkim.TimedKey:
    try:
        private = load_key(key.file.read_bytes())
    except OSError as error:
        raise PluginError(f'the key "{key.file}" can\'t be read: {(error.strerror or "").lower()}') from error
    except KeyProblem as error:
        raise PluginError(f"{key.file}: {error}") from error
    return dkim.TimedKey(
        SigningKey(domain, key.selector, private),
        None if key.begins is None else key.begins.timestamp(),
        None if key.until is None else key.until.timestamp(),
    )
