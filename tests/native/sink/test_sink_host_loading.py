"""Finding a class: by the library's own list, by CLSID, by ProgID, in the registry; and why it can't be found.

Also facts that aren't what they should be: a question fails by itself, and the host stays.
"""

from __future__ import annotations

import random
import subprocess

import pytest

from gatepost.wire.host import Answer, Failed, Load, Loaded
from native.sink.hosts import KEPT, LISTED, NATIVE, SERVER, in_command
from programs import program

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time
ON_WINDOWS = pytest.mark.parametrize(
    "sink_systems", [pytest.param("wine", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64"))], indirect=True
)
ON_LINUX = pytest.mark.parametrize("sink_systems", ["linux", "sanitized"], indirect=True)


# ── found ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cls", [KEPT, KEPT.lower(), "Tests.Kept", "tests.kept"])
def test_by_clsid_and_by_progid(system, cls):
    host = system.words(cls)
    assert host.loaded.facts["class"] == KEPT
    assert host.said("QUERY x")["command"] == "QUERY x"
    assert host.stop() == []


@pytest.mark.needs("g++")
@ON_LINUX
def test_the_only_class_in_cplusplus(system, sink_library):
    host = system.load(sink_library("plus", "so", "g++", "-std=c++17", "-Wpedantic"))
    assert host.loaded.facts["classes"] == [
        {"class": "{91C3F2A0-7B11-4C5E-8A01-5D6E7F8091A2}", "progid": "Tests.Plus", "description": "adds to EHLO"}
    ]
    for times in range(2):
        answer = host.command("EHLO x", native_response=b"250-mx\r\n")
        assert answer.verdict["context"]["response"] == b"250-mx\r\n250 XPLUS %d nobody\r\n" % times
    assert host.ask("OnMessageSubmission", {}, stage="message").verdict["hresult"] == 0
    assert host.stop() == []


def test_listing_loads_nothing(system):
    host = system.load(system.library("words"), list=True)
    assert list(host.loaded.facts) == ["classes"]
    assert [each["progid"] for each in host.loaded.facts["classes"]][:2] == ["Tests.Kept", "Tests.Fresh"]
    host.talk.send(Load("p", system.path(system.library("words")), {"class": KEPT}))
    assert isinstance(host.hear(), Loaded)
    assert host.said("QUERY x")["command"] == "QUERY x"


def test_runs_in_the_folder_it_is_given(system, tmp_path):
    host = system.words(folder=system.path(tmp_path))
    assert isinstance(host.command("QUERY"), Answer)
    assert "nowhere" in system.refused(system.library("words"), KEPT, folder=system.path(tmp_path / "nowhere"))


@ON_WINDOWS
def test_by_the_registry_after_it_has_registered_itself(system):
    library = system.library("words")
    for cls in (KEPT, "Tests.Registered"):  # a ProgID that only the registry knows
        host = system.load(library, cls, create="com", register=True)
        assert isinstance(host.loaded, Loaded), host.loaded
        assert host.loaded.facts["class"] == KEPT
        assert host.said("QUERY x")["command"] == "QUERY x"
        assert host.command("LATER").verdict["hresult"] == 2
        host.talk.wait_for("notified 0, again 8000ffff, after 8000ffff\n")
        assert host.stop() == []
    host = system.load("", "Tests.Registered", create="com")  # it stays registered: the library isn't needed
    assert host.said("TOLD")["objects"] == "1"
    assert host.stop() == []
    host = system.load(system.library("words", "-DUNLISTED"), "Tests.Registered")  # the name alone by the registry
    assert isinstance(host.loaded, Loaded), host.loaded


# ── not found ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        ("", "the library has several classes; say with class = which: Tests.Kept {6A7E9057-"),
        ("Tests.Other", 'the library has no class "Tests.Other"; it has: Tests.Kept {6A7E9057-'),
        ("{6A7E9057}", 'class = "{6A7E9057}" isn\'t a CLSID: {XXXXXXXX-'),
        (KEPT + "x", "isn't a CLSID"),
        (LISTED, f"has no class {LISTED} (CLASS_E_CLASSNOTAVAILABLE, 0x80040111); the library says it has: Tests.Kept"),
        ("Tests.Eventless", "has no event interface: ISmtpInCommandSink, ISmtpOutCommandSink"),
        ("Tests.Cdo", "has no event interface: only CDO's ISMTPOnArrival"),
        ("Tests.Refusing", "IPersistPropertyBag::Load refused the sink properties: HRESULT 0x80070057"),
    ],
)
def test_says_which_class_it_would_take(system, cls, words):
    assert words in system.refused(system.library("words"), cls)


