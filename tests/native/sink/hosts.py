"""Hosts of event sinks, and the questions they are asked, for the tests here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gatepost.wire.host import Answer, Ask, Failed, Load, Loaded, Log, Stop
from native.talking import Talk
from programs import program

HERE = Path(__file__).parent
NATIVE = HERE.parents[2] / "native"
FLAGS = ["-shared", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
UNHANDLED = 0xFFFFFFFF
KEPT = "{6A7E9057-51C0-4E11-9057-0A1B2C3D4E5F}"
LISTED = "{6A7E905D-51C0-4E11-9057-0A1B2C3D4E5F}"
IN_COMMAND = {
    "native_response": b"250 native",
    "response": b"",
    "command_status": UNHANDLED,
    "smtp_status_code": 250,
    "protocol_error": False,
}
SERVER = [[0, b"\1\0\0\0"], [1, b"example.org\0"]]


def compile_sink(source: Path, output: Path, compiler: str, *more: str) -> Path:
    """The library of a C or C++ file, without a warning. `compiler`: cc, g++, or one of mingw's."""
    is_linux = output.suffix == ".so"
    flags = ["-fPIC", "-pthread"] if is_linux else ["-static-libgcc"]
    libraries = [] if is_linux else ["-loleaut32", "-luuid"]
    command = [program(compiler), *FLAGS, *flags, *more, str(source), "-o", str(output), *libraries]
    subprocess.run(command, check=True, timeout=120)
    return output


@dataclass
class Host:
    """A host that has loaded a sink. Log frames are kept in `logs`, in their order."""

    talk: Talk
    loaded: Loaded | Failed
    logs: list[Log]
    count: int = 0

    def hear(self) -> object:
        """The next frame that isn't a line for the log; None when the host has closed."""
        while isinstance(frame := self.talk.hear(), Log):
            self.logs.append(frame)
        return frame

    def ask(self, method: str, context: dict[str, object], *, stage: str = "command", **others: object) -> object:
        """Asks, and hears the answer. `others`: further facts, and `session`."""
        self.talk.send(self.question(method, context, stage=stage, **others))
        return self.hear()

    def question(
        self, method: str, context: object, *, stage: str = "command", session: str = "S", **others: object
    ) -> Ask:
        """The next question."""
        self.count += 1
        facts = {"method": method, "instance": 1, "server": SERVER, "bag": [], "context": context, "message": None}
        return Ask(self.count, session, 1, stage, facts | others, 30.0, None)

    def command(self, line: str, *, session: str = "S", **context: object) -> Answer:
        """Asks OnSmtpInCommand about this line."""
        answer = self.ask("OnSmtpInCommand", in_command(line) | context, session=session)
        assert isinstance(answer, Answer), answer
        return answer

    def said(self, line: str, *, session: str = "S") -> dict[str, str]:
        """What the sink of words.c has found: name=value; …"""
        text = self.command(line, session=session).verdict["context"]["response"].decode()
        return dict(each.split("=", 1) for each in text.split(";") if each)

    def stop(self) -> list[str]:
        """Ends it, and hears its last words: every line for the log since it began."""
        self.talk.send(Stop())
        assert self.hear() is None
        assert self.talk.end()[0] == 0, self.talk.said()
        return [log.text for log in self.logs]


def in_command(line: str) -> dict[str, object]:
    return {"command": line.encode(), "keyword": line.partition(" ")[0].encode(), **IN_COMMAND}


@dataclass
class System:
    """A way to run the host. `path` says how a plugin is told of a file; `library(name, *flags)` compiles one."""

    name: str
    start: Callable[[], Talk]
    library: Callable[..., Path]
    path: Callable[[Path], str]

    def load(self, source: Path | str, cls: str = "", **properties: object) -> Host:
        """A host that was told to load this, whatever came of it."""
        talk = self.start()
        source = self.path(source) if isinstance(source, Path) else source
        loaded = talk.begin("sink", Load("p", source, {"class": cls, **properties}))
        assert isinstance(loaded, Loaded | Failed), loaded
        return Host(talk, loaded, [])

    def words(self, cls: str = "Tests.Kept", **properties: object) -> Host:
        """A host with the sink of words.c."""
        host = self.load(self.library("words"), cls, **properties)
        assert isinstance(host.loaded, Loaded), host.loaded
        return host

    def refused(self, source: Path | str, cls: str = "", **properties: object) -> str:
        """Why it can't load this."""
        failed = self.load(source, cls, **properties).loaded
        assert isinstance(failed, Failed), failed
        assert (failed.id, failed.kind) == (0, "LoadError")
        return failed.text
