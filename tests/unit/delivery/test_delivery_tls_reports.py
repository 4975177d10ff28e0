"""TLS reports (RFC 8460): counted by several workers, put together, sent once, to where the domain wants them."""

from __future__ import annotations

import gzip
import json
from email import message_from_bytes, policy

import pytest

from gatepost.delivery.handshakes import Trouble
from gatepost.delivery.route import Host
from gatepost.delivery.security import PolicyFound, PolicyKind
from gatepost.delivery.tls_reports import DAY_S, Counts, Reporter, Sender, report_places
from gatepost.net.https import Answered
from gatepost.net.resolver import StaticResolver
from gatepost.store import SpoolFull
from gatepost.store.ledger import MemoryLedger

DAY = 20_000
NOON = DAY * DAY_S + DAY_S / 2
STS = PolicyFound("d.example", PolicyKind.STS, ("version: STSv1", "mode: enforce"), ("one.isp.example",))
DANE = PolicyFound("d.example", PolicyKind.TLSA, ("3 1 1 ab",), ("one.isp.example",))
HOST = Host("one.isp.example", address="192.0.2.1")


class _Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Post:
    """The mails and requests that would go out."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, bytes]] = []
        self.posted: list[tuple[str, str, int | None, bytes, dict[str, str]]] = []
        self.status = 201

    async def submit(self, sender: str, to: str, content: bytes) -> None:
        if to.startswith("nobody"):
            raise ValueError("no route")
        if to.startswith("full"):
            raise SpoolFull("no room")
        self.mails.append((sender, to, content))

    async def ask(self, method, name, path, *, port=None, content=b"", headers=None) -> Answered:
        self.posted.append((name, path, port, content, headers))
        return Answered(self.status, "", b"")


class House:
    def __init__(self, *rua: str) -> None:
        self.clock = _Clock()
        self.ledger = MemoryLedger(self.clock)
        self.post = Post()
        self.zone = {"_smtp._tls.d.example": {"TXT": "v=TLSRPTv1; rua=" + ",".join(rua)}}

    def worker(self, number: int = 0) -> tuple[Counts, Reporter]:
        counts = Counts(clock=self.clock)
        sender = Sender("Example Ltd", "tls@me.example", "me.example")
        reporter = Reporter(
            counts,
            self.ledger,
            StaticResolver(self.zone),
            sender,
            self.post.submit,
            self.post,
            worker=number,
            workers=2,
            clock=self.clock,
            chance=lambda: 0.0,
        )
        return counts, reporter


def _report(content: bytes) -> dict:
    return json.loads(gzip.decompress(content))


async def test_two_workers_counts_become_one_mail():
    house = House("mailto:tlsrpt@d.example?subject=x")
    first, sending = house.worker(0)
    second, other = house.worker(1)
    first.negotiated(HOST, STS, None)
    first.negotiated(HOST, STS, Trouble.EXPIRED)
    second.negotiated(HOST, PolicyFound("silent.example"), None)
    for _ in range(3):
        second.negotiated(HOST, STS, None)
        second.negotiated(HOST, STS, Trouble.EXPIRED)
        second.negotiated(HOST, DANE, Trouble.UNTRUSTED)
    await sending.flush()
    await other.flush()
    assert await sending.send_day(DAY) == 1
    assert await sending.send_day(DAY) == 0
    [(sender, to, content)] = house.post.mails
    assert (sender, to) == ("tls@me.example", "tlsrpt@d.example")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.splitlines())) <= 998
    mail = message_from_bytes(content, policy=policy.default)
    assert mail["TLS-Report-Domain"] == "d.example"
    assert mail["TLS-Report-Submitter"] == "me.example"
    assert mail["TLS-Required"] == "No"
    assert mail["Subject"] == (
        "Report Domain: d.example Submitter: me.example Report-ID: <1728000000.d.example@me.example>"
    )
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "tlsrpt"
    _, part = mail.iter_parts()
    assert part.get_content_type() == "application/tlsrpt+gzip"
    assert part.get_filename() == "me.example!d.example!1728000000!1728086399!1728000000.d.example.json.gz"
    assert _report(part.get_content()) == {
        "organization-name": "Example Ltd",
        "date-range": {"start-datetime": "2024-10-04T00:00:00Z", "end-datetime": "2024-10-04T23:59:59Z"},
        "contact-info": "tls@me.example",
        "report-id": "1728000000.d.example",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-domain": "d.example",
                    "policy-string": ["version: STSv1", "mode: enforce"],
                    "mx-host": ["one.isp.example"],
                },
                "summary": {"total-successful-session-count": 4, "total-failure-session-count": 4},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "one.isp.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 4,
                    }
                ],
            },
            {
                "policy": {
                    "policy-type": "tlsa",
                    "policy-domain": "d.example",
                    "policy-string": ["3 1 1 ab"],
                    "mx-host": ["one.isp.example"],
                },
                "summary": {"total-successful-session-count": 0, "total-failure-session-count": 3},
                "failure-details": [
                    {
                        "result-type": "certificate-not-trusted",
                        "receiving-mx-hostname": "one.isp.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 3,
                    }
                ],
            },
        ],
    }


async def test_a_report_is_posted_and_the_next_place_is_tried():
    house = House("https://r.example:8443/v1?x=1", "mailto:nobody@d.example", "mailto:b@d.example")
    counts, reporter = house.worker()
    counts.negotiated(HOST, STS, None)
    await reporter.flush()
    assert await reporter.send_day(DAY) == 1
    [(name, path, port, content, headers)] = house.post.posted
    assert (name, path, port) == ("r.example", "/v1?x=1", 8443)
    assert headers == {"Content-Type": "application/tlsrpt+gzip"}
    assert _report(content)["policies"][0]["summary"]["total-successful-session-count"] == 1
    assert house.post.mails == []

    house = House("https://r.example/", "mailto:nobody@d.example", "mailto:b@d.example")
    house.post.status = 500
    counts, reporter = house.worker()
    counts.negotiated(HOST, STS, None)
    await reporter.flush()
    assert await reporter.send_day(DAY) == 1
    assert [to for _, to, _ in house.post.mails] == ["b@d.example"]


async def test_a_worker_that_was_started_anew_goes_on_counting():
    house = House("mailto:a@d.example")
    for _ in range(3):
        counts, reporter = house.worker()
        await reporter._resume()
        counts.negotiated(HOST, STS, None)
        await reporter.flush()
    assert counts.summaries(DAY)["d.example"][0].succeeded == 3


async def test_days_are_kept_apart_and_what_is_counted_is_bounded(monkeypatch):
    house = House("mailto:a@d.example")
    counts, reporter = house.worker()
    counts.negotiated(HOST, STS, None)
    house.clock.now += DAY_S
    counts.negotiated(HOST, STS, Trouble.NAME)
    await reporter.flush()
    assert counts.summaries(DAY) == {}
    assert await reporter.send_day(DAY) == 1
    monkeypatch.setattr("gatepost.delivery.tls_reports._POLICIES", 3)
    monkeypatch.setattr("gatepost.delivery.tls_reports._FAILURES", 2)
    for at in range(10):
        counts.negotiated(HOST, PolicyFound(f"d{at}.example"), None)
        counts.negotiated(Host(f"h{at}.example"), STS, Trouble.NAME)
    today = counts.summaries(DAY + 1)
    assert len(today) == 3
    assert len(today["d.example"][0].failures) == 2


@pytest.mark.parametrize(
    ("records", "places"),
    [
        (["v=TLSRPTv1; rua=mailto:a@d.example"], ["mailto:a@d.example"]),
        (["v=TLSRPTv1;rua=mailto:a@d.example , https://x/y;"], ["mailto:a@d.example", "https://x/y"]),
        (["v=spf1", "v=TLSRPTv1; other=1; rua=https://x"], ["https://x"]),
        (["v=TLSRPTv1; rua=http://x,ftp:x,mailto:,mailto:a\r\nB@c"], []),
        (["v=TLSRPTv1; rua=mailto:a@d", "v=TLSRPTv1; rua=mailto:b@d"], []),
        (["v=TLSRPTv2; rua=mailto:a@d"], []),
        (["v=TLSRPTv1"], []),
        ([], []),
    ],
)
def test_where_a_domain_wants_them(records, places):
    assert report_places(records) == places


async def test_an_address_from_the_DNS_makes_no_header_of_its_own():
    house = House("mailto:a%0d%0aBcc:x@d.example")
    counts, reporter = house.worker()
    counts.negotiated(HOST, STS, None)
    await reporter.flush()
    assert await reporter.send_day(DAY) == 0
    assert house.post.mails == []


async def test_a_full_disk_loses_a_report_and_not_the_reporter():
    house = House("mailto:full@d.example", "mailto:other@d.example")
    counts, reporter = house.worker()
    counts.negotiated(HOST, STS, None)
    await reporter.flush()
    assert await reporter.send_day(DAY) == 1
    assert [to for _, to, _ in house.post.mails] == ["other@d.example"]
