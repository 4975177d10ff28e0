"""CDO's OnArrival sinks in Python: what Fields, texts and attachments say, and what is saved."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

from gatepost.model import Bytes
from gatepost.plugins.sink.cdo import ENVELOPE, HEADER, CdoMessage, EventStatus, outcome
from gatepost.plugins.sink.constants import (
    CDO_RUN_NEXT_SINK,
    CDO_SKIP_REMAINING_SINKS,
    EXPE_S_CONSUMED,
    IMMPID_MP,
    MESSAGE_STATUS,
    RECIPIENT_FLAGS,
    S_OK,
)
from gatepost.plugins.sink.mailmsg import Seal, wrap
from gatepost.plugins.sink.mailmsg_bag import BadArgument, CallOver
from gatepost.plugins.sink.states import Message
from unit.plugins_sink.sink_message_doubles import CONTENT, sink, story

TWO = ("<ann@example.org>", "<bob@example.com>")


def arriving(function, **how):
    """A sink that is asked at OnArrival."""

    def on_arrival(message):
        status = EventStatus()
        return outcome(function(CdoMessage(message), status), status)

    return sink(OnArrival=on_arrival, **how)


def mime() -> bytes:
    message = EmailMessage()
    message["From"] = "Eve <eve@example.net>"
    message["To"] = "ann@example.org"
    message["Subject"] = "grüße"
    message.set_content("plain words\n")
    message.add_alternative("<p>words</p>\n", subtype="html")
    message.add_attachment(b"%PDF-1", maintype="application", subtype="pdf", filename="../a.pdf")
    message.add_attachment(b"two", maintype="text", subtype="x-two", filename="two.txt")
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def test_the_envelopes_fields():
    seen = {}

    def look(msg, status):
        for name in ("clientipaddress", "messagestatus", "pickupfilename", "recipientlist", "senderemailaddress"):
            seen[name] = msg.EnvelopeFields(ENVELOPE + name).Value
        seen["arrivaltime"] = msg.fields[ENVELOPE + "ArrivalTime"]
        seen["names"] = [field.name for field in msg.Fields]

    told = await story(arriving(look), to=TWO)
    assert not told.errors
    arrived = seen.pop("arrivaltime")
    assert abs((datetime.now(UTC) - arrived).total_seconds()) < 3600
    assert f"{HEADER}Subject" in seen.pop("names")
    assert seen == {
        "clientipaddress": "192.0.2.1",
        "messagestatus": 0,
        "pickupfilename": None,
        "recipientlist": "SMTP:ann@example.org;SMTP:bob@example.com;",
        "senderemailaddress": "eve@example.net",
    }


async def test_recipients_and_sender_are_changed_by_fields():
    def change(msg, status):
        msg.Fields(ENVELOPE + "recipientlist").Value = "SMTP:bob@example.com; smtp:carol@example.org;"
        msg.fields[ENVELOPE + "senderemailaddress"] = "SMTP:other@example.net"
        assert msg.fields[ENVELOPE + "senderemailaddress"] == "SMTP:other@example.net"
        assert msg.mailmsg.sender == "eve@example.net", "before Update"
        msg.Fields.Update()
        assert msg.mailmsg.recipients[0].flags == RECIPIENT_FLAGS.DSN_NOTIFY_NEVER, "who stays keeps what is known"
        msg.mailmsg.put_string(IMMPID_MP.SENDER_ADDRESS_SMTP, "last@example.net")
        msg.Fields.Update()  # sets nothing again

    told = await story(arriving(change), to=(TWO[0], f"{TWO[1]} NOTIFY=NEVER"))
    assert told.addresses == ["bob@example.com", "carol@example.org"]
    assert told.entries[0].envelope.recipients[0].parameters == {"NOTIFY": "NEVER"}
    assert str(told.entries[0].envelope.sender) == "last@example.net"


async def test_nothing_counts_without_update_and_save():
    def change(msg, status):
        msg.Fields(ENVELOPE + "messagestatus").Value = MESSAGE_STATUS.ABORT_DELIVERY
        msg.subject = "other"
        assert msg.Subject == "other"

    told = await story(arriving(change))
    assert told.of("ann@example.org").endswith(CONTENT)


@pytest.mark.parametrize(("status", "held"), [(0, [None]), (2, []), (3, ["bad mail"])])
async def test_every_messagestatus(status, held):
    def change(msg, event_status):
        msg.EnvelopeFields(ENVELOPE + "messagestatus").Value = status
        msg.EnvelopeFields.Update()

    told = await story(arriving(change))
    assert told.last.startswith("250")
    assert [entry.held for entry in told.entries] == held


async def test_header_fields_are_changed_alone():
    def change(msg, status):
        msg.Subject = "other\r\nX-Evil: yes"
        msg.fields[HEADER + "X-Seen"] = "ja, gründlich"
        msg.Fields(HEADER + "to").Value = None
        msg.Fields.Update()
        msg.BCC = "x@example.org"
        msg.DataSource.Save()

    told = await story(arriving(change))
    assert not told.errors
    content = told.of("ann@example.org")
    assert b"Subject: other X-Evil: yes\r\n" in content
    assert b"X-Seen: ja, =?utf-8?" in content
    assert b"\r\nTo:" not in content
    assert b"Bcc: x@example.org\r\n" in content
    assert content.endswith(b"\r\n\r\nhi\r\n.dot\r\n")


async def test_texts_and_attachments_are_read():
    seen = {}

    def look(msg, status):
        seen["texts"] = (msg.TextBody, msg.HTMLBody, msg.Fields("urn:schemas:httpmail:textdescription").Value)
        seen["subject"] = (msg.Subject, msg.fields["urn:schemas:httpmail:Subject"], msg.sender, msg.from_)
        seen["attached"] = [(one.FileName, one.content_type, one.content) for one in msg.Attachments]
        seen["first"] = (msg.attachments.Count, msg.Attachments(1).filename, msg.Attachments.Item(2).FileName)
        stream = msg.GetStream()
        seen["stream"] = (stream.ReadText(10), len(stream.Read()), stream.EOS, stream.size == stream.position)

    told = await story(arriving(look), content=mime())
    assert not told.errors
    assert seen["texts"] == ("plain words\r\n", "<p>words</p>\r\n", "plain words\r\n")
    assert seen["subject"] == ("grüße", "grüße", "", "Eve <eve@example.net>")
    assert seen["attached"] == [("a.pdf", "application/pdf", b"%PDF-1"), ("two.txt", "text/x-two", b"two")]
    assert seen["first"] == (2, "a.pdf", "two.txt")
    assert seen["stream"][0] == "Received: "
    assert seen["stream"][2:] == (True, True)


PLAIN = b"Subject: x\r\n\r\nplain\r\n"
HTML = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
BINARY = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
)


@pytest.mark.parametrize("content", [PLAIN, HTML, BINARY, mime()], ids=["plain", "html", "binary", "mime"])
@pytest.mark.parametrize("text", ["new\r\nwords\r\n", "neue Wörter\r\n", "long " * 300 + "\r\n"])
@pytest.mark.parametrize("kind", ["text_body", "html_body"])
def test_a_new_text_leaves_everything_else(content, text, kind):
    other = "html_body" if kind == "text_body" else "text_body"
    message, state, seal = message_with(content)
    before = (getattr(message, other), message.subject, [one.content for one in message.attachments])
    setattr(message, kind, text)
    assert getattr(message, kind) == text
    message.data_source.save()
    seal.close()
    after, _, _ = message_with(state.rewritten.read())
    assert getattr(after, kind) == text
    assert (getattr(after, other), after.subject, [one.content for one in after.attachments]) == before
    written = state.rewritten.read()
    assert written.count(b"\n") == written.count(b"\r\n")
    assert max(map(len, written.split(b"\r\n"))) <= 998
    assert (b"AAAA" in written) == (content is BINARY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no header\r\n",
        b"Content-Type: text/plain; charset=x-unknown\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!=\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhalf",
        b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nhalf",
        b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n",
        b"Content-Type: ;;;\r\nContent-Disposition: attachment; filename*=x''%ff\r\n\r\nx\r\n",
    ],
)
def test_hostile_content_is_read_as_something(content):
    message, _, _ = message_with(content)
    assert isinstance(message.text_body, str)
    assert isinstance(message.html_body, str)
    assert all(isinstance(one.content, bytes) and "/" not in one.filename for one in message.attachments)


def test_names_that_are_none():
    message, _, _ = message_with(PLAIN)
    for name in ("x", ENVELOPE + "x", HEADER, "urn:schemas:httpmail:x"):
        with pytest.raises(BadArgument, match="there is no field"):
            message.fields[name]
    with pytest.raises(BadArgument, match="can't be set"):
        message.fields[ENVELOPE + "clientipaddress"] = "x"
    with pytest.raises(BadArgument, match="from 1"):
        message.attachments(0)
    message.fields[ENVELOPE + "messagestatus"] = "bad"
    with pytest.raises(BadArgument, match="no messagestatus"):
        message.fields.update()


def test_after_the_call_nothing_is_to_be_had():
    message, _, seal = message_with(mime())
    attachment, fields = message.attachments[0], message.fields
    assert message.subject
    seal.close()
    for attempt in (
        lambda: message.subject,
        lambda: setattr(message, "subject", "x"),
        lambda: message.text_body,
        lambda: message.get_stream(),
        lambda: message.data_source.save(),
        lambda: attachment.content,
        lambda: fields[HEADER + "subject"],
        lambda: fields.item(ENVELOPE + "messagestatus").value,
    ):
        with pytest.raises(CallOver):
            attempt()


@pytest.mark.parametrize(
    ("returned", "set_to", "hresult"),
    [
        (None, CDO_RUN_NEXT_SINK, S_OK),
        (None, CDO_SKIP_REMAINING_SINKS, EXPE_S_CONSUMED),
        (CDO_SKIP_REMAINING_SINKS, CDO_RUN_NEXT_SINK, EXPE_S_CONSUMED),
        (CDO_RUN_NEXT_SINK, CDO_SKIP_REMAINING_SINKS, S_OK),
    ],
)
def test_what_the_event_status_comes_to(returned, set_to, hresult):
    status = EventStatus()
    status.Value = set_to
    assert outcome(returned, status) == hresult


@pytest.mark.parametrize("returned", [2, "1", True, 0.0])
def test_an_event_status_that_is_none(returned):
    with pytest.raises(BadArgument):
        outcome(returned, EventStatus())


async def test_skip_remaining_sinks():
    seen = []
    told = await story(
        arriving(lambda msg, status: setattr(status, "Value", CDO_SKIP_REMAINING_SINKS), name="first"),
        arriving(lambda msg, status: seen.append(msg), name="second"),
    )
    assert told.last.startswith("250")
    assert seen == []


def message_with(content: bytes):
    state, seal = Message(content=Bytes(content)), Seal()
    return CdoMessage(wrap(state, seal)), state, seal
