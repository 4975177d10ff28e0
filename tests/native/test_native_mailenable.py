"""Execute, called by the host: what it is handed, what is made of what it leaves, and what happens when it misbehaves.

Each case is run on Linux and, with the same plugin built as a DLL, under Wine, over a socket pair and over pipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import wine
from gatepost.wire.host import Answer, Ask, Failed, Load, Loaded, SessionEnded, Stop, Told
from native.talking import Talk
from programs import program

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time
MINGW = "x86_64-w64-mingw32-gcc"
PENDING = b"250 2.1.0 Ok"


@dataclass
class System:
    """A way to run the host. `path` says how a plugin is told of a file."""

    name: str
    start: Callable[[], Talk]
    library: Callable[[str], Path]
    path: Callable[[Path], str]

    def begin(self, plugin: str = "willing", **properties: object) -> Talk:
        """A host that has loaded this plugin; it is closed with the test."""
        host = self.start()
        source = self.path(self.library(plugin))
        assert host.begin("mailenable", Load("p", source, properties)) == Loaded("p", {})
        return host


@pytest.fixture(
    scope="module",
    params=[
        "linux",
        pytest.param("wine", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")),
        pytest.param("wine, pipes", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64")),
    ],
)
def installed(request, built, library):
    """The system, and the hosts that were started on it."""
    talks: list[Talk] = []
    if request.param == "linux":
        command, env, compiler = [str(built("linux")), "mailenable"], None, "cc"
    else:
        command, compiler = [program("wine64"), str(built("win64")), "mailenable"], MINGW
        env = wine.environment(wine.prefix())

    def start() -> Talk:
        talks.append(Talk(command, pipes="pipes" in request.param, env=env))
        return talks[-1]

    path = str if request.param == "linux" else wine.windows_path
    yield System(request.param, start, lambda name: library(name, compiler), path), talks
    for each in talks:
        each.close()


@pytest.fixture
def system(installed):
    """For a host of the test's own."""
    system, talks = installed
    before = len(talks)
    yield system
    for each in talks[before:]:
        each.close()
    del talks[before:]


@pytest.fixture(scope="module")
def lively(installed):
    """A host that the well-behaved share; its plugin has been asked before."""
    return installed[0].begin(response=512)


def asked(id: int, text: str, response: bytes = PENDING, **others: object) -> Ask:
    facts = {"configuration": f"<scriptconfig>{text}</scriptconfig>".encode(), "response": response, **others}
    return Ask(id, "S", 1, "sender", facts, 30.0, None)


def answered(id: int, returned: int, response: bytes) -> Answer:
    return Answer(id, {"returned": returned, "response": response}, [], {}, False)


# ── what Execute leaves ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["MAILFROM", "RCPTTO", "DATA", "DATAEND"])
def test_each_command_with_its_pending_reply(lively, command):
    pending = b"354 go on" if command == "DATA" else PENDING
    text = f"<smtpcommand>{command}</smtpcommand><do>command</do>"
    said = b"250 " + command.encode() + b", instead of " + pending
    assert lively.ask(asked(1, text, pending)) == answered(1, 1, said)


@pytest.mark.parametrize(
    ("text", "returned", "response"),
    [
        ("", 1, PENDING),
        ("<do>refuse</do>", 0, b"550 5.7.1 not today"),
        ("<do>say</do><say>250 as you wish</say>", 1, b"250 as you wish"),
        ("<do>empty</do>", 1, b""),
        ("<do>lines</do>", 1, b"250 ok\r\n550 no\nx\r"),
        ("<do>say</do><say>250 \u00fc</say>", 1, b"250 \xc3\xbc"),
        ("<do>fill</do><size>5</size>", 1, b"xxxxx" + PENDING[5:]),  # it forgot the NUL
        ("<do>fill</do><size>511</size>", 1, b"x" * 511),
        ("<do>fill</do><size>512</size>", 1, b"x" * 512),  # no NUL at all, and no octet too many
        ("<do>return</do><size>-7</size>", -7, PENDING),
        ("<do>return</do><size>2147483647</size>", 2**31 - 1, PENDING),
        ("<do>wide</do>", 7, PENDING),  # a long is 32 bits wide, whatever the compiler thinks
        ("<do>scribble</do>", 1, PENDING),  # the configuration is its own to write on
        ("<do>read</do>", 1, b"250 -1"),  # there is nothing to be read from standard input
    ],
)
def test_what_it_returns_and_writes(lively, text, returned, response):
    assert lively.ask(asked(2, text)) == answered(2, returned, response)


def test_a_pending_reply_longer_than_the_buffer_is_cut(lively):
    assert lively.ask(asked(3, "", b"2" * 600)) == answered(3, 1, b"2" * 511)


def test_a_long_configuration_and_facts_of_no_interest(lively):
    text = "<recipients>" + "[SMTP:x@y]; " * 50_000 + "</recipients><do>say</do><say>here</say>"
    ask = asked(4, text, others=[1, {"deep": [None, 2.5, b"\0"]}], more=True)
    assert lively.ask(ask) == answered(4, 1, b"here")


def test_a_question_without_a_configuration_is_refused(lively):
    failed = lively.ask(Ask(5, "S", 1, "sender", {"response": b"250 ok"}, 5.0))
    assert failed == Failed(5, "ValueError", "a question without a configuration")
    assert lively.ask(asked(6, "")) == answered(6, 1, PENDING)


