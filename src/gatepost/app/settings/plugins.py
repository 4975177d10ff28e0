"""Plugins and their bindings, as settings say them.

A key that isn't set stays None: then the plugin's own code says it (`@on(...)`), and else the house's default. Settings
win over code.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gatepost.app.settings.dialects import (
    IndimailSection,
    MailEnableSection,
    PluginLimits,
    ProgramSection,
    WindowsSurroundings,
)
from gatepost.app.settings.inferring import filled_in, parse_variables
from gatepost.app.settings.sections import Section
from gatepost.app.settings.sink import SinkSection
from gatepost.app.settings.units import Duration, Filled, Kind, Switch, Text, Texts, Whole, wrong

MAX_PRIORITY = 32767
HOUSE_PRIORITY = 24576


def _not_the_house(priority: int | None) -> int | None:
    if priority == HOUSE_PRIORITY:
        mend = f"priority = {HOUSE_PRIORITY - 1} (before it) or {HOUSE_PRIORITY + 1} (after it)"
        wrong(f"priority {HOUSE_PRIORITY} is the house's own place in the chain", mend=mend)
    return priority


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
        description="Which sessions: all must hold; keys network, listener, authenticated, tls, user, helo, host, "
        "size.",
    )
    priority: Annotated[
        Whole | None, AfterValidator(_not_the_house), Filled("the code's, else 24575; native plugins 25000")
    ] = Field(default=None, ge=0, le=MAX_PRIORITY, description="Who is asked first; the house stands at 24576.")
    timeout: Annotated[Duration | None, Filled("the code's, else what is left of the budget")] = Field(
        default=None, gt=0, description="How long an answer may take."
    )
    on_failure: Annotated[
        Literal["tempfail", "proceed", "refuse", "quarantine"] | None, Filled("the code's, else tempfail")
    ] = Field(default=None, description="What a crash, a timeout or a malformed answer counts as.")


class Binding(Asked):
    """One place where a plugin is asked, for a plugin that needs several; what isn't set is the plugin's."""


class Plugin(Asked):
    """A plugin: where it is, how it is run, when it is asked."""

    name: Annotated[Text, Filled("the file's or attribute's name")] = Field(
        default="", description="Its name in records and commands."
    )
    dialect: Annotated[
        Literal["python", "mailenable", "indimail", "sink", "program"],
        Filled("what the file says: `.py`, a library's symbols, a folder of `.so`; refused where it doesn't"),
    ] = Field(default="python", description="How the plugin is spoken to.")
    source: Text = Field(
        description="A file, `package.module`, `package.module:attribute`, an entry point's name; for indimail a "
        "library, or the folder that qmail-smtpd would load from; for sink a library, or `file.py:Class`; for program "
        "a command line."
    )
    properties: dict[str, Any] = Field(
        default={}, description="Handed to the plugin, which checks them; refused if it has none."
    )
    isolate: Annotated[Switch, Filled("false; native plugins always are")] = Field(
        default=False, description="Run it in a process of its own, which it can't bring others down with."
    )
    enabled: Switch = Field(default=True, description="Whether it is loaded at all.")
    shadow: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Ask it and record the answer, but never obey."
    )
    always: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Ask it even after an accept, as a virus scan is."
    )
    pipelining: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None,
        description="At out-reply: commands to the next server needn't wait for each other because of this plugin.",
    )
    inline: Annotated[Switch | None, Filled("the code's, else false")] = Field(
        default=None, description="Run plain functions in the event loop instead of the plugin's threads."
    )
    secrets: Switch = Field(
        default=False, description="Show it passwords in AUTH lines, which are redacted for all others."
    )
    may_relay: Switch = Field(default=False, description="Let its accept grant relaying.")
    env: Annotated[dict[str, str], BeforeValidator(parse_variables), Kind("names and texts")] = Field(
        default={}, description="Variables of its environment, beside the server's own; where it has its own processes."
    )
    processes: Annotated[Whole | None, Filled("python 1, mailenable 2, program 20, indimail 50")] = Field(
        default=None, ge=1, le=1024, description="How many processes it has, or may have at a time."
    )
    user: Annotated[Text | None, Filled("the server's own")] = Field(
        default=None, description="The system's user that its processes run as, where the server is started as root."
    )
    limits: PluginLimits | None = Field(
        default=None, description="What each process of the plugin may use; the system ends one that goes beyond."
    )
    mailenable: MailEnableSection | None = Field(
        default=None, description='With `dialect = "mailenable"`: what MailEnable\'s guide leaves open.'
    )
    indimail: IndimailSection | None = Field(
        default=None, description='With `dialect = "indimail"`: where its documents and its source leave a choice.'
    )
    sink: SinkSection | None = Field(
        default=None, description='With `dialect = "sink"`: which class it is, and how it is made and asked.'
    )
    program: ProgramSection | None = Field(
        default=None, description='With `dialect = "program"`: how the program is run and what its answer means.'
    )
    windows: WindowsSurroundings | None = Field(
        default=None, description="For a Windows library that runs under Wine: what it expects around it."
    )
    binding: tuple[Binding, ...] = Field(
        default=(), description="Several bindings of one plugin; what one leaves out is the plugin's."
    )

    @property
    def file(self) -> Path | None:
        """The source as an absolute path, if it is a file or folder; of a command line, its program's."""
        if self.program is None:
            return Path(self.source) if self.source.startswith("/") or self.source.endswith(".py") else None
        words = [] if self.program.shell else shlex.split(self.source)
        return Path(words[0]) if words and words[0].startswith("/") else None

    @property
    def environment(self) -> dict[str, str]:
        """`env`, with what the dialect's own keys say by variables."""
        return ({} if self.indimail is None else self.indimail.environment) | self.env

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
        """A text is a source; what it says needn't be written."""
        if isinstance(value, str | Path):
            value = {"source": value}
        return filled_in(value) if isinstance(value, Mapping) else value
