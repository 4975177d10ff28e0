"""Sentences of RFC 6533 and RFC 8460 that reports keep to, found wanting once."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest

from contract.report_grammar import check_report
from gatepost.content.dsn import About, Action, Outcome, render_report
from gatepost.content.tls_report import Report, render_mail
from gatepost.model import Bytes, Path, Recipient, xtext

NOON = 1_795_500_000


@pytest.mark.parametrize("address", ["jörg+tag=a@b.example", '"jörg a"@b.example', '"jörg\\\\a"@b.example'])
@pytest.mark.parametrize("smtputf8", [False, True])
def test_an_address_written_in_ascii_reads_back_as_it_was(address: str, smtputf8: bool) -> None:
    """rfc6533#3: in `\\x{…}` go the characters beyond ASCII, and `+`, `=`, `\\` and the blank with them."""
    recipient = Recipient(Path.parse(address), {"ORCPT": f"utf-8;{in_ascii(address)}"})
    about = About(
        "mx.example", "06HK3M-9Q7TZA-1", Path.parse("ann@own.example"), Bytes(b""), NOON, NOON, "=_b", "id@mx.example",
        smtputf8=smtputf8,
    )  # fmt: skip
    _, (_, block) = check_report(render_report(about, [Outcome(recipient, Action.FAILED, "5.1.1")]))
    for name in ("Original-Recipient", "Final-Recipient"):
        kind, _, written = block[name].partition("; ")
        assert kind == "utf-8"
        if smtputf8:
            assert written == address
        else:
            assert xtext.original_recipient(f"utf-8;{written}") == ("utf-8", address)
            assert not set(written) & set("+= ")


def in_ascii(address: str) -> str:
    return "".join(c if (c.isascii() and c.isalnum()) or c in '@."' else f"\\x{{{ord(c):02X}}}" for c in address)


@pytest.mark.parametrize("length", [10, 60, 250])
def test_a_tls_report_for_a_long_domain_has_a_boundary_that_mime_knows(length: int) -> None:
    """rfc2046#5.1.1: a boundary has at most 70 characters; a report's id has the domain in it."""
    domain = ("d" * 50 + ".") * (length // 51) + "d" * (length % 51)
    report = Report("Own", "tls@own.example", f"{NOON}.{domain}", domain, NOON, NOON + 86399, [])
    content = render_mail(report, submitter="own.example", sender="tls@own.example", to="r@d.example", now=NOON)
    message = message_from_bytes(content, policy=policy.default)
    boundary = message.get_boundary()
    assert boundary is not None
    assert len(boundary) <= 70
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "application/tlsrpt+gzip"]
