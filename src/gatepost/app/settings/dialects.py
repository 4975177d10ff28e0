"""What can be set about a plugin's processes and surroundings, and about each dialect: a section each.

A dialect's own class of options says what goes together; a section is its keys as the file writes them, and makes one.
The rooms of the dialects are imported only when a plugin needs them.
"""

from __future__ import annotations

import re
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import (
    AnyPath,
    Duration,
    Filled,
    Kind,
    Size,
    Switch,
    Text,
    Whole,
    parse_text,
    shown,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatepost.plugins.host.confinement import Limits
    from gatepost.plugins.host.wine import Windows as WineWindows
    from gatepost.plugins.indimail.options import IndimailOptions
    from gatepost.plugins.mailenable.options import MailEnableOptions
    from gatepost.plugins.program.options import ProgramOptions


class PluginLimits(Section):
    """What each process of a plugin may use; the system ends one that goes beyond."""

    memory: Size = Field(
        default=2048 * 2**20,
        ge=16 * 2**20,
        description="Its memory; of address space, but under Wine what is really used.",
    )
    cpu: Annotated[Duration | None, Filled("no limit")] = Field(
        default=None, gt=0, description="Time on a processor over its whole life; then it is ended and begun anew."
    )
    files: Whole = Field(default=256, ge=16, description="Files and connections open at a time.")
    file_size: Size = Field(default=1024 * 2**20, ge=0, description="The largest file it may write.")

    def made(self) -> Limits:
        """As plugins.host wants them."""
        from gatepost.plugins.host.confinement import Limits

        cpu_s = None if self.cpu is None else ceil(self.cpu)
        return Limits(address_space=self.memory, cpu_s=cpu_s, open_files=self.files, file_size=self.file_size)


class WindowsSurroundings(Section):
    """What a Windows library expects around it when it runs under Wine."""

    drive_c: Annotated[AnyPath | None, Filled("an empty drive")] = Field(
        default=None, description="A folder whose content it finds in C:\\."
    )
    registry: Annotated[AnyPath | None, Filled("an empty registry")] = Field(
        default=None, description="A .reg file with what it finds in the registry."
    )

    def made(self) -> WineWindows:
        """As plugins.host.wine wants it."""
        from gatepost.plugins.host.wine import Windows

        return Windows(self.drive_c, self.registry)


class MailEnableSection(Section):
    """`mailenable = { … }`: what the guide leaves open."""

    charset: Text = Field(
        default="utf-8", description='Of what is passed and answered: "utf-8", or a code page such as "cp1252".'
    )
    postoffice: Text = Field(
        default="recipient",
        description='Whose domain the element postoffice has: "recipient", "user" (who is authenticated), or any other '
        "text as it is.",
    )
    mailfrom_name: Text = Field(
        default="MAILFROM", description='What smtpcommand says at MAIL; an example of the guide has "RCPTTO" there.'
    )
    strip_routing_headers: Switch = Field(
        default=True, description="Remove header fields from outside that would tell MailEnable where mail goes."
    )
    response_size: Size = Field(
        default=8192, ge=512, le=256 * 2**10, description="The buffer that a plugin writes its reply into."
    )
    threads: Whole = Field(
        default=8, ge=1, le=256, description="Calls at a time in each process; 1 for a plugin that can't bear more."
    )

    def made(self) -> MailEnableOptions:
        """As the dialect wants them. ValueError where they can't be kept; the text names the option."""
        from gatepost.plugins.mailenable.options import MailEnableOptions

        return MailEnableOptions(**self.model_dump())

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        _try(self.made, type(self).model_fields)
        return self


def _parse_symbol(value: object) -> str | None:
    if value is None:
        return None
    text = parse_text(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text, re.ASCII):
        wrong(f"{shown(text)} can't be the name of a C function", mend='"plugin_init"')
    return text


class IndimailSection(Section):
    """`indimail = { … }`: where the documents and the source differ, or leave a choice."""

    abi: Annotated[Literal["smtp", "queue"], Filled("what the library exports, else `smtp`")] = Field(
        default="smtp",
        description="smtp: plugin_init and its three functions; queue: virusscan, asked about each whole message.",
    )
    symbol: Annotated[
        str | None, BeforeValidator(_parse_symbol), Kind("name"), Filled("`plugin_init`, with abi queue `virusscan`")
    ] = Field(default=None, description="The function that a library is entered by.")
    drop_on_reject: Switch = Field(default=False, description="End the session after a refusal.")
    null_remoteinfo: Literal["null", "empty"] = Field(
        default="null", description="What a plugin gets as remoteinfo of whom nothing is known: NULL, or an empty text."
    )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that say to the plugins' host what qmail-smtpd and qmail-queue are told so."""
        if self.symbol is None:
            return {}
        return {"QUEUE_PLUGIN_SYMB" if self.abi == "queue" else "SMTP_PLUGIN_SYMB": self.symbol}

    def made(self) -> IndimailOptions:
        """As the dialect wants them."""
        from gatepost.plugins.indimail.options import IndimailOptions

        return IndimailOptions(**self.model_dump(exclude={"symbol"}))

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, value: Any) -> Any:
        if isinstance(value, dict) and "sessions" in value:
            what = "how many sessions have a process at a time is said by the plugin's processes"
            wrong(what, at=("sessions",), mend=f"processes = {value['sessions']}, beside indimail")
        return value


