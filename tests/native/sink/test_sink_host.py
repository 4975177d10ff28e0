"""Event sinks that are COM classes, asked by the host: what their contexts show, what is taken from them, and when.

Each case is run on Linux, there also with sanitizers, and with the same sink built as a DLL under Wine. `words.c` does
what the command says.
"""

from __future__ import annotations

import pytest

from gatepost.wire.host import Answer, Failed, Log, SessionEnded
from native.sink.hosts import KEPT, UNHANDLED, in_command

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time
POINTER, NO_INTERFACE, UNEXPECTED, SHORT = "80004003", "80004002", "8000ffff", "8007007a"
E_FAIL, INVALID, NO_MEMORY, NO_PROPERTY = "80004005", "80070057", "8007000e", "800300fd"


# ── the context of a command that comes in ─────────────────────────────────────────────────────────────────────────


def test_says_what_it_is(lively):
    facts = lively.loaded.facts
    assert facts.pop("classes")[:2] == [
        {"class": KEPT, "progid": "Tests.Kept", "description": "an object that is kept"},
        {
            "class": KEPT.replace("57-51", "58-51"),
            "progid": "Tests.Fresh",
            "description": "a new object for each event",
        },
    ]
    assert facts == {
        "class": KEPT,
        "interfaces": [
            "ISmtpInCommandSink", "ISmtpOutCommandSink", "ISmtpServerResponseSink", "IMailTransportSubmission",
            "IMailTransportOnPreCategorize", "IMailTransportOnPostCategorize",
        ],
        "cacheable": True,
        "takes_properties": True,
    }  # fmt: skip


def test_every_query_counts_the_nul(lively):
    said = lively.said("QUERY x")
    assert said == {
        "response-result": "0", "response": "", "response-took": "1",
        "command-result": "0", "command": "QUERY x", "command-took": "8",
        "keyword-result": "0", "keyword": "QUERY", "keyword-took": "6",
        "native-result": "0", "native": "250 native", "native-took": "b",
        "command-size-result": "0", "command-size": "8", "keyword-size-result": "0", "keyword-size": "6",
        "native-size-result": "0", "native-size": "b",
        "status-result": "0", "status": "ffffffff", "code-result": "0", "code": "fa", "error-result": "0", "error": "0",
    }  # fmt: skip


def test_what_is_there_already_is_seen_and_left(lively):
    begun = {"response": b"550 no\r\n", "command_status": 0x80000, "smtp_status_code": 550, "protocol_error": True}
    answer = lively.command("QUERY", **begun)
    assert answer.verdict["hresult"] == 1
    context = answer.verdict["context"]
    assert context.pop("response").startswith(b"550 no\r\nresponse-result=0;response=550 no\r\n;response-took=9;")
    assert context == {
        "native_response": b"250 native", "command_status": 0x80000, "smtp_status_code": 550, "protocol_error": True,
        "callback": False,
    }  # fmt: skip


def test_wrong_arguments_are_errors_and_change_nothing(lively):
    said = lively.said("WRONG x")
    assert said == {
        "short": SHORT, "needs": "8", "text": "unchanged", "no-buffer": POINTER, "no-size": POINTER,
        "no-number": POINTER, "no-size-number": POINTER, "no-flag": POINTER, "no-text": POINTER,
        "no-text-at-all": POINTER, "nobody": NO_INTERFACE, "nowhere": POINTER, "itself": "0", "same": "1",
        "released": "1", "too-long": NO_MEMORY, "too-long-again": NO_MEMORY,
    }  # fmt: skip


def test_everything_that_can_be_set(lively):
    assert lively.command("CHANGE").verdict == {
        "hresult": 2,
        "server": [],
        "bag": [],
        "context": {
            "native_response": b"250 native again",  # a counted text ends at its NUL
            "response": b"550 no\r\n250 yes",
            "command_status": 0x90000,
            "smtp_status_code": 550,
            "protocol_error": True,
            "callback": False,
        },
        "message": None,
    }


def test_a_failure_is_handed_on_unsigned(lively):
    assert lively.command("FAIL").verdict["hresult"] == 0x8BADF00D


