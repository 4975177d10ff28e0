"""An SMTP reply as a value.

A reply is a code, an enhanced status (RFC 3463) or none, and one or more lines of text. It is never bytes: `wire`
writes it, and is the only place that does. Text is free here; whoever takes text from a plugin or a peer passes it
through `hooks.replies` first, and `wire` drops what could still break a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    """Code, enhanced status and text. Invariant: 200 ≤ code ≤ 599, and status, if any, begins with the code's class.

    `text` holds several lines when it contains newlines; `status` is "" where RFC 2034 §4 wants none (greeting, EHLO,
    3xx).
    """

    code: int
    status: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        if (wrong := _complaint(self.code, self.status)) is not None:
            raise ValueError(wrong)

    @property
    def is_positive(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def is_permanent(self) -> bool:
        """5xx."""
        return self.code >= 500

    @property
    def lines(self) -> list[str]:
        """The text's lines; at least one."""
        return self.text.split("\n")

    def with_text(self, text: str) -> Reply:
        """The same code and status with another text."""
        return Reply(self.code, self.status, text)

    def __str__(self) -> str:
        if self.status and self.text:
            return f"{self.code} {self.status} {self.text}"
        return " ".join(filter(None, (str(self.code), self.status, self.text)))


@lru_cache(maxsize=512)  # every reply asks, and few pairs are in use
def _complaint(code: int, status: str) -> str | None:
    if not 200 <= code <= 599:  # rfc5321#4.2.1
        return f"a reply code is between 200 and 599, not {code}"
    if status and (status[0] != str(code)[0] or not _is_status(status)):
        return f"enhanced status {status!r} doesn't fit reply code {code}"
    return None


def _is_status(status: str) -> bool:
    """class "." subject "." detail, each detail up to three digits (RFC 3463 §2)."""
    parts = status.split(".")
    return (
        len(parts) == 3
        and parts[0] in {"2", "4", "5"}
        and all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts[1:])
    )