class SpamSection(Section):
    """The exit codes of a spam filter that qmail runs as SPAMFILTER."""

    spam: Whole = Field(default=0, ge=0, le=255, description="Spam (SPAMEXITCODE).")
    ham: Whole = Field(default=1, ge=0, le=255, description="No spam (HAMEXITCODE).")
    unsure: Whole = Field(default=2, ge=0, le=255, description="Neither (UNSUREEXITCODE).")
    reject: Whole = Field(
        default=0, ge=0, le=2, description="What spam comes to (REJECTSPAM): 0 passes, 1 is refused, 2 is thrown away."
    )


class ProgramSection(Section):
    """`program = { … }`: how a program is run and what its answer means."""

    mode: Literal["filter", "qfilter", "scan", "pickup"] = Field(
        default="filter",
        description="filter: standard output replaces the mail. qfilter: the same, with the envelope on descriptors 3 "
        "and 4. scan: the exit code judges. pickup: MailEnable's MTA pickup event.",
    )
    shell: Switch = Field(default=False, description="Give source to /bin/sh, instead of splitting it into words.")
    line_ends: Annotated[Literal["lf", "crlf"] | None, Filled("`lf` for filters, `crlf` for scan and pickup")] = Field(
        default=None, description="How the lines end that the program reads."
    )
    output_size: Size = Field(
        default=64 * 2**20, ge=1, description="The largest message that the program may give back."
    )
    text: Text = Field(default="", description="What the sender hears with a refusal; empty: the house's own words.")
    empty: Annotated[Literal["failure", "unchanged"] | None, Filled("`unchanged` for qfilter, else `failure`")] = Field(
        default=None, description="What success without any output means."
    )
    discard: Text = Field(
        default="2, 99",
        description='With mode filter: the exit codes that throw the mail away; "99" for a script that never means 2.',
    )
    spam: SpamSection | None = Field(
        default=None, description="With mode filter: its exit codes are a spam filter's, such as qmail runs."
    )
    hit: Text = Field(
        default="", description='With mode scan: the exit codes of a hit, such as "1, 4, 8-32, 64-" (64 and more).'
    )
    error: Text = Field(
        default="", description="With mode scan: the exit codes of its own failure; what is neither has found nothing."
    )
    action: Literal["refuse", "quarantine", "discard", "tag"] = Field(
        default="refuse", description="With mode scan: what a hit comes to."
    )
    header: Text = Field(
        default="", description='With action tag: the header field that is added, such as "X-Spam-Flag: YES".'
    )
    nonzero: Literal["ignore", "hold", "retry"] = Field(
        default="ignore", description="With mode pickup: what an exit code other than 0 means."
    )
    connector: Text = Field(
        default="SMTP", description="With mode pickup: the connector type that the program is told."
    )

    def made(self) -> ProgramOptions:
        """As the dialect wants them. ValueError for what can't be meant; the text names the option."""
        from gatepost.plugins.program.options import ProgramOptions, SpamCodes

        spam = None if self.spam is None else SpamCodes(**self.spam.model_dump())
        return ProgramOptions(**{**self.model_dump(), "spam": spam})

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        _try(self.made, type(self).model_fields)
        return self


def _try(make: Callable[[], object], keys: Mapping[str, object]) -> None:
    """What the dialect's own class refuses is refused at the key that its words begin with."""
    try:
        make()
    except ValueError as error:
        text = str(error)
        key = text.replace(":", " ").partition(" ")[0]
        what, _, note = text.partition("; ")
        wrong(what, at=(key,) if key in keys else (), note=note)
