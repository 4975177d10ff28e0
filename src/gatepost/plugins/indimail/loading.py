"""Loads IndiMail's plugins: they run in the native host, a process for each session, and their bindings ask it.

What qmail-smtpd does stays as it is: the environment is there before `plugin_init` runs, functions are called in the
order of loading until one returns other than 0, static memory lasts as long as the session. What differs: whatever
they do to their process fails only their own question, `data_func` finds the message's file in GATEPOST_MESSAGE_PATH,
more than ten plugins are loaded, and the house writes the reply.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from gatepost.hooks import stages
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.verdicts import PROCEED, Hangup, Proceed, Refuse, Verdict, hangup
from gatepost.plugins.host import Backoff, Command, Crew, HookFailed, HostError, Limits, LoadRefused, Recipe
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.host.native import host_path
from gatepost.plugins.indimail.mesg import read_returned
from gatepost.plugins.indimail.options import IndimailOptions
from gatepost.plugins.indimail.passing import MESSAGE_PATH, arguments, client_name, session_environment
from gatepost.plugins.indimail.queue import HEADER, QueueSettings, libraries
from gatepost.plugins.indimail.showing import shown_answer, shown_call
from gatepost.plugins.loaded import Exchange, Loaded, PluginError, Wish, bind_stages, make_binding
from gatepost.wire.host import Load

PROCESSES = 50
"""Sessions that have a process at a time, unless the settings say otherwise."""
PROCESSES_MOST = 1000
_OWN_FILES = 16  # descriptors that a host needs beside one for each session
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")  # of our own environment


@dataclass(slots=True)
class Indimail(Loaded):
    """A plugin, or a folder of them. It has a process from when it is loaded on: close it, whatever becomes of it."""

    crew: Crew = field(kw_only=True)
    files: tuple[str, ...] = ()
    """The libraries, in the order in which they are asked."""

    async def open(self, server: ServerView) -> None:
        """Before the first connection. PluginError if its host can't go on, which also closes it."""
        try:
            await self.crew.open({})
        except (LoadRefused, HostError, OSError) as error:
            raise PluginError(f'plugin "{self.name}" couldn\'t open: {error}') from error

    async def close(self) -> None:
        """After the last session; nothing of its processes is left."""
        await self.crew.close()


async def load_indimail(
    source: str | Path,
    *,
    name: str | None = None,
    wishes: Sequence[Wish] = (),
    env: Mapping[str, str] | None = None,
    options: IndimailOptions = IndimailOptions(),  # noqa: B008  it can't be changed
    limits: Limits | None = None,
    processes: int = PROCESSES,
    starter: Starter = DIRECTLY,
    scratch: Path | None = None,
    load_s: float = 30.0,
    grace_s: float = 1.0,
    stop_s: float = 5.0,
    backoff: Backoff | None = None,
) -> Indimail:
    """The plugin at `source`, a library, or all that qmail-smtpd would load from there if it is a folder.

    `env` is the plugins' environment beside what is known of a session; PLUGINDIR, SMTP_PLUGIN, SMTP_PLUGIN_SYMB,
    DISABLE_PLUGIN (and those of the queue's ABI) mean in it what they mean to qmail-smtpd. `processes` is how many
    sessions may have one at a time; `limits` are each process's; `starter` says whom
    they run as. PluginError says what is wrong.
    """
    env = dict(env or {})
    where = _place(str(source), env)
    limits = _limits(limits, processes)
    properties: dict[str, Any] = {"env": env, "processes": processes, "abi": options.abi}
    queue = None
    if options.abi == "queue":
        queue = QueueSettings.read(env)
        properties["files"] = [str(file) for file in libraries(where, env)]
    name = name or where.stem
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    recipe = Recipe(
        Command((str(host_path("linux")), "indimail"), {**kept, **starter.home, **env}),
        "indimail",
        Load(name, str(where), properties),
        limits,
        scratch=scratch,
        starter=starter,
        load_s=load_s,
    )
    crew = Crew(name, recipe, grace_s=grace_s, stop_s=stop_s, backoff=backoff)
    try:
        facts = await crew.load()
    except LoadRefused as error:
        raise PluginError(f'plugin "{name}" can\'t be loaded: {error}') from None
    except (HostError, OSError, ValueError, TypeError) as error:
        raise PluginError(f'plugin "{name}" can\'t be loaded: {error}') from error
    try:
        return _bound(crew, facts, where, wishes, env, options, queue)
    except BaseException:
        await crew.close()
        raise


