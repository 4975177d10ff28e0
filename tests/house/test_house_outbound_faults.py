"""Postfix's smtp-sink with every fault it can have: what becomes of a message, and that it never arrives twice."""

from __future__ import annotations

import json
import shlex
import smtplib
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

import pytest

from house.peers import Sink, smtp_sink
from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.real_peers import relay, reports
from house.server_process import LOOPBACK, eventually

pytestmark = pytest.mark.needs("smtp-sink")

DELIVERED, DEFERRED, BOUNCED = "delivered", "deferred", "bounced"
HARD = "500 5.3.0 Error: command failed"
SOFT = "450 4.3.0 Error: command failed"
LATE = "no answer within 3 s"
QUICK = """first = "1s"
max = "1s"
rest = "1s"
rest_max = "1s"
greeting_timeout = "3s"
command_timeout = "3s"
data_timeout = "3s"
block_timeout = "3s"
end_timeout = "3s"
"""
BODY = "Grüße\r\n.\r\n..dots\r\n" + ("." * 70 + "\r\n") * 20


@dataclass(frozen=True)
class Case:
    """smtp-sink's switches, what becomes of a message, and what is said of it."""

    options: str
    fate: str
    said: str = ""

    @property
    def domain(self) -> str:
        return f"sink{zlib.crc32(self.options.encode())}.example"


_REFUSED = [
    *(Case(f"-f {word}", BOUNCED, HARD) for word in ("MAIL", "RCPT", "DATA", ".")),
    *(Case(f"-r {word}", DEFERRED, SOFT) for word in ("MAIL", "RCPT", "DATA", ".")),
    Case("-f DATA -B '552 5.3.4 too much'", BOUNCED, "552 5.3.4 too much"),
    Case("-f CONNECT", DEFERRED, HARD),  # a server that takes nothing now; another one may
    Case("-r CONNECT", DEFERRED, SOFT),
    Case("-f EHLO", DELIVERED),  # by HELO
    Case("-f EHLO,HELO", DEFERRED, HARD),
    Case("-r EHLO", DEFERRED, SOFT),
    Case("-A 0", BOUNCED, "550 This violates SMTP"),  # said after 354, before the end
]
_GONE = [
    *(Case(f"-q {word}", DEFERRED, "451 4.4.2 ") for word in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")),
    *(Case(f"-Q {word}", DEFERRED, "421 4.0.0 ") for word in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")),
    # without pipelining: smtp-sink answers what comes after a command before it answers the command
    *(Case(f"-p -W {word}:30", DEFERRED, LATE) for word in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")),
    Case("-A 30", DEFERRED, LATE),
]
_BEARABLE = [
    *(
        Case(f"{how} {word}", DELIVERED)
        for how in ("-f", "-r", "-q", "-Q")
        for word in ("RSET", "NOOP", "VRFY", "QUIT")
    ),
    Case("-W QUIT:30", DELIVERED),
    Case("-w 1", DELIVERED),
    Case("-H 1", DELIVERED),
    *(
        Case(one, DELIVERED)
        for one in ("-8", "-a", "-C", "-e", "-E", "-F", "-N", "-p", "-P", "-e -8 -N -p -E", "-T 100")
    ),
]
CASES = [*_REFUSED, *_GONE, *_BEARABLE]


class Town:
    """A server with a route to a sink for each case, after every message has had its fate, or more than one attempt."""

    def __init__(self, gate: Premises, sinks: dict[Case, Sink]) -> None:
        self.gate = gate
        self.sinks = sinks
        self.marks = {case: fresh_mark() for case in sinks}
        self.queued: dict[str, dict[str, Any]] = {}
        with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example", timeout=30) as client:
            for case, mark in self.marks.items():
                text = message(mark, to=f"bob@{case.domain}", sender=USER, body=BODY)
                client.sendmail(USER, [f"bob@{case.domain}"], text.encode(), ["BODY=8BITMIME"])
        with suppress(AssertionError):  # what isn't as it should be is told by its own test
            eventually(self._is_settled, 30)

    def _is_settled(self) -> bool:
        entries = json.loads(self.gate.ask("queue", "list", "--json", "--limit", "1000"))["entries"]
        self.queued = {entry["to"][0].partition("@")[2]: entry for entry in entries if entry["sender"] == USER}
        due = [case for case in self.sinks if case.fate != DEFERRED and case.domain in self.queued]
        fresh = [entry for entry in self.queued.values() if entry["attempts"] < 2]
        return not due and not fresh

    def kept(self, case: Case) -> list[bytes]:
        """The messages that the sink has, whatever it has said to them."""
        return [content for content in self.sinks[case].taken() if self.marks[case].encode() in content]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with ExitStack() as stack:
        sinks = {case: stack.enter_context(smtp_sink(*shlex.split(case.options))) for case in CASES}
        routes = [relay(case.domain, sink.port) for case, sink in sinks.items()]
        gate = Premises(tmp_path_factory.mktemp("faults"), listener("mx"), LOCAL, *routes, delivery=QUICK)
        stack.enter_context(gate.running())
        yield Town(gate, sinks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.options)
def test_the_fate_of_a_message(town: Town, case: Case) -> None:
    if case.fate == BOUNCED:
        eventually(lambda: reports(town.gate, town.marks[case], USER))
    told = reports(town.gate, town.marks[case], USER)
    assert len(told) == (case.fate == BOUNCED)
    if case.fate == DEFERRED:
        assert case.domain in town.queued
        assert case.said in town.queued[case.domain]["said"]
        if not case.options.endswith((".", ".:30")):
            assert town.kept(case) == []
        return
    assert case.domain not in town.queued
    if case.fate == BOUNCED:
        [report] = told
        [recipient] = report.recipients
        assert (recipient["Action"], recipient["Diagnostic-Code"]) == ("failed", f"smtp; {case.said}")
        assert recipient["Final-Recipient"] == f"rfc822; bob@{case.domain}"
    else:
        [content] = town.kept(case)
        arrived = message_from_bytes(content)
        text = arrived.get_payload(decode=True)
        assert text.rstrip(b"\n") == BODY.encode().replace(b"\r\n", b"\n").rstrip(b"\n")
        if "-8" in case.options or "-e" in case.options or "-P" in case.options:
            assert content.isascii(), "a server without 8BITMIME gets seven bits"
