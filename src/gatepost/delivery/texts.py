"""The texts that plugins keep with a message, of an entry in the spool: among its facts from its commit on; in its
notes, once they were changed after the 250.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatepost.model.kept import FACT, kept_fact, read_kept
from gatepost.store import Entry


def texts_of(entry: Entry) -> dict[str, str]:
    """What is kept now."""
    return read_kept(_fact(entry))


def facts_of(entry: Entry) -> Mapping[str, str]:
    """The facts of a new entry that is made of this one."""
    fact = _fact(entry)
    return entry.facts if fact is None else {**entry.facts, FACT: fact}


def changed(entry: Entry, texts: Mapping[str, str]) -> Mapping[str, str]:
    """A note, or a fact, that says what is kept from now on; empty where that is what was kept before."""
    return {} if texts == texts_of(entry) else {FACT: kept_fact(texts)}


def _fact(entry: Entry) -> str | None:
    return entry.notes.get(FACT, entry.facts.get(FACT))
