"""What the commands about lists have in common: the database, options as words, members as lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable

if TYPE_CHECKING:
    from gatepost.app.settings import Settings
    from gatepost.store.lists_database import ListDatabase
    from gatepost.store.lists_facts import ListOptions, MailingList, Member, Unavailable

_TOLD = 10
"""Lines that are wrong and told."""
_MEMBER_WORDS = ("display", "mode", "moderated", "vacation", "bounces")


@contextmanager
def opened(settings: Settings) -> Iterator[ListDatabase]:
    """The lists, as the server's user; what can't be done there ends the command."""
    from gatepost.store.lists_database import ListDatabase
    from gatepost.store.lists_facts import ListError, Unavailable

    if settings.data is None:
        raise Failure("these settings have no data folder", Exit.CONFIGURATION, next_step='data = "/var/lib/gatepost"')
    as_the_server(settings)
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{settings.data} can't be made: {error.strerror}", Exit.CANT_CREATE) from None
    try:
        lists = ListDatabase(settings.data / "lists.db")
    except Unavailable as error:
        raise _unavailable(error) from None
    try:
        yield lists
    except Unavailable as error:
        raise _unavailable(error) from None
    except ListError as error:
        raise Failure(printable(str(error)), Exit.USAGE, next_step="gatepost list") from None
    finally:
        lists.close()


def _unavailable(error: Unavailable) -> Failure:
    """The database can't answer: what scripts are told by the exit code, people by the text."""
    from gatepost.store.lists_facts import Trouble

    codes = {Trouble.BUSY: Exit.TEMPORARY, Trouble.FULL: Exit.TEMPORARY, Trouble.FORBIDDEN: Exit.NO_PERMISSION}
    return Failure(printable(str(error)), codes.get(error.trouble, Exit.UNAVAILABLE))


def known(lists: ListDatabase, name: str) -> MailingList:
    """The list of that name; Failure with the nearest one."""
    found = lists.find(name)
    if found is None:
        near = get_close_matches(name, [one.name for one in lists.all()], 1)
        hint = f'did you mean "{near[0]}"?' if near else "gatepost list create NAME ADDRESS"
        raise Failure(f'there is no list "{printable(name)}"', Exit.USAGE, next_step=hint)
    return found


def option_words(options: ListOptions) -> dict[str, Any]:
    """Every option by the word it is set by."""
    return {field.name.rstrip("_"): getattr(options, field.name) for field in fields(options)}


def written(value: Any) -> str:
    """An option's value as it is written."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def with_words(options: ListOptions, words: Sequence[str]) -> ListOptions:
    """The options with `key=value` words; `key+=value` and `key-=value` change what is several. Failure."""
    from gatepost.store.lists_facts import spelled
    from gatepost.store.users import folded

    before = option_words(options)
    for word, name, sign, text in _split(words, before):
        now = option_words(options)[name]
        field = name if name in {one.name for one in fields(options)} else f"{name}_"
        if sign and not isinstance(now, tuple):
            raise _wrong(word, f"{name} is one value", f"gatepost list set NAME {name}={text}")
        value = _value(word, name, before[name], text)
        if sign == "+":
            value = tuple(dict.fromkeys((*now, *value)))
        elif sign == "-":
            gone = {folded(spelled(name, one)) for one in value}
            value = tuple(one for one in now if folded(one) not in gone)
        options = replace(options, **{field: value})
    return options


def member_with_words(member: Member, words: Sequence[str]) -> Member:
    """The member with `key=value` words. Failure."""
    for word, name, sign, text in _split(words, dict.fromkeys(_MEMBER_WORDS)):
        if sign:
            raise _wrong(word, f"{name} is one value", f"{name}={text}")
        match name:
            case "display":
                member = replace(member, display=" ".join(printable(text).split())[:200])
            case "mode":
                if text not in ("mail", "nomail"):
                    raise _wrong(word, 'mode is "mail" or "nomail"', _near(text, ("mail", "nomail")))
                member = replace(member, mode="mail" if text == "mail" else "nomail")
            case "moderated":
                member = replace(member, moderated=_switch(word, text))
            case "vacation":
                member = replace(member, vacation_until=_until(word, text))
            case _:
                if text != "0":
                    raise _wrong(word, "bounces can only be forgotten", "bounces=0")
                member = replace(member, score=0.0, bounced_at=None, probed_at=None, stopped_at=None)
    return member


def people(addresses: Iterable[str], file: Path | None) -> list[tuple[str, str]]:
    """(address, display name) of what was named and of a file's lines (`-`: standard input): an address, or
    `Name <address>`; `#` begins a comment. All that is wrong is told together. Failure.
    """
    from gatepost.content.addresses import parse_list
    from gatepost.model import AddressError
    from gatepost.model import Path as MailPath

    found: list[tuple[str, str]] = []
    wrong: list[str] = []
    for where, line in (*(("", address) for address in addresses), *_lines(file)):
        read = parse_list(line).mailboxes if "<" in line else ()
        address, display = (read[0].address, read[0].name) if len(read) == 1 else (line, "")
        try:
            if not (path := MailPath.parse(address)):
                raise AddressError("an address is missing")
            found.append((path.address, display))
        except AddressError as error:
            wrong.append(f'{where}"{printable(line[:80])}" is no address: {error}')
    if wrong:
        more = [f"and {len(wrong) - _TOLD} more"] if len(wrong) > _TOLD else []
        told = "\n".join([*wrong[:_TOLD], *more])
        raise Failure(f"{told}\nnothing was changed", Exit.DATA, next_step="one address a line: Ann <ann@example.org>")
    return found


def ask_first(question: str, yes: bool) -> None:
    """Go on only if the operator wants to."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def _lines(file: Path | None) -> Iterator[tuple[str, str]]:
    if file is None:
        return
    try:
        octets = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = octets.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "it isn't UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise Failure(f"{file} can't be read: {why}", Exit.NO_INPUT) from None
    for number, line in enumerate(text.splitlines(), start=1):
        if content := line.partition("#")[0].strip():
            yield f"{file}:{number}: ", content


