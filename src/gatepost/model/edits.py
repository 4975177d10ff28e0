"""What a plugin may change about a message, as values: recorded beside the verdict, applied by the house.

An edit names what it changes by what the editing plugin saw. Whether it may be applied at all (its plugin's answer
counted, its stage allows it) is decided in `hooks`; how it changes the octets, in `content`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatepost.model.blob import Blob
from gatepost.model.envelope import Recipient
from gatepost.model.path import Path

MAX_NAME = 76  # characters of a header field's name: leaves room for ": " within a line of 78
_NAME = re.compile(r"[!-9;-~]+")  # rfc5322#3.6.8 ftext


def check_name(name: str) -> None:
    """Raises ValueError unless `name` can be a header field's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} can't be a header name: it takes printable ASCII without blanks and colons")
    if len(name) > MAX_NAME:
        raise ValueError(f"the header name {name[:20]!r}… has {len(name)} characters; {MAX_NAME} are the most")


@dataclass(frozen=True, slots=True)
class AddHeader:
    """A new header field before the field at index `at` of the message as the editor saw it; at the end for None."""

    name: str
    value: str
    at: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """A new value for the `occurrence`-th field (0 first) of that name; added at the end if there is none."""

    name: str
    value: str
    occurrence: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class DeleteHeader:
    """The `occurrence`-th field of that name goes; all of them for None. Nothing happens if there is none."""

    name: str
    occurrence: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Everything after the header section's empty line."""

    body: Blob


@dataclass(frozen=True, slots=True)
class ReplaceMessage:
    """The whole content, header section and body, octet for octet; `changes` tells a person what is different."""

    content: Blob
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplacePart:
    """The decoded content of one MIME leaf, by its position in the depth-first order of leaves (0 first)."""

    index: int
    content: bytes


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """One more recipient."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """One recipient less."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Another reverse-path."""

    sender: Path


@dataclass(frozen=True, slots=True)
class Split:
    """These recipients get the message with edits of their own; groups of one message don't overlap."""

    recipients: tuple[Recipient, ...]
    edits: tuple[ContentEdit, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """A text that is kept with the message from now on, under a name; nobody it is sent to sees it."""

    name: str
    text: str


HeaderEdit = AddHeader | ChangeHeader | DeleteHeader
ContentEdit = HeaderEdit | ReplaceBody | ReplaceMessage | ReplacePart
Edit = ContentEdit | AddRecipient | RemoveRecipient | ChangeSender | Split | Keep
