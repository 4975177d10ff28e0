"""Where mail rests: the spool, maildrops, the ledger of facts, the trace of decisions, the users."""

from gatepost.store.draft import Draft
from gatepost.store.errors import ShardBusy, SpoolError, SpoolFailure, SpoolFull, UnknownEntry
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Counts, Deposit, Entry, Fate, RecipientOutcome, Spool, entry_id

__all__ = [
    "Counts",
    "Deposit",
    "Draft",
    "Entry",
    "Fate",
    "RecipientOutcome",
    "ShardBusy",
    "Spool",
    "SpoolError",
    "SpoolFailure",
    "SpoolFull",
    "UnknownEntry",
    "entry_id",
    "memory_spool",
]
