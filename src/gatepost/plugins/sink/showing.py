"""A call of a sink for whoever debugs it: what it was passed, what it returned and changed, in the contract's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from gatepost.plugins.sink import constants
from gatepost.plugins.sink.constants import EXPE_UNHANDLED, NO_RECIPIENT
from gatepost.plugins.sink.states import Context

_SHOWN = 300  # characters of a text that are shown
_FLAGS = {
    getattr(constants, name): name
    for name in (
        *("EXPE_PIPELINED", "EXPE_REPEAT_COMMAND", "EXPE_BLOB_READY", "EXPE_BLOB_DONE"),
        *("EXPE_DROP_SESSION", "EXPE_CHANGE_STATE", "EXPE_TRANSIENT_FAILURE", "EXPE_COMPLETE_FAILURE"),
    )
}
_HRESULTS = {
    getattr(constants, name): name
    for name in (
        *("S_OK", "S_FALSE", "EXPE_S_CONSUMED", "MAILTRANSPORT_S_PENDING", "MAILMSG_E_PROPNOTFOUND", "E_NOTIMPL"),
        *("E_POINTER", "E_ABORT", "E_FAIL", "E_UNEXPECTED", "E_ACCESSDENIED", "E_INVALIDARG"),
    )
}


def shown_hresult(hresult: int) -> str:
    """Its name and number."""
    number = f"0x{hresult:08X}"
    return f"{_HRESULTS[hresult]} ({number})" if hresult in _HRESULTS else number


def shown_status(status: int) -> str:
    """A command status, flag by flag."""
    if status == EXPE_UNHANDLED:
        return "EXPE_UNHANDLED"
    names = [name for flag, name in _FLAGS.items() if status & flag]
    rest = status & ~sum(_FLAGS)
    return " | ".join([*names, *([hex(rest)] if rest else [])]) or "EXPE_SUCCESS"


def shown_fields(context: Context) -> dict[str, str]:
    """A context's fields, as they are now."""
    return {one.name: _shown(one.name, getattr(context, one.name)) for one in fields(context)}


def shown_call(method: str, passed: Mapping[str, str]) -> str:
    """The method, and what of its context says anything."""
    return "\n".join([method, *(f"  {name} = {value}" for name, value in passed.items() if value)])


def shown_return(hresult: int, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The HRESULT, and what was changed."""
    changed = [f"  {name} = {value or '(nothing)'}" for name, value in after.items() if value != before[name]]
    return "\n".join([shown_hresult(hresult), *changed])


def _shown(name: str, value: Any) -> str:
    """As a text; "" for what says nothing."""
    if name.endswith("_status"):
        return "" if value == EXPE_UNHANDLED else shown_status(value)
    if value is None or value is False or value in ("", b"", 0, NO_RECIPIENT):
        return ""
    return repr(value)[:_SHOWN]