# ── bags ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bags_of_server_and_session(system):
    host = system.words()
    answer = host.command("BAGS")
    said = dict(each.split("=", 1) for each in answer.verdict["context"]["response"].decode().split(";") if each)
    assert said == {
        "server": "0", "instance": "0", "number": "1", "domain": "0", "name": "example.org",
        "missing": NO_PROPERTY, "put": "0", "short": SHORT, "needs": "3", "got": "0", "octet": "62",
        "put-text": "0", "short-text": SHORT, "got-text": "0", "text": "text",
        "put-wide": "0", "short-wide": SHORT, "got-wide": "0", "euro": "20ac",
        "put-bool": "0", "got-bool": "0", "bool": "1", "not-a-number": INVALID,
        "null-put": POINTER, "null-text": POINTER, "null-wide": POINTER, "null-number": POINTER, "null-get": POINTER,
        "too-much": NO_MEMORY, "log": "0", "server-keeps": "0", "identity": "1",
    }  # fmt: skip
    assert answer.verdict["server"] == [[0x8001, b"\5\0\0\0"]]
    assert answer.verdict["bag"] == [[20, b"a\0b"], [21, b"text\0"], [22, b"w\0\xac\x20\0\0"], [23, b"\1\0\0\0"]]
    line = "client.example - 10.0.0.1:25 RCPT a@b??250 forged x SMTP sent=10 received=20 ms=30 win32=0 status=250 -"
    assert host.logs == [Log("info", line)]
    assert host.said("BAGS", session="T")["server-keeps"] == "0"  # one for all sessions of the process
    assert host.command("TOLD").verdict["server"] == []  # what was told isn't told again


def test_what_the_house_says_anew_counts_and_what_it_repeats_does_not(system):
    host = system.words("Tests.Plain")
    told = {"server": [[0x8001, b"\1\0\0\0"]], "bag": [[20, b"its own"]]}
    answer = host.ask("OnSmtpInCommand", in_command("BAGS"), **told)
    assert answer.verdict["server"] == [[0x8001, b"\5\0\0\0"]]
    assert answer.verdict["bag"][0] == [20, b"a\0b"]
    for said, count in ((1, 5), (5, 5), (9, 9), (5, 5)):  # the first was said before the house knew
        answer = host.ask("OnSmtpInCommand", in_command("TOLD"), server=[[0x8001, bytes([said, 0, 0, 0])]])
        assert f"count={count};".encode() in answer.verdict["context"]["response"]
        assert answer.verdict["server"] == []


def test_too_much_for_an_answer_is_a_failure_of_the_question(system):
    host = system.words()
    answer = host.command("MUCH")
    assert len(answer.verdict["context"]["response"]) == 130_000 + len("more=8007000e;")
    assert [id for id, _ in answer.verdict["bag"]] == [0, 1]  # a bag has a limit
    assert isinstance(host.command("QUERY"), Answer)


# ── later ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_that_comes_from_another_thread_counts_once(system):
    host = system.words()
    answer = host.command("LATER")
    assert (answer.verdict["hresult"], answer.verdict["context"]["response"]) == (2, b"250 later")
    host.talk.wait_for("notified 0, again 8000ffff, after 8000ffff\n")
    assert host.stop() == []


def test_a_result_may_come_before_it_is_promised(lively):
    verdict = lively.command("ATONCE").verdict
    assert (verdict["hresult"], verdict["context"]["response"]) == (0x80070005, b"again=8000ffff;")
    assert lively.command("NEEDLESS").verdict["hresult"] == 0  # it wasn't promised


def test_one_that_waits_keeps_no_thread(system):
    host = system.words(threads=1)
    host.talk.send(host.question("OnSmtpInCommand", in_command("NEVER"), session="first"))
    assert host.said("QUERY x", session="second")["command"] == "QUERY x"
    host.talk.send(host.question("OnSmtpInCommand", in_command("RELEASE"), session="third"))
    answers = {answer.id: answer.verdict["hresult"] for answer in (host.hear(), host.hear())}
    assert answers == {1: 0x1234, 3: 0}
    assert host.stop() == []