def _split(words: Sequence[str], names: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(word, name, "" or + or -, text) of each `key=value`."""
    for word in words:
        key, equals, text = word.partition("=")
        sign = key[-1:] if key[-1:] in ("+", "-") else ""
        name = key.removesuffix(sign).strip().lower().replace("-", "_")
        if not equals:
            raise _wrong(word, "it has no value", f"{name if name in names else 'key'}=value")
        if name not in names:
            raise Failure(f'there is no option "{printable(name)}"', Exit.USAGE, next_step=_near(name, tuple(names)))
        yield word, name, sign, text.strip()


def _value(word: str, name: str, before: Any, text: str) -> Any:
    """The text as a value of the kind that the option has."""
    if name == "max_size":
        return _octets(word, text)
    if name == "attachments" and text in ("any", "none"):
        return text
    if name == "attachments" or isinstance(before, tuple):
        return tuple(dict.fromkeys(text.replace(",", " ").split()))
    if isinstance(before, bool):
        return _switch(word, text)
    if isinstance(before, int | float):
        kind: Callable[[str], Any] = type(before)
        try:
            return kind(text)
        except ValueError:
            raise _wrong(word, f"{name} is a number", f"{name}={before}") from None
    return _one_of(word, name, text)


def _one_of(word: str, name: str, text: str) -> str:
    from typing import get_args

    from gatepost.store import lists_facts

    words = {
        "post": lists_facts.Post,
        "strangers": lists_facts.Strangers,
        "subscribe": lists_facts.Subscribing,
        "from": lists_facts.FromPolicy,
    }
    if name in words and text not in (choices := get_args(words[name])):
        raise _wrong(word, f"{name} is {', '.join(choices)}", _near(text, choices))
    return text


def _octets(word: str, text: str) -> int:
    from pydantic_core import PydanticCustomError

    from gatepost.app.settings.units import parse_size

    try:
        return parse_size(int(text) if text.isascii() and text.isdigit() else text)
    except PydanticCustomError:
        raise _wrong(
            word, "that is no size", "max_size=10MiB, or a number of octets; 0 for the server's limit"
        ) from None


def _switch(word: str, text: str) -> bool:
    if text.lower() in ("yes", "true", "on"):
        return True
    if text.lower() in ("no", "false", "off"):
        return False
    raise _wrong(word, "that is neither yes nor no", f"{word.partition('=')[0]}=yes")


def _until(word: str, text: str) -> float | None:
    if text in ("", "no", "none"):
        return None
    from gatepost.lists.commands import last_day

    if (until := last_day(text)) is None:
        raise _wrong(word, "that is no day", "vacation=2026-08-31, or vacation=no")
    return until


def _near(text: str, among: Sequence[str]) -> str:
    near = get_close_matches(text, among, 1)
    return f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(among)}"


def _wrong(word: str, why: str, mend: str) -> Failure:
    return Failure(f"{printable(word)}: {why}", Exit.USAGE, next_step=mend)
