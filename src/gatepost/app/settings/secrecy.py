"""Which keys hold secrets, so that no report, listing or page shows what somebody else mustn't read."""

from __future__ import annotations

from difflib import get_close_matches

from gatepost.app.settings.problems import KeyPath

HIDDEN = "…"
_SECRET_KEYS = {"password", "scram", "secret", "secrets", "proxy"}
_ALIKE = 0.8  # of names, in difflib's measure
_SECRET_PROPERTIES = ("password", "passwd", "secret", "token", "credential")


def is_secret(path: KeyPath) -> bool:
    """Whether the value at `path` is a secret: a secret key of ours, or a plugin's property or variable named like
    one."""
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if name in _SECRET_KEYS:
        return True
    word = name.lower()
    return ("properties" in path or "env" in path) and (
        word.endswith("key") or any(secret in word for secret in _SECRET_PROPERTIES)
    )


def may_be_secret(path: KeyPath) -> bool:
    """Whether the value at `path` is a secret, or would be if its key weren't misspelt."""
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    return is_secret(path) or bool(get_close_matches(name.lower(), _SECRET_KEYS, 1, _ALIKE))


def refers_elsewhere(text: str) -> bool:
    """Whether a secret's text only says where the secret is: `env:NAME` or `@file`."""
    return text.startswith(("env:", "@"))
