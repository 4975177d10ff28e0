"""`sink = { … }`: what can be set about an event sink beside what every plugin has; and what its table leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import Filled, Kind, Switch, Text, Whole, parse_text, shown, wrong

if TYPE_CHECKING:
    from gatepost.plugins.sink.options import SinkOptions


def _parse_class(value: object) -> str:
    text = parse_text(value).strip()
    if text.startswith("{"):
        from gatepost.app.bindings_events import guid

        try:
            return guid(text)
        except ValueError as error:
            wrong(f"{shown(text)} is no CLSID: {error}", mend='"{39B16F50-A8BA-11D1-AA91-00AA006BC80B}"')
    return text


class SinkSection(Section):
    """`sink = { … }`: the class, how it is made, and how it is asked."""

    cls: Annotated[
        Text,
        BeforeValidator(_parse_class),
        Kind("{CLSID}, ProgID or name"),
        Filled("the only one that the library has, or that the file has"),
    ] = Field(
        default="", alias="class", description="Which class of the source is the sink; in Python the attribute's name."
    )
    create: Literal["factory", "com"] = Field(
        default="factory",
        description="Of a Windows library. factory: by its own DllGetClassObject. com: through the registry, as "
        "CoCreateInstance finds it.",
    )
    registers: Switch = Field(
        default=True,
        alias="register",
        description="With create com: let the library register itself first, as regsvr32 does.",
    )
    ehlo_matches_helo: Switch = Field(default=False, description="Whether a rule's `ehlo=` is about HELO too.")
    threads: Whole = Field(
        default=8, ge=1, le=256, description="Calls of a library at a time; 1 for one that can't bear more."
    )
    instance: Whole = Field(
        default=0,
        ge=0,
        description="The virtual server that it belongs to: the listeners are counted from 1, and what comes in by "
        "others isn't its business. 0: all of them.",
    )

    def made(self) -> SinkOptions:
        """As the dialect wants them."""
        from gatepost.plugins.sink.options import SinkOptions

        return SinkOptions(**self.model_dump(exclude={"registers"}), register=self.registers)


def check_properties(properties: object) -> None:
    """A sink's property bag holds texts, numbers and truth values."""
    if not isinstance(properties, Mapping):
        return  # told with the other types
    for name, value in properties.items():
        if not isinstance(value, str | int | float):
            what = f"{shown(name)} can't be given to a sink: its bag holds texts, numbers, true and false"
            wrong(what, at=("properties", name), mend=f'{name} = "…"')


def split_source(text: str) -> tuple[str, str]:
    """`sinks.py:Shield` as file and class; any other source as it is, without a class."""
    file, colon, cls = text.rpartition(":")
    return (file, cls) if colon and file.endswith(".py") and cls.isidentifier() else (text, "")


__all__: list[Any] = ["SinkSection", "check_properties", "split_source"]
