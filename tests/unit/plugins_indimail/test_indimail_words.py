"""What is read and written as text: a plugin's mesg, the queue's variables, a call as shown."""

from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path as File

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.hooks.session import Session
from gatepost.hooks.verdicts import PROCEED, Discard, Hangup, Proceed, Refuse
from gatepost.model import Path, Peer, Reply
from gatepost.plugins.indimail.mesg import read_mesg, read_returned
from gatepost.plugins.indimail.passing import _address, session_environment
from gatepost.plugins.indimail.queue import QueueSettings, libraries
from gatepost.plugins.indimail.showing import shown_answer, shown_call
from gatepost.plugins.loaded import PluginError

# ── mesg ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mesg", "reply"),
    [
        (b"530 We are serious (#5.7.1)\r\n", Reply(530, "5.7.1", "We are serious (#5.7.1)")),
        (b"451 later (#4.3.0)\n", Reply(451, "4.3.0", "later (#4.3.0)")),
        (b"451 later (#5.3.0)", Reply(451, "", "later (#5.3.0)")),
        (b"550 5.7.9 own", Reply(550, "5.7.9", "own")),
        (b"550 4.7.9 of another class", Reply(550, "", "4.7.9 of another class")),
        (b"no code", Reply(550, "", "no code")),
        (b"5501 no code", Reply(550, "", "5501 no code")),
        (b"699 no code", Reply(550, "", "699 no code")),
        (b"250 yes", Reply(550, "", "yes")),
        (b"354 go on", Reply(550, "", "go on")),
        (b"550", Reply(550, "", "")),
        (b"\r\n\r\n", Reply(550, "", "")),
        (b"", Reply(550, "", "")),
        (b"550-a\r\n550-b\r\n550 c\r\n", Reply(550, "", "a\nb\nc")),
        (b"550-5.1.1 a\r\n550 5.1.1 b\r\n", Reply(550, "5.1.1", "a\nb")),
        (b"550 a\r\n250 b\r\n", Reply(550, "", "a 250 b")),
        (b"a\nb", Reply(550, "", "a b")),
        (b"550 \xe9", Reply(550, "", "\ufffd")),
    ],
)
def test_a_mesg_is_read_as_a_reply(mesg, reply):
    assert read_mesg(mesg) == reply


@given(st.binary(max_size=200) | st.from_regex(rb"[245][0-9]{2}[ -][ -~\r\n]*", fullmatch=True))
def test_any_mesg_is_a_refusal(mesg):
    reply = read_mesg(mesg)
    assert 400 <= reply.code <= 599
    assert "\r" not in reply.text


def test_0_ignores_mesg_anything_else_refuses_and_421_closes():
    assert read_returned(0, b"550 no") is PROCEED
    for returned in (1, 2, -1, 250):
        assert read_returned(returned, b"550 no") == Refuse(Reply(550, "", "no"))
    assert read_returned(1, None) == Refuse(Reply(550, "5.7.1", "rejected by plugin (#5.7.1)"))
    assert read_returned(1, b"421 bye") == Hangup(Reply(421, "", "bye"))


# ── the queue ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_results_of_a_scan_by_default():
    judge = QueueSettings.read({}).judge
    assert judge(0) == (Proceed(), "clean")
    assert judge(1) == (Proceed(), "Virus found")
    for result in (2, -1, 77):
        verdict, header = judge(result)
        assert verdict.reply.code == 451 and header is None


@pytest.mark.parametrize(
    ("reject", "verdict"), [("0", Proceed), ("", Proceed), ("1", Refuse), ("2", Discard), ("3", Refuse)]
)
def test_rejectvirus(reject, verdict):
    assert isinstance(QueueSettings.read({"REJECTVIRUS": reject}).judge(1)[0], verdict)


def test_results_may_be_others():
    settings = QueueSettings.read({"QHPSIRC": "10", "QHPSIRN": "20"})
    assert [settings.judge(result)[1] for result in (10, 20, 0, 1)] == ["Virus found", "clean", None, None]


def test_sizes_that_are_scanned():
    settings = QueueSettings.read({"QHPSIMINSIZE": "10", "QHPSIMAXSIZE": "20"})
    assert [settings.scans(size) for size in (9, 10, 20, 21)] == [False, True, True, False]
    assert QueueSettings.read({}).scans(0) and QueueSettings.read({}).scans(1 << 40)
    with pytest.raises(PluginError, match='QHPSIRC is a number, not "one"'):
        QueueSettings.read({"QHPSIRC": "one"})


