"""A host with the sink that does with the message what a test writes, line by line (`player.c`).

On Linux the host is built with sanitizers, under Wine it is the one that is shipped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import wine
from gatepost.wire.host import Answer, Ask, Failed, Load, Loaded, Log, Stop
from native.talking import Talk
from programs import program

HERE = Path(__file__).parent
HEADERS = HERE.parents[2] / "native"
MINGW = "x86_64-w64-mingw32-gcc"
SCRIPT, STORY = 0x4F00, 0x4F01

CONTENT = b"Subject: x\r\n\r\n.hello\r\n..\r\n"
SENDER, STATUS, FLAGS, ADDRESS, DOMAIN, X500 = 0x1002, 0x1014, 0x200D, 0x2009, 0x2012, 0x200B
OK, GONE, NO_PROPERTY = "00000000", "8000ffff", "800300fd"
POINTER, ARGUMENT, SHORT, NO_RECIPIENT, NO_MEMORY = "80004003", "80070057", "8007007a", "80030012", "8007000e"
DUPLICATE, NO_MORE = "80070050", "80070103"


def dword(value: int) -> bytes:
    return value.to_bytes(4, "little")


def recipient(address: str, *more: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    return [(ADDRESS, address.encode() + b"\0"), *more]


THREE = [
    recipient("ann@a.example", (DOMAIN, b"a.example\0"), (FLAGS, dword(1))),
    recipient("bob@A.example"),
    recipient("cy@b.example"),
]


@dataclass
class Player:
    """A host with the sink. `path` says how it is told of a file."""

    talk: Talk
    folder: Path
    path: Callable[[Path], str]
    logs: list[str] = field(default_factory=list)
    asked: int = 0
    message: Any = None
    """Of the last answer, without the story and the script."""

    @property
    def file(self) -> Path:
        return self.folder / f"{self.asked}.eml"

    def ask(self, facts: object, path: str | None) -> Answer | Failed:
        """The question's answer; what was logged meanwhile is in `logs`."""
        around = {"method": "OnMessageSubmission", "instance": 1, "server": [], "bag": [], "context": {}}
        self.talk.send(Ask(self.asked, "s", 1, "message", {**around, "message": facts}, 5.0, path))
        while isinstance(heard := self.talk.hear(), Log):
            self.logs.append(heard.text)
        assert isinstance(heard, Answer | Failed), self.talk.said()
        return heard

    def play(
        self,
        *lines: str,
        properties: Sequence[tuple[int, bytes]] = (),
        recipients: Sequence[Sequence[tuple[int, bytes]]] = THREE,
        content: bytes | None = CONTENT,
        size: int | None = None,
    ) -> list[str]:
        """What came of each line. The content is in `file` afterwards."""
        self.asked += 1
        if content is not None:
            self.file.write_bytes(content)
        facts = {
            "properties": [(SCRIPT, "\n".join(lines).encode() + b"\0"), *properties],
            "recipients": recipients,
            "size": size if size is not None else len(content or b""),
        }
        heard = self.ask(facts, None if content is None else self.path(self.file))
        assert isinstance(heard, Answer) and heard.verdict["hresult"] == 0, heard
        self.message = heard.verdict["message"]
        if self.message is None:
            return []
        put = {key: value for key, value in self.message["properties"]}
        story = put.pop(STORY)
        self.message["properties"] = put
        return [line.strip() for line in story[:-1].decode().split("\n")[:-1]]

    def check(self, *pairs: tuple[str, str], **more: Any) -> None:
        """Lines, and what must come of each."""
        came = self.play(*(line for line, _ in pairs), **more)
        assert list(zip([line for line, _ in pairs], came, strict=True)) == list(pairs)


Environment = dict[str, str] | None
FLAGS_OF_C = ("-shared", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
NO_WISHES = {"folder": None, "class": "", "create": "factory", "register": False, "sink_properties": {}}


@pytest.fixture(scope="session")
def library_of(tmp_path_factory) -> Callable[[str, str], Path]:
    """Called with a C file's name here and a system: the library, built once, without a warning."""
    folder = tmp_path_factory.mktemp("sinks")

    def build(name: str, system: str) -> Path:
        library = folder / f"{name}.{'dll' if system == 'wine' else 'so'}"
        if not library.exists():
            compiler = [program(MINGW)] if system == "wine" else [program("cc"), "-fPIC", "-std=gnu11", "-pthread"]
            words = [*compiler, *FLAGS_OF_C, f"-I{HEADERS}", str(HERE / f"{name}.c"), "-o", str(library)]
            subprocess.run([*words, *(["-luuid"] if system == "wine" else [])], check=True)
        return library

    return build


@pytest.fixture(scope="session")
def host_of(building, built, tmp_path_factory) -> Callable[[str], tuple[list[str], Environment]]:
    """Called with a system: the host's command and its environment."""
    folder = tmp_path_factory.mktemp("sanitized")

    def found(system: str) -> tuple[list[str], Environment]:
        if system == "wine":
            return [program("wine64"), str(built("win64")), "sink"], wine.environment(wine.prefix())
        if system == "linux":
            return [str(built("linux")), "sink"], None
        target = next(each for each in building.TARGETS if each.name == "linux")
        building.build(target, folder, flags=("-Werror", "-g", "-fsanitize=address,undefined"))
        return [str(folder / target.output), "sink"], {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}

    return found


@pytest.fixture(scope="module")
def begin(library_of, host_of):
    """Called with a system: a host that runs until the module's tests are done, with one thread: a question is over
    before the next one."""
    talks: dict[str, Talk] = {}

    def begun(system: str, folder: Path) -> Player:
        path = wine.windows_path if system == "wine" else str
        if system not in talks or talks[system].process.poll() is not None:
            command, env = host_of(system)
            talks[system] = Talk(command, env=env)
            source = path(library_of("player", system))
            loaded = talks[system].begin("sink", Load("p", source, {"threads": 1, **NO_WISHES}))
            assert isinstance(loaded, Loaded), (loaded, talks[system].said())
        return Player(talks[system], folder, path)

    yield begun
    for each in talks.values():
        each.send(Stop())
        status, said = each.end()
        each.close()
        assert status == 0 and "runtime error" not in said, said


@pytest.fixture(params=["sanitized", pytest.param("wine", marks=pytest.mark.needs(MINGW, "wine64"))])
def player(request, begin, tmp_path):
    return begin(request.param, tmp_path)