def _place(text: str, env: dict[str, str]) -> Path:
    """Where to load from. The plugins hear of it as PLUGINDIR."""
    source = Path(text).absolute()
    if not source.exists():
        raise PluginError(f'there is no "{source}"; give a library (.so), or the folder that qmail-smtpd loads from')
    if not source.is_dir():
        return source
    for word in ("SMTP_PLUGIN", "PLUGINDIR"):
        value = env.get(word, "")
        if word == "SMTP_PLUGIN" and "/" in value:
            raise PluginError(f'SMTP_PLUGIN is the name of a file in "{source}", not "{value}"')
        if word == "PLUGINDIR" and value and not value.startswith("/"):
            raise PluginError(f'PLUGINDIR is an absolute path, not "{value}"')
    place = Path(env.setdefault("PLUGINDIR", str(source)))
    if not place.is_dir():
        raise PluginError(f'PLUGINDIR is "{place}", where there is no folder')
    return place


def _limits(limits: Limits | None, processes: int) -> Limits:
    if not 1 <= processes <= PROCESSES_MOST:
        raise PluginError(f"processes is between 1 and {PROCESSES_MOST}, not {processes}")
    needed = processes + _OWN_FILES
    if limits is None:
        usual = Limits()
        return usual if (usual.open_files or needed) >= needed else replace(usual, open_files=needed)
    if limits.open_files is not None and limits.open_files < needed:
        raise PluginError(
            f"limits.files = {limits.open_files} is too few for {processes} sessions at a time; make it {needed}, or "
            "processes fewer"
        )
    return limits


class _Library(msgspec.Struct, array_like=True):
    """What the host says of one: its file, and for the smtp ABI which of the three functions it has."""

    file: str
    mail: bool = False
    rcpt: bool = False
    data: bool = False


class _Told(msgspec.Struct):
    """What the host says of them all."""

    plugins: list[_Library]


def _bound(
    crew: Crew,
    facts: Mapping[str, Any],
    where: Path,
    wishes: Sequence[Wish],
    env: Mapping[str, str],
    options: IndimailOptions,
    queue: QueueSettings | None,
) -> Indimail:
    try:
        plugins = msgspec.convert(facts, _Told).plugins
    except msgspec.ValidationError as error:
        raise PluginError(f'plugin "{crew.name}": its process says it is no plugin: {error}') from error
    loaded = Indimail(crew.name, str(where), "indimail", crew=crew, files=tuple(one.file for one in plugins))
    if queue is not None:
        scanner = _Scanner(loaded, crew, env, queue)
        bind_stages(loaded, {stages.Message: scanner.ask}, wishes)
        return loaded
    if "DISABLE_PLUGIN" in env:
        return loaded
    if not plugins:
        base = env.get("SMTP_PLUGIN") or "smtpd-plugin.so"
        stem = base.removesuffix(".so")
        ending = base[len(stem) :]
        raise PluginError(
            f'plugin "{crew.name}": "{where}" has neither {base} nor {stem}0{ending}; SMTP_PLUGIN says what to look for'
        )
    functions = [
        (stages.Sender, any(one.mail for one in plugins)),
        (stages.Recipient, any(one.rcpt for one in plugins)),
        (stages.Message, any(one.data for one in plugins)),
    ]
    has: list[type[stages.Event]] = [stage for stage, is_there in functions if is_there]
    if not has:
        raise PluginError(f'plugin "{crew.name}": none of its functions is there (mail_func, rcpt_func, data_func)')
    asker = _Asker(loaded, crew, env, options)
    bind_stages(loaded, dict.fromkeys(has, asker.ask), wishes)
    if options.drop_on_reject and not all(binding.shadow for binding in loaded.bindings):
        loaded.bindings = [one if one.shadow else replace(one, hook=asker.ask_and_drop) for one in loaded.bindings]
        words = {"priority": 0, "always": True}
        loaded.bindings.append(make_binding(crew.name, stages.Command, asker.drop, words, Wish(), Breaker()))
    return loaded