def test_the_libraries_of_a_queue(tmp_path):
    assert libraries(tmp_path / "a.so", {}) == [tmp_path / "a.so"]
    assert libraries(tmp_path, {"QHPSI": "plugin: a.so b.so"}) == [tmp_path / "a.so", tmp_path / "b.so"]
    for said, words in (("", "QHPSI isn't set"), ("/usr/bin/scan %s", "a program"), ("plugin:", "a program")):
        with pytest.raises(PluginError, match=words):
            libraries(tmp_path, {"QHPSI": said})
    with pytest.raises(PluginError, match="names of files"):
        libraries(tmp_path, {"QHPSI": "plugin: ../a.so"})


# ── what is passed ─────────────────────────────────────────────────────────────────────────────────────────────────


def session(ip: str, user: str | None = None) -> Session:
    now = datetime(2026, 11, 2, tzinfo=UTC)
    return Session("T", "mx", "smtp", Peer(ip_address(ip), 4711), ("192.0.2.25", 25), now, None, user=user)  # type: ignore[arg-type]


def known(session: Session, **env: str) -> dict[str, str]:
    found = session_environment(session, "mx.test", None, env)
    return {name: value for name, value in found.items() if value is not None}


def test_the_environment_of_a_session():
    assert known(session("192.0.2.1")) == {
        "PROTO": "TCP",
        "TCPREMOTEIP": "192.0.2.1",
        "TCPREMOTEPORT": "4711",
        "TCPLOCALIP": "192.0.2.25",
        "TCPLOCALPORT": "25",
        "TCPLOCALHOST": "mx.test",
    }
    six = known(session("2001:db8::1"))
    assert (six["PROTO"], six["TCP6REMOTEIP"], six["TCPREMOTEIP"]) == ("TCP6", "2001:db8::1", "2001:db8::1")
    assert known(session("::ffff:192.0.2.1")) == known(session("192.0.2.1"))
    ann = known(session("192.0.2.1", "ann"))
    assert (ann["TCPREMOTEINFO"], ann["RELAYCLIENT"], ann["AUTHENTICATED"]) == ("ann", "", "1")


def test_the_settings_environment_counts_where_nothing_is_known():
    assert known(session("192.0.2.1"), RELAYCLIENT="@x", TCPREMOTEIP="lie")["RELAYCLIENT"] == "@x"
    assert known(session("192.0.2.1", "ann"), RELAYCLIENT="@x", TCPREMOTEIP="lie")["RELAYCLIENT"] == ""
    assert known(session("192.0.2.1"), TCPREMOTEIP="lie")["TCPREMOTEIP"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("written", "passed"),
    [
        ("", b""),
        ("Dave@Bobo.Example", b"Dave@Bobo.Example"),
        ('"a b"@x.example', b"a b@x.example"),
        ('"a@b"@x.example', b"a@b@x.example"),
        ("postmaster", b"postmaster"),
        ("ann@[192.0.2.1]", b"ann@[192.0.2.1]"),
        ("jörg@x.example", "jörg@x.example".encode()),
    ],
)
def test_an_address_is_passed_as_qmail_has_it(written, passed):
    assert _address(Path.parse(written, bare_postmaster=True)) == passed


def test_a_call_and_its_answer_are_shown_as_c_writes_them():
    passed = {"remoteip": b"192.0.2.1", "from": b'"\\', "remoteinfo": None}
    shown = shown_call("mail_func", passed, {"A": "b", "C": None})
    assert shown == 'mail_func("192.0.2.1", "\\"\\\\", NULL, &mesg)\nA=b'
    path = str(File("/x/1"))
    assert shown_call("virusscan", {}, {"GATEPOST_MESSAGE_PATH": path}).startswith('virusscan("/x/1")')
    assert shown_answer(0, b"ignored", "") == "0"
    assert shown_answer(1, b"550 \x07\r\n", "a.so") == '1, mesg = "550 \\x07\\r\\n", by a.so'
    assert shown_answer(2, None, "") == "2, mesg = NULL"
