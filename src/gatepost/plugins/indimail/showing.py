"""A call and its answer as C would write them, for the author of the plugin. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def shown_call(function: str, passed: Mapping[str, bytes | None], environment: Mapping[str, str | None]) -> str:
    """`rcpt_func("192.0.2.1", "dave@bobo.example", "ann@example.org", &mesg)`, then a line for each variable."""
    if function == "virusscan":
        call = f'virusscan("{environment.get("GATEPOST_MESSAGE_PATH") or ""}")'
    else:
        call = f"{function}({', '.join(shown_text(value) for value in passed.values())}, &mesg)"
    return "\n".join([call, *(f"{name}={value}" for name, value in environment.items() if value is not None)])


def shown_answer(returned: int, mesg: bytes | None, by: str) -> str:
    """`1, mesg = "530 no\\r\\n", by plugin.so`; `0` where nobody objected."""
    if not returned:
        return "0"
    said = f"{returned}, mesg = {shown_text(mesg)}"
    return f"{said}, by {by}" if by else said


def shown_text(text: bytes | None) -> str:
    """A string of C; NULL for None."""
    if text is None:
        return "NULL"
    shown = "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" for c in text.decode("utf-8", "replace").translate(_ESCAPES)
    )
    return f'"{shown}"'
