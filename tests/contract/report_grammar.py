"""RFC 3464's grammar of a delivery status notification, and RFC 6533's of one with UTF-8, as a check of octets."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

_FIELD = re.compile(r"([!-9;-~]+): (.*)")
_TYPED = re.compile(r"[A-Za-z0-9-]+; \S.*")
_PER_MESSAGE = {
    "Original-Envelope-Id": r"[ -~]+",
    "Reporting-MTA": r"dns; [A-Za-z0-9.\[\]:-]+",
    "Arrival-Date": "date",
}
_PER_RECIPIENT = {
    "Original-Recipient": _TYPED.pattern,
    "Final-Recipient": r"(rfc822|utf-8); \S.*",
    "Action": "failed|delayed|delivered|relayed|expanded",
    "Status": r"[245]\.[0-9]{1,3}\.[0-9]{1,3}",
    "Remote-MTA": r"dns; \S.*",
    "Diagnostic-Code": r"smtp; [245][0-9][0-9].*",
    "Last-Attempt-Date": "date",
    "Will-Retry-Until": "date",
}
_CLASSES = {"failed": "45", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}


def check_report(octets: bytes) -> tuple[EmailMessage, list[dict[str, str]]]:
    """The report, parsed, and its blocks of fields; AssertionError where it isn't one."""
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n"), "lines end with CRLF"
    assert b"\0" not in octets
    assert all(len(line) <= 998 for line in octets.split(b"\r\n")), "rfc5322#2.1.1"
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"  # rfc6522#3
    assert message.get_param("report-type") == "delivery-status"
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"):
        assert len(message.get_all(name, [])) == 1
    assert message["Auto-Submitted"] == "auto-replied"
    text, status, *returned = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert all(line.isprintable() for line in text.get_content().splitlines())
    assert status.get_content_type() in ("message/delivery-status", "message/global-delivery-status")
    assert len(returned) <= 1
    raw = octets.split(f"Content-Type: {status.get_content_type()}".encode())[1]
    body = raw.split(b"\r\n\r\n", 1)[1].split(b"\r\n--" + message.get_boundary().encode())[0]
    if status.get_content_type() == "message/delivery-status":
        assert body.isascii()
        assert status["Content-Transfer-Encoding"] in (None, "7bit")  # rfc3464#2.1
    blocks = [_block(block) for block in body.decode().rstrip("\r\n").split("\r\n\r\n")]
    assert len(blocks) >= 2, "a report is about at least one recipient"
    _check(blocks[0], _PER_MESSAGE, {"Reporting-MTA"})
    for block in blocks[1:]:
        _check(block, _PER_RECIPIENT, {"Final-Recipient", "Action", "Status"})
        assert block["Status"][0] in _CLASSES[block["Action"]], block
        assert block["Action"] == "delayed" or "Will-Retry-Until" not in block
    return message, blocks


def _block(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.split("\r\n"):
        found = _FIELD.fullmatch(line)
        assert found, f"no field: {line!r}"
        name, value = found.groups()
        assert name not in fields, f"{name} comes twice"
        assert value.isprintable(), value
        fields[name] = value
    return fields


def _check(block: dict[str, str], grammar: dict[str, str], required: set[str]) -> None:
    assert required <= block.keys()
    for name, value in block.items():
        if grammar[name] == "date":
            parsedate_to_datetime(value)
        else:
            assert re.fullmatch(grammar[name], value), f"{name}: {value!r}"