@dataclass(slots=True)
class _Dropped:
    """That a session is to be ended. Lives in its holder."""

    is_due: bool = False


class _Answered(msgspec.Struct):
    """The host's verdict."""

    returned: int
    mesg: bytes | None
    which: int


class _Base:
    """What both ABIs have: the question, and what came back."""

    def __init__(self, loaded: Indimail, crew: Crew, env: Mapping[str, str]) -> None:
        self._loaded = loaded
        self._crew = crew
        self._env = env

    async def exchange(
        self, event: stages.Event, function: str, make: Callable[[Mapping[str, str | None]], dict[str, Any]]
    ) -> _Answered:
        """The answer to what `make` makes of the session's variables. Raises what `Crew.exchange` does."""
        remotehost = await client_name(event)
        environment = session_environment(event.session, event.server.hostname, remotehost, self._env)
        passed = make(environment)
        content = event.message.blob if isinstance(event, stages.Message) else None
        path = None

        def facts(there: str | None) -> dict[str, Any]:
            nonlocal path
            path = there
            return {"env": environment, **passed}

        def show(returned: str) -> None:
            if (hear := self._loaded.on_exchange) is not None:
                shown = shown_call(function, passed, environment | {MESSAGE_PATH: path})
                hear(Exchange(self._loaded.name, event.name, shown, returned))

        try:
            answer, _ = await self._crew.exchange(event, facts, content=content)
            answered = msgspec.convert(answer.verdict, _Answered)
        except msgspec.ValidationError as error:
            raise HookFailed("AnswerError", str(error)) from error
        except (HostError, TimeoutError) as error:
            show(f"nothing: {error}")
            raise
        by = self._loaded.files[answered.which] if 0 <= answered.which < len(self._loaded.files) else ""
        show(shown_answer(answered.returned, answered.mesg, by))
        return answered


class _Asker(_Base):
    """The smtp ABI."""

    def __init__(self, loaded: Indimail, crew: Crew, env: Mapping[str, str], options: IndimailOptions) -> None:
        super().__init__(loaded, crew, env)
        self._is_null = options.null_remoteinfo == "null"

    async def ask(self, event: stages.Event) -> Verdict:
        """The hook of all three stages."""
        function = {"sender": "mail_func", "recipient": "rcpt_func"}.get(event.name, "data_func")
        answered = await self.exchange(
            event, function, lambda env: arguments(event, env, null_remoteinfo=self._is_null)
        )
        return read_returned(answered.returned, answered.mesg)

    async def ask_and_drop(self, event: stages.Event) -> Verdict:
        """The same, where a refusal is to be the session's end."""
        verdict = await self.ask(event)
        if isinstance(verdict, Refuse):
            _dropped(event.session).is_due = True
        return verdict

    async def drop(self, event: stages.Command) -> Proceed | Hangup:
        """At the command after a refusal: the end, as the session was to be terminated."""
        if event.verb == "QUIT" or not _dropped(event.session).is_due:
            return PROCEED
        return hangup("closing the connection after the refusal")


class _Scanner(_Base):
    """The queue ABI."""

    def __init__(self, loaded: Indimail, crew: Crew, env: Mapping[str, str], settings: QueueSettings) -> None:
        super().__init__(loaded, crew, env)
        self._settings = settings

    async def ask(self, event: stages.Message) -> Verdict:
        """Scan the message; it is told so in a header."""
        if not self._settings.scans(event.message.blob.size):
            return PROCEED
        answered = await self.exchange(event, "virusscan", lambda _: {})
        verdict, header = self._settings.judge(answered.returned)
        if header is not None:
            event.add_header(HEADER, header)
        return verdict


def _dropped(session: Session) -> _Dropped:
    return session.holder.get(_Dropped, _Dropped)
