"""How things are written for people and other programs: addresses with ports, texts that somebody else chose."""

from __future__ import annotations


def host_and_port(host: str, port: int) -> str:
    """Both as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable(text: str) -> str:
    """Nothing that a terminal would obey, no line end either; U+FFFD stands in its place (attacks I2, I9)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