@pytest.mark.parametrize("method", ["OnMessageSubmission", "OnSyncMessagePreCategorize"])
def test_transport_events_are_completed_once(system, method):
    host = system.words()
    answer = host.ask(method, {}, stage="message")
    assert answer.verdict == {"hresult": 0x77, "server": [], "bag": [], "context": {}, "message": None}
    host.talk.wait_for("transport 0 8000ffff\n")
    assert host.ask("OnMessagePostCategorize", {}, stage="expanded").verdict["hresult"] == 0x80070005
    assert host.stop() == []


# ── callbacks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def called_back(host, blob: bytes, session: str = "S") -> object:
    context = {"blob": blob, "response": b"", "command_status": UNHANDLED, "smtp_status_code": 0}
    return host.ask("OnSmtpInCallback", context, session=session)


def test_a_callback_sink_converses_until_it_is_done(system):
    host = system.words()
    begun = host.command("CONVERSE").verdict
    assert (begun["hresult"], begun["context"]["callback"], begun["context"]["command_status"]) == (1, True, 4)
    for blob in (b"first\0line", b""):
        said = b"334 0 0 80004003 " + blob.split(b"\0")[0] + b" %d %d, called back" % (len(blob), len(blob))
        answer = called_back(host, blob).verdict
        if b"\0" not in blob:
            assert answer["context"] == {"response": said, "command_status": 4, "smtp_status_code": 334}
        assert answer["hresult"] == 2
    assert called_back(host, b".", session="T") == Failed(
        4, "LookupError", "nobody has set a callback sink in this session"
    )
    assert called_back(host, b".").verdict["context"]["command_status"] == 8
    assert called_back(host, b".") == Failed(6, "LookupError", "nobody has set a callback sink in this session")
    assert host.stop() == []


def test_a_callback_sink_is_replaced_unset_and_ends_with_its_session(system):
    host = system.words()
    for _ in range(3):
        host.command("CONVERSE")
    assert host.command("UNSET").verdict["context"]["callback"] is False
    host.command("CONVERSE", session="T")
    assert host.said("TOLD")["objects"] == "3"  # the sink, and what is set in S and in T
    host.talk.send(SessionEnded("S"), SessionEnded("T"), SessionEnded("never there"))
    assert host.said("TOLD")["objects"] == "1"
    assert host.stop() == []


# ── commands that go out ───────────────────────────────────────────────────────────────────────────────────────────


def going_out(host, keyword: str, **more: object) -> dict[str, object]:
    context = {
        "command": keyword.encode() + b" now", "keyword": keyword.encode(), "native_command": b"NATIVE",
        "recipient_index": UNHANDLED, "command_status": UNHANDLED, **more,
    }  # fmt: skip
    return host.ask("OnSmtpOutCommand", context, stage="out-command").verdict


def test_a_command_that_goes_out(lively):
    report = b"XREPORT RCPT now|NATIVE|RCPT|ffffffff|80004005|ffffffff|9 7 5|0"
    assert going_out(lively, "RCPT") == {
        "hresult": 0, "server": [], "bag": [], "message": None,
        "context": {"command": report, "command_status": 3, "blob": None},
    }  # fmt: skip
    context = going_out(lively, "BLOB", recipient_index=2, command_status=1)["context"]
    assert context["command"] == b"XREPORT BLOB now|NATIVE|BLOB|1|0|2|9 7 5|0"
    assert context["blob"] == b"a\0b"
    assert going_out(lively, "SKIP")["context"] == {"command": b"SKIP now", "command_status": UNHANDLED, "blob": None}
    assert going_out(lively, "LATER")["hresult"] == 1


