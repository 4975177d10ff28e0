"""Plugins and their bindings, as settings say them.

A key that isn't set stays None: then the plugin's own code says it (`@on(...)`), and else the house's default. Settings
win over code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gatepost.app.settings.origins import Written
from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import Duration, Filled, Switch, Text, Texts, Whole, parse_path, parse_text, wrong

MAX_PRIORITY = 32767
HOUSE_PRIORITY = 24576

DIALECTS_TO_COME = ("mailenable", "indimail", "sink", "milter", "policy", "program")


class Asked(Section):
    """When a plugin is asked, and what its failure means. None leaves it to the plugin's code."""

    stages: Annotated[Texts | None, Filled("those the code names")] = Field(
        default=None, description="The stages it is asked at."
    )
    rule: Annotated[Text | None, Filled("the code's, else every message")] = Field(
        default=None,
        description='Which messages: any item holds, such as "ehlo=*.example.com; mail from=*; rcpt to=*@example.org".',
    )
    when: Annotated[dict[str, Any] | None, Filled("the code's, else always")] = Field(
        default=None,
        description="Which sessions: all must hold; keys network, listener, authenticated, tls, user, helo, size.",
    )
    priority: Annotated[Whole | None, Filled("the code's, else 24575")] = Field(
        default=None, ge=0, le=MAX_PRIORITY, description="Who is asked first; the house stands at 24576."
    )
    timeout: Annotated[Duration | None, Filled("the code's, else what is left of the budget")] = Field(
        default=None, gt=0, description="How long an answer may take."
    )
    on_failure: Annotated[
        Literal["tempfail", "proceed", "refuse", "quarantine"] | None, Filled("the code's, else tempfail")
    ] = Field(default=None, description="What a crash, a timeout or a malformed answer counts as.")

    @model_validator(mode="before")
    @classmethod
    def _house_place(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("priority") == HOUSE_PRIORITY:
            wrong(
                f"priority {HOUSE_PRIORITY} is the house's own place in the chain",
                at=("priority",),
                mend=f"priority = {HOUSE_PRIORITY - 1} (before it) or {HOUSE_PRIORITY + 1} (after it)",
            )
        return value


class Binding(Asked):
    """One place where a plugin is asked, for a plugin that needs several; what isn't set is the plugin's."""


class Plugin(Asked):
    """A plugin: where it is, how it is run, when it is asked."""

    name: Annotated[Text, Filled("the file's or attribute's name")] = Field(
        default="", description="Its name in records and commands."
    )
    dialect: Literal["python"] = Field(default="python", description="How the plugin is spoken to.")
    source: Text = Field(description="A file, `package.module`, `package.module:attribute`, or an entry point's name.")
    properties: dict[str, Any] = Field(
        default={}, description="Handed to the plugin, which checks them; refused if it has none."
    )
    isolate: Switch = Field(
        default=False, description="Run it in a process of its own, which it can't bring others down with."
    )
    enabled: Switch = Field(default=True, description="Whether it is loaded at all.")
    shadow: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Ask it and record the answer, but never obey."
    )
    always: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Ask it even after an accept, as a virus scan is."
    )
    inline: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Run plain functions in the event loop instead of the plugin's threads."
    )
    secrets: Switch = Field(
        default=False, description="Show it passwords in AUTH lines, which are redacted for all others."
    )
    may_relay: Switch = Field(default=False, description="Let its accept grant relaying.")
    binding: tuple[Binding, ...] = Field(
        default=(), description="Several bindings of one plugin; what one leaves out is the plugin's."
    )

    @property
    def file(self) -> Path | None:
        """The source as an absolute path, if it is a file."""
        return Path(self.source) if self.source.startswith("/") or self.source.endswith(".py") else None

    @property
    def asked(self) -> tuple[Binding, ...]:
        """The bindings with the plugin's own keys filled in; one, where the plugin lists none."""
        own = {key: getattr(self, key) for key in Asked.model_fields}
        return tuple(
            Binding.model_construct(
                **{key: value if (value := getattr(binding, key)) is not None else own[key] for key in own}
            )
            for binding in self.binding or (Binding(),)
        )

    @model_validator(mode="before")
    @classmethod
    def _infer(cls, value: Any) -> Any:
        """A text is a source; the name follows from it, and files become absolute."""
        if isinstance(value, str | Path):
            value = {"source": str(value)}
        if not isinstance(value, Mapping) or not isinstance(source := value.get("source"), str | Path):
            return value
        filled = dict(value)
        text = str(source)
        if isinstance(source, Path) or text.endswith(".py") or "/" in text:
            folder = source.folder if isinstance(source, Written) else Path()
            filled["source"] = str(parse_path(Written.of(text, folder)))
        filled.setdefault("name", Path(text).stem if "/" in text or text.endswith(".py") else _last_name(text))
        dialect = filled.get("dialect")
        if dialect in DIALECTS_TO_COME:
            wrong(f'the dialect "{dialect}" isn\'t in this version', at=("dialect",), mend='dialect = "python"')
        parse_text(filled["source"])
        return filled


def _last_name(text: str) -> str:
    return text.replace(":", ".").rpartition(".")[2] or text
