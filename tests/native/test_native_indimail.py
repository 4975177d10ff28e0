"""The dialect "indimail" of the host program, by frames: loading, processes, deadlines, and the worst of plugins."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from gatepost.wire.host import Answer, Ask, Failed, Load, Loaded, SessionEnded, Stop
from native.indimail.compiling import compiled, order
from native.talking import Talk

pytestmark = pytest.mark.needs("cc")


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """The folder with telling.so, zoo.so and scan.so."""
    folder = tmp_path_factory.mktemp("indimail")
    compiled("telling", folder / "telling.so")
    compiled("zoo", folder / "zoo.so")
    compiled("scan", folder / "scan.so", "OTHERWISE=0")
    compiled("scan", folder / "scan3.so", "OTHERWISE=3")
    return folder


@pytest.fixture
def begun(built):
    """Called with a source and properties: a host that has been asked to load it, and what it said to that."""
    talks = []

    def begin(source: Path, **properties) -> tuple[Talk, object]:
        talk = Talk([str(built("linux")), "indimail"], env={"PATH": os.defpath})
        talks.append(talk)
        loaded = talk.begin("indimail", Load("p", str(source), {"env": {}, **properties}))
        return talk, loaded

    yield begin
    for talk in talks:
        talk.close()


def asked(id: int, rcpt: str, *, session: str = "s1", deadline_s: float = 20.0, **env: str | None) -> Ask:
    facts = {
        "env": {"TCPREMOTEIP": "192.0.2.1"} | env,
        "remoteip": b"192.0.2.1",
        "from": b"dave@bobo.example",
        "rcpt": f"{rcpt}@x.example".encode(),
        "unknown": {"nested": [1, None, 2.5]},
    }
    return Ask(id, session, 1, "recipient", facts, deadline_s)


def answered(id: int, returned: int = 0, mesg: bytes | None = None, which: int | None = None) -> Answer:
    found = (0 if returned else -1) if which is None else which
    return Answer(id, {"returned": returned, "mesg": mesg, "which": found}, [], {})


def refused(id: int, by: str, which: int) -> Answer:
    return answered(id, 1, f"550 by {by} (#5.7.1)\r\n".encode(), which)


PASSED = answered


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_library_is_loaded_alone_and_tells_its_functions(begun, tmp_path):
    for has, told in ((1, [True, False, False]), (6, [False, True, True])):
        file = order(tmp_path / f"has{has}.so", "a", has)
        order(tmp_path / f"has{has}0.so", "not-loaded")
        assert begun(file)[1] == Loaded("p", {"plugins": [[str(file), *told]]})


def test_a_folder_is_loaded_in_order_to_the_first_gap_with_more_than_one_digit(begun, tmp_path):
    for name in ["", *range(12), 13]:
        order(tmp_path / f"smtpd-plugin{name}.so", f"no{name}")
    talk, loaded = begun(tmp_path)
    names = ["smtpd-plugin.so", *(f"smtpd-plugin{number}.so" for number in range(12))]
    assert [Path(one[0]).name for one in loaded.facts["plugins"]] == names
    assert talk.ask(asked(1, "any")) == refused(1, "no", 0)
    assert talk.ask(asked(2, "no11")) == refused(2, "no11", 12)
    assert talk.ask(asked(3, "no13")) == PASSED(3)


def test_a_folder_without_the_first_begins_at_0_and_smtp_plugin_names_it(begun, tmp_path):
    for name in ("own0", "own1", "smtpd-plugin"):
        order(tmp_path / f"{name}.so", name)
    talk, loaded = begun(tmp_path, env={"SMTP_PLUGIN": "own.so"})
    assert [Path(one[0]).name for one in loaded.facts["plugins"]] == ["own0.so", "own1.so"]
    assert talk.ask(asked(1, "any")) == refused(1, "own0", 0)


def test_smtp_plugin_symb_names_the_function(begun, tmp_path):
    file = order(tmp_path / "a.so", "a", has=1)
    _, loaded = begun(file, env={"SMTP_PLUGIN_SYMB": "another_init"})
    assert loaded.facts["plugins"] == [[str(file), True, True, False]]


def test_disable_plugin_loads_nothing_and_every_answer_is_0(begun, plugins):
    talk, loaded = begun(plugins / "telling.so", env={"DISABLE_PLUGIN": ""})
    assert loaded.facts == {"plugins": []}
    assert talk.ask(asked(1, "unset")) == PASSED(1)


def test_an_empty_folder_has_no_plugins(begun, tmp_path):
    assert begun(tmp_path)[1].facts == {"plugins": []}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"SMTP_PLUGIN_SYMB": "nowhere"}, "has no function nowhere"),
        ({"ZOO": "null"}, "plugin_init of {file} returned NULL"),
        ({"ZOO": "segfaults"}, "the process that loaded it was ended by SIGSEGV"),
        ({"ZOO": "exits"}, "the process that loaded it exited with status 0"),
        ({"ZOO": "writes"}, "it has written into its channel"),
        ({"ZOO": "lies"}, "it has written into its channel"),
    ],
)
def test_what_cannot_be_loaded_is_said_and_the_host_lives_on(begun, plugins, env, words):
    file = plugins / "zoo.so"
    talk, failed = begun(file, env=env)
    assert isinstance(failed, Failed) and (failed.id, failed.kind) == (0, "LoadError")
    assert words.format(file=file) in failed.text
    talk.send(Stop())
    assert talk.end() == (0, "")


def test_what_is_no_library_is_said_in_the_loaders_words(begun, tmp_path):
    (tmp_path / "text.so").write_text("no library")
    assert "text.so: " in begun(tmp_path / "text.so")[1].text
    assert "No such file" in begun(tmp_path / "missing.so")[1].text


# ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_session_has_static_memory_of_its_own_until_it_ends(begun, plugins):
    talk, _ = begun(plugins / "telling.so")
    for id, session, calls in ((1, "a", 1), (2, "a", 2), (3, "b", 1), (4, "a", 3)):
        heard = talk.ask(asked(id, "calls", session=session))
        assert heard.verdict["mesg"] == f"550 {calls} calls, before=\r\n".encode()
    talk.send(SessionEnded("a"))
    assert talk.ask(asked(5, "calls", session="a")).verdict["mesg"].startswith(b"550 1 calls")


def test_the_environment_is_there_at_init_and_up_to_date_at_each_question(begun, plugins):
    talk, _ = begun(plugins / "telling.so", env={"OWN": "base"})
    assert talk.ask(asked(1, "init")).verdict["mesg"] == b"550 init 192.0.2.1 base\r\n"
    assert talk.ask(asked(2, "env-RELAYCLIENT")).verdict["mesg"] == b"550 RELAYCLIENT=(unset)\r\n"
    assert talk.ask(asked(3, "env-RELAYCLIENT", RELAYCLIENT="")).verdict["mesg"] == b"550 RELAYCLIENT=\r\n"
    assert talk.ask(asked(4, "env-RELAYCLIENT", RELAYCLIENT=None)).verdict["mesg"] == b"550 RELAYCLIENT=(unset)\r\n"
    odd = {"": "x", "A=B": "x", "NUL": "a\0b"}
    assert talk.ask(asked(5, "env-NUL", **odd)).verdict["mesg"] == b"550 NUL=a\r\n"


def test_a_session_ends_by_unloading(begun, plugins, tmp_path):
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    assert talk.ask(asked(1, "pid")) == PASSED(1)
    pid = int(file.read_text().split()[1])
    descriptor = os.pidfd_open(pid)
    talk.send(SessionEnded("s1"))
    assert select.select([descriptor], [], [], 30)[0]
    assert file.read_text() == f"pid {pid}\nunloaded {pid}\n"
    os.close(descriptor)


def test_questions_of_many_sessions_are_open_together(begun, plugins):
    talk, _ = begun(plugins / "telling.so", processes=40)
    talk.send(*(asked(id, "calls", session=f"s{id % 40}") for id in range(1, 201)))
    heard = sorted((talk.hear() for _ in range(200)), key=lambda answer: answer.id)
    assert [answer.id for answer in heard] == list(range(1, 201))
    assert [int(answer.verdict["mesg"].split()[1]) for answer in heard] == [1 + (id - 1) // 40 for id in range(1, 201)]


def test_who_finds_no_process_waits_in_order_and_may_run_out_of_time(begun, plugins):
    talk, _ = begun(plugins / "zoo.so", processes=1)
    talk.send(asked(1, "hangs", session="a", deadline_s=0.3))
    talk.send(asked(2, "no", session="b", deadline_s=0.1), asked(3, "fine", session="c"), asked(4, "no", session="d"))
    too_late = talk.hear()
    assert (too_late.id, too_late.kind) == (2, "TimeoutError") and "one of 1 processes" in too_late.text
    hung = talk.hear()
    assert (hung.id, hung.kind) == (1, "TimeoutError")
    assert talk.hear() == PASSED(3)
    talk.send(SessionEnded("c"))
    assert talk.hear() == answered(4, 1, b"550 not by the zoo (#5.7.1)\r\n")


def test_stop_answers_what_is_open_and_leaves(begun, plugins):
    talk, _ = begun(plugins / "telling.so")
    talk.send(asked(1, "calls"), asked(2, "calls", session="s2"), Stop())
    assert {talk.hear().id, talk.hear().id} == {1, 2}
    assert talk.hear() is None
    assert talk.end() == (0, "")


@pytest.mark.parametrize("animal", ["pid", "hangs"])
def test_nothing_is_left_when_the_house_is_gone(begun, plugins, tmp_path, animal):
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    assert talk.ask(asked(1, "pid")) == PASSED(1)
    descriptor = os.pidfd_open(int(file.read_text().split()[1]))
    if animal == "hangs":
        talk.send(asked(2, "hangs"))
    talk.shut()
    assert talk.end()[0] == 0
    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)


@pytest.mark.parametrize("animal", ["pid", "deaf"])
def test_a_host_that_is_killed_takes_its_processes_along(begun, plugins, tmp_path, animal):
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    assert talk.ask(asked(1, "pid")) == PASSED(1)
    descriptor = os.pidfd_open(int(file.read_text().split()[1]))
    talk.send(asked(2, animal), asked(3, "fine", session="s2"))
    while talk.hear().id != 3:  # by then the other is with its plugin
        pass
    talk.process.kill()
    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_any_result_but_0_refuses_and_mesg_comes_as_it_is(begun, plugins):
    talk, _ = begun(plugins / "telling.so")
    text = b"550 as it returned (#5.7.1)\r\n"
    for id, returned in enumerate((1, 2, -1, 2**31 - 1, -(2**31)), 1):
        assert talk.ask(asked(id, f"returns-{returned}")) == answered(id, returned, text)
    assert talk.ask(asked(10, "returns-0")) == answered(10)
    assert talk.ask(asked(11, "unset")) == answered(11, 1, None)
    assert talk.ask(asked(12, "say-5")) == answered(12, 1, b"")


def test_mesg_is_read_up_to_4096_octets(begun, plugins):
    talk, _ = begun(plugins / "telling.so")
    assert talk.ask(asked(1, "long")).verdict["mesg"] == b"550 " + b"x" * 4092


def test_the_message_is_found_by_its_path_and_only_then(begun, plugins, tmp_path):
    talk, _ = begun(plugins / "telling.so")
    (tmp_path / "mail").write_text("Received: by us\n\nSHOW\n")
    facts = {"env": {}, "remoteip": b"192.0.2.1", "localhost": b"mx", "remotehost": b"peer", "remoteinfo": None}
    heard = talk.ask(Ask(1, "s1", 1, "message", facts, 20.0, str(tmp_path / "mail")))
    assert heard.verdict["mesg"] == b"550 local=mx ip=192.0.2.1 host=peer info=(null) from= received=1\r\n"
    path = talk.ask(asked(2, "env-GATEPOST_MESSAGE_PATH")).verdict["mesg"]
    assert path == b"550 GATEPOST_MESSAGE_PATH=(unset)\r\n"
    heard = talk.ask(Ask(3, "s1", 1, "message", facts | {"remoteinfo": b"ann"}, 20.0, str(tmp_path / "mail")))
    assert b"info=ann" in heard.verdict["mesg"]


def test_a_question_that_cannot_be_asked_fails_alone(begun, plugins):
    talk, _ = begun(plugins / "telling.so")
    for question in (asked(1, "x" * 70_000), Ask(2, "s1", 0, "connect", {}, 5.0)):
        assert talk.ask(question).kind == "ValueError"
    assert talk.ask(asked(3, "returns-0")) == PASSED(3)


# ── the zoo ────────────────────────────────────────────────────────────────────────────────────────────────────────

ANIMALS = {
    "segfaults": ("Crashed", "was ended by SIGSEGV"),
    "recurses": ("Crashed", "was ended by SIGSEGV"),
    "aborts": ("Crashed", "was ended by SIGABRT"),
    "exits": ("Crashed", "exited with status 0"),
    "exits-3": ("Crashed", "exited with status 3"),
    "wild-mesg": ("Crashed", "was ended by SIGSEGV"),
    "writes": ("Crashed", "has written into its channel"),
    "lies": ("Crashed", "has written into its channel"),
    "hangs": ("TimeoutError", "killed"),
    "spins": ("TimeoutError", "killed"),
    "deaf": ("TimeoutError", "killed"),
    "stops": ("TimeoutError", "killed"),
    "prints": ("TimeoutError", "killed"),
}


@pytest.mark.parametrize("animal", ANIMALS)
def test_an_animal_fails_its_own_question_and_harms_nobody(begun, plugins, tmp_path, animal):
    kind, words = ANIMALS[animal]
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    assert talk.ask(asked(1, "pid", session="innocent")) == PASSED(1)
    talk.send(asked(2, animal, session="bad", deadline_s=0.3 if kind == "TimeoutError" else 20.0))
    talk.send(asked(3, "no", session="innocent"))
    heard = {frame.id: frame for frame in (talk.hear(), talk.hear())}
    assert heard[3] == answered(3, 1, b"550 not by the zoo (#5.7.1)\r\n")
    assert heard[2].kind == kind and words in heard[2].text
    assert talk.ask(asked(4, "no", session="bad")).verdict["returned"] == 1
    assert talk.ask(asked(5, "pid", session="innocent")) == PASSED(5)
    pids = [line for line in file.read_text().splitlines() if line.startswith("pid")]
    assert len(pids) == 2 and len(set(pids)) == 1  # the innocent session's process is the one it was


def test_one_that_closes_everything_has_crashed(begun, plugins):
    talk, _ = begun(plugins / "zoo.so")
    assert talk.ask(asked(1, "closes")) == Failed(1, "Crashed", "exited with status 71")
    assert talk.ask(asked(2, "no")).verdict["returned"] == 1


def test_one_that_forks_and_comes_back_twice_answers_once_and_goes_on(begun, plugins, tmp_path):
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    for id, animal in enumerate(("pid", "forks", "no", "forks", "no", "pid"), 1):
        assert talk.ask(asked(id, animal)).verdict["returned"] == (animal == "no")
    pids = file.read_text().splitlines()
    assert len(pids) == 2 and len(set(pids)) == 1


def test_what_a_session_started_ends_with_it(begun, plugins, tmp_path):
    file = tmp_path / "noted"
    talk, _ = begun(plugins / "zoo.so", env={"ZOO_FILE": str(file)})
    assert talk.ask(asked(1, "leaves-somebody")) == PASSED(1)
    deadline = time.monotonic() + 30
    while not file.exists() or not file.read_text().endswith("\n"):
        assert time.monotonic() < deadline
    descriptor = os.pidfd_open(int(file.read_text().split()[1]))
    talk.send(SessionEnded("s1"))
    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)


@pytest.mark.parametrize(("animal", "words"), [("null", "returned NULL"), ("exits-3", "exited with status 3")])
def test_one_that_cannot_be_loaded_for_a_session_fails_that_question(begun, plugins, animal, words):
    talk, loaded = begun(plugins / "zoo.so", env={"ZOO": animal, "ZOO_LATER": "1"} if animal != "null" else {})
    assert isinstance(loaded, Loaded)
    heard = talk.ask(asked(1, "fine", **({"ZOO": "null"} if animal == "null" else {})))
    assert heard.kind == ("LoadError" if animal == "null" else "Crashed") and words in heard.text
    if animal == "null":
        assert talk.ask(asked(2, "fine", ZOO=None)) == PASSED(2)


def test_one_that_hangs_while_it_is_loaded_is_killed_at_the_deadline(begun, plugins):
    talk, _ = begun(plugins / "zoo.so", env={"ZOO": "hangs", "ZOO_LATER": "1"})
    assert talk.ask(asked(1, "fine", deadline_s=0.2)).kind == "TimeoutError"


# ── queue plugins ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_queue_plugins_are_asked_in_order_to_the_first_result(begun, plugins, tmp_path):
    files = [str(plugins / "scan.so"), str(plugins / "scan3.so")]
    talk, loaded = begun(plugins, abi="queue", files=files)
    assert loaded.facts == {"plugins": [[file] for file in files]}
    mail = tmp_path / "mail"
    for id, (text, returned, which) in enumerate([("RESULT 1", 1, 0), ("clean", 3, 1), ("RESULT 0", 0, -1)], 1):
        mail.write_text(text)
        assert talk.ask(Ask(id, "s1", 1, "message", {"env": {}}, 20.0, str(mail))) == answered(
            id, returned, None, which
        )


def test_queue_plugin_symb_names_the_function(begun, plugins):
    talk, _ = begun(plugins / "scan.so", abi="queue", env={"QUEUE_PLUGIN_SYMB": "another_scan"})
    assert talk.ask(Ask(1, "s1", 1, "message", {"env": {}}, 20.0, "/nowhere")) == answered(1, 7)