def test_notices_and_ends_of_sessions_are_let_be(lively):
    lively.send(Told("S", "disconnected", {"why": None}), SessionEnded("S"))
    assert lively.ask(asked(7, "")) == answered(7, 1, PENDING)


def test_the_buffer_has_eight_kibibytes_by_default(system):
    host = system.begin()
    assert host.ask(asked(1, "<do>fill</do><size>8192</size>")) == answered(1, 1, b"x" * 8192)


def test_runs_in_the_folder_it_is_given(system):
    folder = system.library("willing").parent
    host = system.begin(folder=system.path(folder))
    assert host.ask(asked(1, "<do>folder</do>")) == answered(1, 1, system.path(folder).encode())


# ── many at once ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 10])
def test_fifty_questions_are_in_flight_over_so_many_threads(system, threads):
    host = system.begin(threads=threads)
    gather = f"<do>gather</do><size>{threads}</size>"
    host.send(*(asked(id, f"{gather}<say>{id}</say>") for id in range(1, 51)))
    answers = sorted((host.hear() for _ in range(50)), key=lambda answer: answer.id)
    # each waited until as many calls had been inside at once as there are threads; never were there more
    assert answers == [answered(id, 1, f"{id}, {threads}".encode()) for id in range(1, 51)]


def test_stop_answers_what_is_open(system):
    host = system.begin(threads=4)
    host.send(*(asked(id, f"<do>gather</do><size>4</size><say>{id}</say>") for id in range(1, 21)), Stop())
    assert sorted(host.hear().id for _ in range(20)) == [*range(1, 21)]
    assert host.hear() is None
    assert host.end() == (0, "")


# ── misbehaviour ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [513, 512 + 4096])
def test_writing_beyond_the_response_ends_the_process(system, size):
    host = system.begin(response=512)
    failed = host.ask(asked(1, f"<do>fill</do><size>{size}</size>"))
    assert failed == Failed(1, "ResponseOverrun", "the plugin wrote beyond the 512 octets of its response")
    assert host.hear() is None
    assert host.end() == (70, "")


def test_a_crash_ends_the_process(system):
    host = system.begin()
    host.send(asked(1, "<do>crash</do>"))
    assert host.hear() is None
    status, said = host.end()
    if system.name == "linux":
        assert status == -11
    else:
        assert status == 0xC0000005 & 0xFF
        assert "the plugin has crashed: exception 0xc0000005" in said


@pytest.mark.parametrize(("wish", "statuses"), [("abort", {-6, 3}), ("exit", {3})])
def test_what_ends_the_process_ends_it(system, wish, statuses):
    host = system.begin()
    host.send(asked(1, f"<do>{wish}</do>"))
    assert host.hear() is None
    assert host.end()[0] in statuses


def test_what_it_prints_is_not_taken_for_an_answer(system):
    host = system.begin()
    host.send(asked(1, f"<do>print</do><say>{'y' * 100}</say>"), asked(2, ""), Stop())
    assert {host.hear().id, host.hear().id} == {1, 2}
    assert host.hear() is None
    status, said = host.end()
    assert status == 0
    assert said.splitlines() == [*(f"noise {n}: {'y' * 100}" for n in range(3000)), "last noise"]


def test_leaves_with_the_house_while_its_plugin_hangs(system):
    host = system.begin()
    host.send(asked(1, "<do>hang</do>"))
    host.wait_for("hanging\n")
    host.shut()
    assert host.end() == (0, "hanging\n")


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(system: System, source: Path, words: str, **properties: object) -> None:
    """Refused in the loader's words; and what is asked all the same ends it."""
    host = system.start()
    failed = host.begin("mailenable", Load("p", system.path(source), properties))
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (0, "LoadError")
    assert words in failed.text
    host.send(asked(1, ""))
    assert host.hear() is None
    assert host.end() == (76, "")


def test_a_library_without_execute_is_refused(system):
    refused(system, system.library("nameless"), "Execute")


def test_a_missing_file_is_refused_by_name(system, tmp_path):
    refused(system, tmp_path / "nowhere.dll", "nowhere.dll")


def test_what_is_no_library_is_refused_by_name(system, tmp_path):
    (tmp_path / "text.dll").write_text("not a library\n" * 100)
    refused(system, tmp_path / "text.dll", "text.dll")


def test_a_library_of_another_system_is_refused(system, library):
    other = library("willing", MINGW if system.name == "linux" else "cc")
    refused(system, other, other.name)


def test_a_missing_folder_is_refused_by_name(system, tmp_path):
    refused(system, system.library("willing"), "nowhere", folder=system.path(tmp_path / "nowhere"))


def test_a_name_in_any_script_is_found(system, tmp_path):
    copy = tmp_path / "spämfilter ☂.so"
    copy.write_bytes(system.library("willing").read_bytes())
    host = system.start()
    assert host.begin("mailenable", Load("p", system.path(copy), {})) == Loaded("p", {})
    assert host.ask(asked(1, "")) == answered(1, 1, PENDING)


def test_properties_that_are_not_what_they_should_be(system):
    host = system.start()
    load = Load("p", system.path(system.library("willing")), {"threads": "many"})
    assert host.begin("mailenable", load) == Failed(0, "LoadError", "these properties can't be read")


def test_a_second_load_ends_it(system):
    host = system.begin()
    host.send(Load("q", system.path(system.library("willing")), {}))
    assert host.hear() is None
    assert host.end() == (76, "")