@pytest.mark.parametrize("cls", ["", "Tests.Kept"])
def test_a_library_that_lists_nothing_wants_a_clsid(system, cls):
    library = system.library("words", "-DUNLISTED")
    assert 'say class = "{CLSID}"' in system.refused(library, cls)
    assert isinstance(system.load(library, KEPT).loaded, Loaded)
    other = KEPT.replace("6A7E", "0000")
    assert f"has no class {other} (CLASS_E_CLASSNOTAVAILABLE, 0x80040111): is it another" in system.refused(
        library, other
    )


def test_files_that_are_no_such_library(system, tmp_path):
    (tmp_path / "text.dll").write_text("not a library\n" * 100)
    assert "text.dll" in system.refused(tmp_path / "text.dll", KEPT)
    assert "nowhere.dll" in system.refused(tmp_path / "nowhere.dll", KEPT)


def test_a_library_of_something_else(system, sink_library):
    suffix, compiler = ("so", "cc") if system.name != "wine" else ("dll", "x86_64-w64-mingw32-gcc")
    other = sink_library("nothing", suffix, compiler)
    assert "exports no DllGetClassObject: it isn't a library of COM classes" in system.refused(other, KEPT)
    if system.name == "wine":
        assert "exports no DllRegisterServer" in system.refused(other, KEPT, create="com", register=True)
        unknown = KEPT.replace("6A7E", "0001")
        assert "no object could be made of the class: HRESULT 0x80040154" in system.refused("", unknown, create="com")


@ON_LINUX
def test_there_is_no_registry_here(system):
    library = system.library("words")
    assert 'create = "com" needs the registry of Windows' in system.refused(library, KEPT, create="com")
    assert "register = true needs the registry of Windows" in system.refused(library, KEPT, register=True)


@pytest.mark.parametrize(
    "properties",
    [
        {"threads": "many"}, {"register": 1}, {"list": "yes"}, {"class": 7}, {"create": "anew"}, {"folder": 3.5},
        {"sink_properties": [1]}, {"sink_properties": {"x": [1]}}, {"sink_properties": {"x": None}},
    ],
)  # fmt: skip
def test_properties_that_are_not_what_they_should_be(system, properties):
    talk = system.start()
    load = Load("p", system.path(system.library("words")), {"class": KEPT, **properties})
    assert talk.begin("sink", load) == Failed(0, "LoadError", "these properties can't be read")


# ── damaged questions ──────────────────────────────────────────────────────────────────────────────────────────────

