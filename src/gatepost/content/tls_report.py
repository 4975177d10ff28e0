"""SMTP TLS reports (RFC 8460): how sessions with a domain's mail servers went, as JSON, and the mail it goes in."""

from __future__ import annotations

import gzip
import json
from base64 import encodebytes
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gatepost.content.received import date

MEDIA_TYPE = "application/tlsrpt+gzip"  # rfc8460#6.4


@dataclass(frozen=True, slots=True)
class Failures:
    """Sessions that went wrong alike: why, in the RFC's words (§4.3), with which host, and how many."""

    result: str
    host: str
    address: str
    count: int


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """What happened under one policy: its kind (`tlsa`, `sts`, `no-policy-found`), its text and the hosts it admits."""

    kind: str
    domain: str
    text: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    succeeded: int = 0
    failures: Sequence[Failures] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One domain's day. Times are Unix time in seconds; `id` is a dot-atom that no other report has."""

    organization: str
    contact: str
    id: str
    domain: str
    begin: float
    end: float
    policies: Sequence[PolicySummary]

    def compressed(self) -> bytes:
        """The JSON (RFC 8460 §4), gzipped."""
        plain = json.dumps(self._plain(), ensure_ascii=True, separators=(",", ":")).encode("ascii")
        return gzip.compress(plain, mtime=0)

    def file_name(self, submitter: str) -> str:
        """RFC 8460 §5.1; `submitter` is the domain that sends the report."""
        return f"{submitter}!{self.domain}!{self.begin:.0f}!{self.end:.0f}!{self.id}.json.gz"

    def _plain(self) -> dict[str, Any]:
        return {
            "organization-name": self.organization,
            "date-range": {"start-datetime": _moment(self.begin), "end-datetime": _moment(self.end)},
            "contact-info": self.contact,
            "report-id": self.id,
            "policies": [_policy(one) for one in self.policies],
        }


def _policy(one: PolicySummary) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": one.kind, "policy-domain": one.domain}
    if one.text:
        policy["policy-string"] = [*one.text]
    if one.hosts:
        policy["mx-host"] = [*one.hosts]
    found: dict[str, Any] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": one.succeeded,
            "total-failure-session-count": sum(each.count for each in one.failures),
        },
    }
    if one.failures:
        found["failure-details"] = [
            {
                "result-type": each.result,
                "receiving-mx-hostname": each.host,
                **({"receiving-ip": each.address} if each.address else {}),
                "failed-session-count": each.count,
            }
            for each in one.failures
        ]
    return found


def render_mail(report: Report, *, submitter: str, sender: str, to: str, now: float) -> bytes:
    """The mail with a report (RFC 8460 §5.3), ready to be sent from `sender` to `to`, addresses both."""
    name = report.file_name(submitter)
    boundary = f"tls-report-{report.begin:.0f}"  # not the domain: rfc2046#5.1.1 has no more than 70 characters
    head = [
        f"From: {sender}",
        f"To: {to}",
        f"Date: {date(now)}",
        f"Message-ID: <{report.id}@{submitter}>",
        f"Subject: Report Domain: {report.domain}\r\n Submitter: {submitter}\r\n Report-ID: <{report.id}@{submitter}>",
        f"TLS-Report-Domain: {report.domain}",
        f"TLS-Report-Submitter: {submitter}",
        "TLS-Required: No",  # rfc8460#3: what is broken mustn't keep the news of it from arriving
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"',
    ]
    days = f"from {_moment(report.begin)}\r\nto {_moment(report.end)}"
    text = f"How TLS went with the mail servers of {report.domain}, {days}."
    parts = [
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        text,
        f"--{boundary}",
        f"Content-Type: {MEDIA_TYPE}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\r\n filename="{name}"',
        "",
        encodebytes(report.compressed()).decode("ascii").replace("\n", "\r\n") + f"--{boundary}--",
        "",
    ]
    return "\r\n".join([*head, "", *parts]).encode("ascii")


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
