"""RET, ENVID, NOTIFY, ORCPT (RFC 3461) and REQUIRETLS (RFC 8689) as the server machine reads them."""

from __future__ import annotations

import pytest

from gatepost.model import Reply, xtext
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp import grammar
from gatepost.wire.smtp.server import Profile
from scenes.smtp_machine.house import greeted, house, in_transaction

MAIL = Profile("x").mail_parameters
RCPT = Profile("x").rcpt_parameters
# what would break a header field or a report, or isn't xtext at all  (attack I5)
EVIL = [
    "+00",
    "a+00b",
    "+0A",
    "+0D+0A.",
    "a+0Abcc:x",
    "+7F",
    "+80",
    "+E2+82+AC",
    "a+b",
    "a+",
    "+4",
    "+GG",
    "+0a",
    "+4a",
]


@pytest.mark.parametrize(
    "parameter",
    ["RET=FULL", "RET=hdrs", "ENVID=QQ314159", "ENVID=a+20b+2Bc+3Dd", "ENVID=" + "x" * 100, "RET=FULL ENVID=1"],
)
def test_what_mail_may_ask_for(parameter: str) -> None:
    mail = grammar.mail(f"FROM:<a@example.org> {parameter}", MAIL)
    assert isinstance(mail, ev.Mail)
    assert dict(mail.parameters) == dict(one.split("=") for one in parameter.split())


@pytest.mark.parametrize(
    "parameter", ["RET", "RET=ALL", "RET=FULL,HDRS", "ENVID", "ENVID=" + "x" * 101, "ENVID=ü", "ENVID=a=b"]
)
def test_what_mail_may_not_ask_for(parameter: str) -> None:
    reply = grammar.mail(f"FROM:<a@example.org> SMTPUTF8 {parameter}", MAIL)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY=NEVER", "NOTIFY=never", "NOTIFY=SUCCESS,FAILURE,DELAY", "NOTIFY=Delay", "ORCPT=rfc822;ann@example.org",
        "ORCPT=RFC822;ann+2Btag@example.org", "ORCPT=x-local;ann+20b", "ORCPT=utf-8;gr\\x{FC}n@example.org",
        "ORCPT=utf-8;grün@example.org", "ORCPT=rfc822;" + "x" * 493, "NOTIFY=FAILURE ORCPT=rfc822;a@b.example",
    ],
)  # fmt: skip
def test_what_rcpt_may_ask_for(parameter: str) -> None:
    rcpt = grammar.rcpt(f"TO:<a@example.org> {parameter}", smtputf8=True, allowed=RCPT)
    assert isinstance(rcpt, ev.Rcpt)
    assert dict(rcpt.parameters) == dict(one.split("=") for one in parameter.split())


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY", "NOTIFY=", "NOTIFY=SOON", "NOTIFY=NEVER,DELAY", "NOTIFY=DELAY,NEVER", "NOTIFY=DELAY,DELAY",
        "NOTIFY=,DELAY", "NOTIFY=SUCCESS, DELAY", "ORCPT", "ORCPT=ann@example.org", "ORCPT=rfc822;", "ORCPT=;a",
        "ORCPT=rfc 822;a", "ORCPT=r/f;a", "ORCPT=rfc822;" + "x" * 494, "ORCPT=rfc822;grün@example.org",
        "ORCPT=utf-8;a\\x{0A}b", "ORCPT=utf-8;a\\x{1}b", "ORCPT=utf-8;\\x{110000}", "ORCPT=utf-8;\\x{FFFFFF}",
        "ORCPT=utf-8;\\x{D800}", "ORCPT=utf-8;a\u2028b", "ORCPT=utf-8;\u202eb",
    ],
)  # fmt: skip
def test_what_rcpt_may_not_ask_for(parameter: str) -> None:
    reply = grammar.rcpt(f"TO:<a@example.org> {parameter}", smtputf8=True, allowed=RCPT)
    assert isinstance(reply, Reply)
    assert reply.code in (501, 555)


@pytest.mark.parametrize("evil", EVIL)
def test_I5_what_decodes_to_no_printable_text_is_refused(evil: str) -> None:
    made = greeted()
    assert made.say(f"MAIL FROM:<a@example.org> ENVID={evil}").startswith("501 5.5.4")
    assert in_transaction().say(f"RCPT TO:<a@example.org> ORCPT=rfc822;{evil}").startswith("501 5.5.4")
    for kind in ("rfc822", "x-x"):
        assert xtext.original_recipient(f"{kind};{evil}") is None
    assert xtext.decode(evil) is None


@pytest.mark.parametrize("evil", ["+00", "a+0Ab", "+0D", "+7F", "a+b", "\\x{A}", "\\x{00}", "\\x{7F}"])
def test_I5_in_the_utf8_type_as_well(evil: str) -> None:
    assert xtext.original_recipient(f"utf-8;{evil}") is None


def test_parameters_need_ehlo() -> None:
    made = house()
    made.each("HELO me", "MAIL FROM:<a@example.org>")
    assert made.say("RCPT TO:<b@example.org> NOTIFY=NEVER").startswith("555 5.5.4")
    assert made.say("RCPT TO:<b@example.org>").startswith("250")


@pytest.mark.parametrize(("excess", "code"), [(0, "250"), (1, "501")])
def test_an_rcpt_line_has_room_for_the_longest_orcpt(excess: int, code: str) -> None:
    made = in_transaction(command_line=512)
    local, domain = "l" * 64, ".".join(["d" * 60] * 3)
    line = f"RCPT TO:<{local}@{domain}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + "x" * (493 + excess)
    assert made.say(line).startswith(code)


def test_requiretls_is_there_over_tls_only() -> None:
    plain = house(requiretls=True, starttls=True)
    assert "REQUIRETLS" not in plain.say("EHLO me")
    assert plain.say("MAIL FROM:<a@example.org> REQUIRETLS").startswith("530 5.7.10")
    covered = house(requiretls=True, starttls=True, tls=True)
    assert "250-REQUIRETLS\r\n" in covered.say("EHLO me")
    assert covered.say("MAIL FROM:<a@example.org> REQUIRETLS=1").startswith("501 5.5.4")
    assert covered.say("MAIL FROM:<a@example.org> REQUIRETLS").startswith("250")
    assert covered.session.parameters == {"REQUIRETLS": ""}
    assert house(tls=True).each("EHLO me", "MAIL FROM:<a@example.org> REQUIRETLS").startswith("555 5.5.4")
