"""The fixtures `smtp_session` and `sink_session`: whole sessions line by line, and what a failing test shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost.app.settings import SettingsError
from gatepost.hooks.api import on, refuse
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink import EXPE_BLOB_DONE, EXPE_BLOB_READY, S_FALSE, S_OK
from gatepost.testing.talking import NotExpected
from programs import program

EXAMPLES = Path(__file__).parents[3] / "examples"


@on("recipient")
async def knows_ann(event):
    if event.recipient.local != "ann":
        return refuse(550, "5.1.1", "nobody of that name")


def test_a_session_with_a_server_that_runs(gatepost, smtp_session):
    talk = smtp_session(gatepost)
    talk.expect(220, "ESMTP")
    assert "250-PIPELINING" in talk.expect(250, after="EHLO x").split("\n")
    talk.expect(250, after="MAIL FROM:<a@b.example>")
    talk.expect(250, after="RCPT TO:<ann@example.org>")
    talk.expect(354, after="DATA")
    assert talk.content("Subject: x\n\n.one dot\n..two").startswith("250 ")
    assert gatepost.wait_for_message().content.endswith(b"\r\n.one dot\r\n..two\r\n")
    talk.send(b"NOOP\r\nRS")
    talk.send(b"ET\r\n")
    talk.expect(250)
    talk.expect(250)
    talk.expect(221, after=b"QUIT")
    assert talk.reply() == ""


def test_host_and_port(gatepost, smtp_session):
    talk = smtp_session(gatepost.host, gatepost.port)
    assert talk.reply().startswith("220 ")
    talk.send(b"NOOP\r\n")
    talk.shut()
    talk.expect(250)
    assert talk.reply() == ""


def test_a_session_with_a_plugin(sink_session):
    talk = sink_session(knows_ann)
    talk.expect(220)
    talk.expect(250, after="EHLO x")
    talk.expect(250, after="MAIL FROM:<a@b.example>")
    talk.expect(550, "nobody of that name", after="RCPT TO:<bob@example.org>")
    talk.expect(250, after="RCPT TO:<ann@example.org>")
    talk.expect(354, after="DATA")
    assert talk.content(b"Subject: x\r\n\r\nhello\r\n").startswith("250 ")
    assert [content.endswith(b"\r\n\r\nhello\r\n") for content in talk.messages()] == [True]
    talk.shut()
    assert talk.reply() == ""


def test_keys_of_the_settings(sink_session):
    talk = sink_session(knows_ann, rule="rcpt to=*@example.com", priority=100, timeout="5s", stages=["recipient"])
    talk.expect(220)
    talk.expect(250, after="EHLO x")
    talk.expect(250, after="MAIL FROM:<a@b.example>")
    talk.expect(250, after="RCPT TO:<bob@example.org>")
    talk.expect(550, after="RCPT TO:<bob@example.com>")
    talk.hang_up()


def test_a_file_and_its_properties(sink_session):
    words = {"properties": {"words": ["casino"]}}
    talk, other = (sink_session(EXAMPLES / "keywords.py", **words) for _ in range(2))
    for each, word in ((talk, "casino"), (other, "lottery")):
        for line in ("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
            each.reply()
            each.send(line.encode() + b"\r\n")
        each.expect(354)
        assert each.content(f"Subject: x\n\n{word}\n").startswith("554" if word == "casino" else "250")
    assert len(talk.messages()) == len(other.messages()) == 1, "the plugin was loaded once"


@pytest.mark.needs("cc")
def test_a_library_of_mailenable(sink_session, tmp_path):
    library = tmp_path / "keywords.so"
    source = EXAMPLES / "mailenable_keywords.c"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    talk = sink_session(library, dialect="mailenable", env={"KEYWORDS": "casino"})
    for line in ("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
        talk.reply()
        talk.send(line.encode() + b"\r\n")
    talk.expect(354)
    assert talk.content("Subject: x\n\ncasino\n").startswith("550")


class Sink:
    """An event sink that takes a verb and a line for it."""

    def Load(self, bag):
        self.word = bag["word"]

    def OnSmtpInCommand(self, server, session, message, context):
        context.SetResponse(f"354 {self.word}\r\n")
        context.SetCommandStatus(EXPE_BLOB_READY)
        context.SetCallback(Taker())
        return S_FALSE


class Taker:
    def OnSmtpInCallback(self, server, session, message, context):
        context.SetResponse(b"250 " + context.QueryBlob())
        context.SetCommandStatus(EXPE_BLOB_DONE)
        return S_OK


def test_a_sink(sink_session):
    talk = sink_session(Sink, properties={"word": "hello"}, rule="XTAKE", priority=100)
    talk.expect(220)
    talk.expect(500, after="XGIVE")
    talk.expect(354, "hello", after="XTAKE")
    talk.expect(250, "this line", after="this line")
    talk.expect(250, after="EHLO x")


def test_a_sink_in_a_file(sink_session):
    talk = sink_session(
        f"{EXAMPLES / 'event_sinks.py'}:Denied", dialect="sink", properties={"names": "bob@example.org"}
    )
    talk.expect(220)
    talk.expect(550, "takes no mail", after="RCPT TO:<bob@example.org>")
    talk.expect(503, after="RCPT TO:<ann@example.org>")


def test_what_cannot_be_loaded(sink_session, tmp_path):
    with pytest.raises(SettingsError, match="there is no file"):
        sink_session("nope.py")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(PluginError, match="division by zero"):
        sink_session(tmp_path / "bad.py")


def test_what_was_not_expected(sink_session):
    talk = sink_session(knows_ann)
    with pytest.raises(NotExpected, match=r"221 was expected, and this heard: 220 .*\nS: 220 mx.test"):
        talk.expect(221)
    with pytest.raises(NotExpected, match='250 with "nonsense" was expected'):
        talk.expect(250, "nonsense", after="NOOP")


def test_a_failing_test_shows_what_was_said(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "from gatepost import on\n"
        "@on('connect')\nasync def nothing(event): pass\n"
        "def test_it(sink_session):\n    talk = sink_session(nothing)\n    talk.reply()\n    talk.command('NOOP')\n"
        "    assert False, 'on purpose'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gatepost.testing.pytest_plugin"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 1
    assert "- SMTP session 1 -" in run.stdout
    assert (
        "S: 220 mx.test ESMTP Gatepost\\r\\nC: NOOP\\r\\nS: 250 2.0.0 ok\\r\\n".replace("nC", "n\nC").replace(
            "nS", "n\nS"
        )
        in run.stdout
    )
