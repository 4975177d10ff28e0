"""Texts that plugins keep with a message: how they stand among its facts in the spool."""

from __future__ import annotations

import json
from collections.abc import Mapping

FACT = "kept"
"""The key of the fact."""
MOST = 64 * 1024
"""Characters that are kept with a message, names and texts together."""


def size_of(kept: Mapping[str, str]) -> int:
    """Characters of names and texts together."""
    return sum(len(name) + len(text) for name, text in kept.items())


def kept_fact(kept: Mapping[str, str]) -> str:
    """The texts as one."""
    return json.dumps(dict(kept), ensure_ascii=False, separators=(",", ":"))


def read_kept(fact: str | None) -> dict[str, str]:
    """The texts; none of a fact that isn't there, or can't be read."""
    if not fact:
        return {}
    try:
        found = json.loads(fact)
    except ValueError:
        return {}
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}