GOOD = {"method": "OnSmtpInCommand", "instance": 1, "server": SERVER, "bag": [], "message": None}
GOOD |= {"context": in_command("QUERY x")}


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"method": "OnSmtpDance"}, "method"),
        ({"method": 7}, "facts"),
        ({"instance": "first"}, "facts"),
        ({"server": 7}, "server"),
        ({"server": [[1]]}, "server"),
        ({"server": [[1, b"x", 2]]}, "server"),
        ({"server": [["one", b"x"]]}, "server"),
        ({"server": [[-1, b"x"]]}, "server"),
        ({"server": [[2**32, b"x"]]}, "server"),
        ({"bag": [[1, 7]]}, "bag"),
        ({"bag": {"1": b"x"}}, "bag"),
        ({"bag": [[1, b"x" * 300_000]]}, "bag"),
        ({"context": None}, "context"),
        ({"context": []}, "context"),
        ({"context": {"command": 7}}, "context"),
        ({"context": {"command": b"x" * 300_000}}, "context"),
        ({"context": {"command_status": -1}}, "context"),
        ({"context": {"smtp_status_code": 2**32}}, "context"),
        ({"context": {"protocol_error": 1}}, "context"),
        ({"message": 7}, "message"),
        ({"message": {"properties": 7}}, "message"),
        ({"message": {"recipients": [[[1]]]}}, "message"),
    ],
)
def test_a_damaged_question_fails_by_itself(lively, wrong, fact):
    asked = GOOD | wrong
    failed = lively.ask(asked.pop("method"), asked.pop("context"), **asked)
    assert failed == Failed(lively.count, "ValueError", f"a question whose {fact} can't be read")
    assert lively.said("QUERY x")["command"] == "QUERY x"


def test_facts_that_are_not_there_are_nothing(lively):
    answer = lively.command("TOLD")
    assert answer.verdict["hresult"] == 0
    answer = lively.ask("OnSmtpInCommand", {"keyword": b"QUERY"})
    assert b"command=;command-took=1;" in answer.verdict["context"]["response"]


def garbage(random: random.Random, depth: int = 0) -> object:
    """Some value that frames can carry."""
    choice = random.randrange(9 if depth < 3 else 6)
    if choice == 6:
        return [garbage(random, depth + 1) for _ in range(random.randrange(4))]
    if choice == 7:
        return [[random.randrange(2**33), random.randbytes(random.randrange(9))] for _ in range(random.randrange(4))]
    if choice == 8:
        keys = [*GOOD, *in_command(""), "properties", "recipients", "size"]
        return {random.choice(keys): garbage(random, depth + 1) for _ in range(random.randrange(5))}
    simple = (None, True, random.randrange(-(2**40), 2**40), 2.5, random.randbytes(5), "text")
    return simple[choice]


@ON_LINUX
def test_garbage_is_answered_and_survived(system):
    host = system.words("Tests.Fresh")
    seeded = random.Random(5)
    for _ in range(1500):
        asked = GOOD | {key: garbage(seeded) for key in GOOD if key != "method" and seeded.random() < 0.4}
        answer = host.ask(asked.pop("method"), asked.pop("context"), **asked)
        assert isinstance(answer, Answer | Failed)
    assert host.said("QUERY x")["command"] == "QUERY x"
    assert host.stop() == []


# ── the header ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("compiler", "standard", "suffix"),
    [
        ("cc", "c11", "c"),
        pytest.param("g++", "c++17", "cc", marks=pytest.mark.needs("g++")),
        pytest.param("x86_64-w64-mingw32-gcc", "c11", "c", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc")),
        pytest.param("i686-w64-mingw32-gcc", "c11", "c", marks=pytest.mark.needs("i686-w64-mingw32-gcc")),
    ],
)
def test_the_header_compiles_by_itself(tmp_path, compiler, standard, suffix):
    source = tmp_path / f"alone.{suffix}"
    source.write_text('#include "gatepost_sinks.h"\nGATEPOST_SINK_CLASSES({&CLSID_MailMsg, "A.B", NULL});\n')
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{NATIVE}"]
    subprocess.run([program(compiler), *flags, str(source)], check=True, timeout=60)


def test_the_headers_are_put_beside_the_hosts(building, tmp_path):
    copies = building.copy_headers(tmp_path / "built")
    assert [copy.name for copy in copies] == ["gatepost_sinks.h", "gatepost_sinks_com.h", "gatepost_sinks_values.h"]
    assert [copy.read_bytes() for copy in copies] == [(NATIVE / copy.name).read_bytes() for copy in copies]
    before = copies[0].stat().st_mtime_ns
    copies[1].write_text("old")
    building.copy_headers(tmp_path / "built")
    assert (copies[0].stat().st_mtime_ns, copies[1].read_bytes()) == (before, (NATIVE / copies[1].name).read_bytes())