def test_the_reply_to_a_command_that_went_out(lively):
    context = {
        "command": b"RCPT TO:<a@b>", "keyword": b"RCPT", "response": b"250 ok\r\n", "smtp_status_code": 250,
        "response_status": 7, "pipelined": True, "next_event_state": 3,
    }  # fmt: skip
    answer = lively.ask("OnSmtpServerResponse", context, stage="out-reply", session="out").verdict
    assert answer["context"] == {"response_status": 0x20000, "next_event_state": 5}
    assert answer["bag"] == [[50, b"RCPT TO:<a@b>|RCPT|250 ok\r\n|14 5 9|250|7|1|3\0"]]
    later = lively.ask("OnSmtpServerResponse", context | {"keyword": b"LATER"}, session="out").verdict
    assert later["hresult"] == 1


# ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────────

PROPERTIES = {"text": "hällo", "number": 7, "big": 2**40, "digits": "12", "yes": True, "half": 2.5, "euro": "€😀"}
TOLD = (
    "text:h5 TEXT!80020005 number:i7 number:71 number:b-1 big:r1.09951e+12 big!8002000a digits:i12 yes:b-1 yes:i-1 "
    "half:r2.5 half:i3 half!80020005 none!80070057 "
)


def test_a_cacheable_object_is_kept_and_asked_in_order(system):
    host = system.words("Tests.Kept", sink_properties=PROPERTIES)
    host.command("QUERY")
    said = host.said("TOLD")
    assert said["told"] == TOLD
    assert said["order"] == "cacheable load event event "
    assert (said["objects"], said["most"], said["message"]) == ("1", "1", "0")


def test_another_object_is_made_for_each_event(system):
    host = system.words("tests.FRESH", sink_properties=PROPERTIES)  # ProgIDs don't mind the case
    assert host.loaded.facts["cacheable"] is False
    for _ in range(3):
        said = host.said("TOLD")
        assert (said["told"], said["order"]) == (TOLD, "cacheable load event ")
        assert (said["objects"], said["most"]) == ("1", "1")
    assert host.stop() == []


def test_an_object_without_either_interface_is_made_for_each_event(system):
    host = system.words("Tests.Plain", sink_properties=PROPERTIES)
    assert (host.loaded.facts["cacheable"], host.loaded.facts["takes_properties"]) == (False, False)
    assert host.loaded.facts["interfaces"] == ["ISmtpInCommandSink"]
    assert host.said("TOLD")["order"] == "event "
    failed = host.ask("OnSmtpOutCommand", {}, stage="out-command")
    assert failed == Failed(2, "LookupError", "the sink has no ISmtpOutCommandSink")


# ── leaks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_used_after_its_time_is_closed_and_not_gone(system):
    host = system.words()
    host.command("LEAK")
    said = host.said("USE")
    closed = dict.fromkeys(("set", "query", "text", "interface", "notify"), UNEXPECTED)
    assert said == closed | {"references": "1"}
    assert host.stop() == []  # it has been given back after all


def test_leaks_are_said(system):
    host = system.words("Tests.Fresh")
    for word in ("LEAK", "LEAK", "MINE", "KEEP"):
        host.command(word)
    assert sorted(host.stop()) == [
        "leak: the sink has kept 1 bags of sessions (references that were never released: 1)",
        "leak: the sink has kept 1 of its own objects (references that were never released: 1)",
        "leak: the sink has kept 2 ISmtpInCommandContext (references that were never released: 4)",
    ]
    assert {log.level for log in host.logs} == {"warning"}


# ── many at once, and what ends it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cls", ["Tests.Kept", "Tests.Fresh"])
def test_eight_threads_at_once(system, cls):
    host = system.words(cls, threads=8)
    host.talk.send(*(host.question("OnSmtpInCommand", in_command("GATHER"), session=f"S{i}") for i in range(40)))
    answers = [host.hear() for _ in range(40)]
    assert sorted(answer.id for answer in answers) == [*range(1, 41)]
    assert {answer.verdict["context"]["response"] for answer in answers} == {b"most=8;"}
    assert host.stop() == []


def test_a_crash_ends_the_process(system):
    host = system.words()
    host.talk.send(host.question("OnSmtpInCommand", in_command("CRASH")))
    assert host.hear() is None
    status, said = host.talk.end()
    if system.name != "wine":
        assert status == -11
    else:
        assert status == 0xC0000005 & 0xFF
        assert "the plugin has crashed: exception 0xc0000005" in said
