"""The frame of all commands: the table of names, the options that stand before them, and how errors end.

A command is a module of this package with a click command named `command`. To add one, add its line to COMMANDS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

import gatepost
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.settings import Check, Settings

COMMANDS: Mapping[str, str] = {
    "run": "gatepost.app.cli.run",
    "check": "gatepost.app.cli.check",
    "reload": "gatepost.app.cli.reload",
    "send": "gatepost.app.cli.send",
    "try": "gatepost.app.cli.try_",
    "test": "gatepost.app.cli.test",
    "explain": "gatepost.app.cli.explain",
    "trace": "gatepost.app.cli.trace",
    "queue": "gatepost.app.cli.queue",
    "user": "gatepost.app.cli.user",
    "fetch": "gatepost.app.cli.fetch",
    "list": "gatepost.app.cli.list",
    "plugin": "gatepost.app.cli.plugin",
    "binding": "gatepost.app.cli.binding",
    "dns": "gatepost.app.cli.dns",
    "config": "gatepost.app.cli.config",
    "version": "gatepost.app.cli.version",
}
"""Each command and the module that holds it, in the order of the help."""

USUAL_FILES = (Path("gatepost.toml"), Path("/etc/gatepost/gatepost.toml"))
_READER_GONE = 1  # how click ends when the reader of its output (`| head`) has had enough
_FIRST_STEP = """\
Gatepost {version}. First step:  gatepost run
It listens on 127.0.0.1:2525 and needs no settings; with some: gatepost -c gatepost.toml check
All commands:  gatepost --help"""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood before the command. `config` is the file asked for; `verbosity` counts -v up and -q down from 0."""

    config: Path | None = None
    verbosity: int = 0

    @property
    def file(self) -> Path | None:
        """The settings file: the one asked for, else the first usual one that exists; None: the defaults."""
        return self.config or next((file for file in USUAL_FILES if file.is_file()), None)

    def settings(self, *, overrides: Mapping[str, Any] | None = None, checks: Sequence[Check] = ()) -> Settings:
        """The settings that apply. If they can't be used the whole report is printed, and the command ends."""
        from gatepost.app.settings import SettingsError, load

        try:
            return load(self.file, environ=os.environ, overrides=overrides, checks=checks)
        except SettingsError as error:
            click.echo(str(error), err=True)
            raise SystemExit(Exit.CONFIGURATION) from None

    def settings_or_without_bindings(self) -> tuple[Settings, bool]:
        """The settings, for who looks at what is kept or mends the bindings: where they can be used but for the
        bindings of event sinks, these are left out. What is wrong with those is printed then; True if anything is.
        """
        from gatepost.app.settings import SettingsError, load

        try:
            return load(self.file, environ=os.environ), False
        except SettingsError as error:
            try:
                found = load(self.file, environ=os.environ, rows="")
            except SettingsError:
                click.echo(str(error), err=True)
                raise SystemExit(Exit.CONFIGURATION) from None
            click.echo("\n".join(str(finding) for finding in error.findings), err=True)
            return found, True


pass_frame = click.make_pass_decorator(Frame, ensure=True)


class Commands(click.RichGroup):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return getattr(import_module(module), "command") if module else None  # noqa: B009  the module isn't known here

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, COMMANDS, 1)
            hint = f'did you mean "{near[0]}"?' if near else "all commands: gatepost --help"
            if name.endswith(".toml"):
                hint = f"gatepost -c {name} run, or check"
            raise Failure(f'there is no command "{name}"', Exit.USAGE, next_step=hint)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, name="gatepost"
)
@click.version_option(gatepost.__version__, message="gatepost %(version)s")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="The settings file. Default: ./gatepost.toml, then /etc/gatepost/gatepost.toml, else built-in defaults.",
)
@click.option("-v", "--verbose", count=True, help="Say more; twice for still more.")
@click.option("-q", "--quiet", count=True, help="Say less.")
@click.pass_context
def commands(context: click.Context, config: Path | None, verbose: int, quiet: int) -> None:
    """Gatepost, a programmable mail server: plugins decide while the sender is still on the line."""
    context.obj = Frame(config, verbose - quiet)
    if context.invoked_subcommand is None:
        click.echo(_FIRST_STEP.format(version=gatepost.__version__))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; errors are told on standard error."""
    try:
        result = commands.main(arguments, prog_name="gatepost", standalone_mode=False)
    except click.UsageError as error:
        Failure(_as_sentence(error), Exit.USAGE, next_step=_next_step(error)).show()
        return Exit.USAGE
    except Failure as error:
        error.show()
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return Exit.INTERRUPTED
    except SystemExit as end:
        if end.code == _READER_GONE:
            return Exit.OK
        return end.code if isinstance(end.code, int) else Exit.OK
    return result if isinstance(result, int) else Exit.OK


def _as_sentence(error: click.UsageError) -> str:
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]


def _next_step(error: click.UsageError) -> str:
    """The likely line where options or the settings file stand behind the command, else the command's help."""
    where = error.ctx.command_path if error.ctx else "gatepost"
    command = where.removeprefix("gatepost").strip()
    if command and isinstance(error, click.NoSuchOption) and (option := _BEFORE.get(error.option_name)):
        return f"gatepost {option} {command}: it stands before the command"
    if command in _WITHOUT_ARGUMENTS and (extra := _EXTRA.search(error.format_message())):
        return f"gatepost -c {extra[1]} {command}"
    return f"{where} --help"


_BEFORE = {
    "-c": "-c FILE", "--config": "-c FILE", "-v": "-v", "--verbose": "-v", "-q": "-q", "--quiet": "-q",
}  # fmt: skip
_WITHOUT_ARGUMENTS = ("run", "check", "reload", "config show")
_EXTRA = re.compile(r"extra argument \((.+)\)")  # click's words
