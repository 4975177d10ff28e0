"""Facts made many times a message: what holds them frozen is the type checker, not Python, which takes four times as
long to make a frozen value. What plugins are given stays frozen at run time too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def fact(cls: type[T]) -> type[T]:
    """A slotted dataclass, compared and hashed by its fields, which nobody may change once it is made."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
