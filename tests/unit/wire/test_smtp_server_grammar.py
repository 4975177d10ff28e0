"""Command lines: addresses and parameters as clients write them (attack G1, and RFC 5321 §4.1.2)."""

from __future__ import annotations

import pytest

from gatepost.model import Body, Path, Reply
from gatepost.wire.smtp import grammar
from gatepost.wire.smtp.events import Mail, Rcpt
from gatepost.wire.smtp.profile import BareNewline
from gatepost.wire.smtp.states import Verb
from scenes.smtp_machine.house import greeted, in_transaction

ALL = frozenset({"SIZE", "BODY", "SMTPUTF8", "BINARYMIME", "PRDR", "AUTH"})
A64 = "a" * 64
LONG_DOMAIN = ".".join(["d" * 60] * 3)  # 182 octets: with 64 and the @, 247

GOOD = [
    ("<ann@example.org>", "ann@example.org"),
    (" <ann@example.org>", "ann@example.org"),  # a blank after the colon
    ("<Ann@Example.ORG>", "Ann@example.org"),
    ('<"a b"@example.org>', '"a b"@example.org'),
    ('<"a@b"@example.org>', '"a@b"@example.org'),
    ('<"a>b"@example.org>', '"a>b"@example.org'),
    ('<"a\\"b"@example.org>', '"a\\"b"@example.org'),
    ('<"ann"@example.org>', "ann@example.org"),
    ("<@a.example,@b.example:ann@example.org>", "ann@example.org"),
    ("<ann@[192.0.2.1]>", "ann@[192.0.2.1]"),
    ("<ann@[IPv6:2001:DB8::1]>", "ann@[IPv6:2001:db8::1]"),
    ("<ann%example.com@example.org>", "ann%example.com@example.org"),  # for policy to judge
    ("<postmaster>", "postmaster"),
    ("<PostMaster>", "PostMaster"),
    (f"<{A64}@example.org>", f"{A64}@example.org"),
    (f"<{A64}@{LONG_DOMAIN}.abcdef>", f"{A64}@{LONG_DOMAIN}.abcdef"),  # 254
    ("<-f@example.org>", "-f@example.org"),
    ("<|sh@example.org>", "|sh@example.org"),
]
BAD = [
    "", "ann@example.org", "<ann@example.org", "ann@example.org>", "<<ann@example.org>>", "<ann@example.org>x",
    "<ann@example.org> <b@example.org>", "<>", "<ann>", "<@example.org>", "<ann@>", "<ann@example.org.>",
    "<a..b@example.org>",
    "<.a@example.org>", "<a.@example.org>", "<a b@example.org>", "<a@b@example.org>", "<a,b@example.org>",
    "<a(b)@example.org>",
    '<"a"b@example.org>', '<"@example.org>', '<""@example.org>', "<a@-example.org>", "<a@example-.org>",
    "<a@ex_ample.org>",
    "<a@192.0.2.1>", "<a@[192.0.2.1>", "<a@[192.0.2.256]>", "<a@[IPv6:fe80::1%eth0]>", "<a@[IPv6:]>", "<a@[x:y]>",
    "<a@[]>",
    f"<{A64}a@example.org>", f"<{A64}@{LONG_DOMAIN}.abcdefg>", f"<a@{'d' * 64}.org>", "<@a.example:>", "<@a.example>",
    "<@a.example,b.example:a@example.org>", "<@-:a@example.org>", "  <ann@example.org>", "<ann @example.org>",
    "<ann@ example.org>",
    "<ann\\@example.org>", "<ann@exa mple.org>", "<ann@example.org", '<"ann@example.org>', "<ann@example..org>",
]  # fmt: skip


@pytest.mark.parametrize(("written", "address"), GOOD)
def test_G1_addresses_that_are_some(written: str, address: str) -> None:
    rcpt = grammar.rcpt(f"TO:{written}", smtputf8=False)
    assert isinstance(rcpt, Rcpt) and rcpt.path.address == address
    if "postmaster" not in written.lower():
        mail = grammar.mail(f"from:{written}", ALL)
        assert isinstance(mail, Mail) and mail.path == rcpt.path


@pytest.mark.parametrize("written", BAD)
def test_G1_addresses_that_are_none(written: str) -> None:
    rcpt = grammar.rcpt(f"TO:{written}", smtputf8=False)
    assert isinstance(rcpt, Reply) and (rcpt.code, rcpt.status) in {(501, "5.5.4"), (553, "5.1.3")}, rcpt
    if written != "<>":
        mail = grammar.mail(f"FROM:{written}", ALL)
        assert isinstance(mail, Reply) and (mail.code, mail.status) in {(501, "5.5.4"), (553, "5.1.7")}


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\u00ad", "\ufeff", "\u202e", "\u3000", "\u00a0"])
def test_G1_invisible_characters(hidden: str) -> None:
    for address in (f"<an{hidden}n@example.org>", f'<"an{hidden}n"@example.org>'):
        reply = grammar.rcpt(f"TO:{address}", smtputf8=True)
        assert isinstance(reply, Reply) and reply.code == 553


def test_G1_bare_postmaster_only_receives() -> None:
    assert isinstance(grammar.mail("FROM:<postmaster>", ALL), Reply)


def test_international_addresses_need_the_parameter() -> None:
    mail = grammar.mail("FROM:<jürgen@exämple.org> SMTPUTF8", ALL)
    assert isinstance(mail, Mail) and mail.path == Path("jürgen", "xn--exmple-cua.org")
    assert grammar.mail("FROM:<jürgen@example.org>", ALL) == Reply(
        553, "5.6.7", "an address beyond ASCII needs SMTPUTF8"
    )


def test_parameters_are_read() -> None:
    mail = grammar.mail("FROM:<> size=100 Body=8bitmime SMTPUTF8 PRDR AUTH=ann+40example.org", ALL)
    assert mail == Mail(Path(), mail.parameters, 100, Body.EIGHT_BIT_MIME, True, True)
    assert dict(mail.parameters) == {
        "SIZE": "100",
        "BODY": "8bitmime",
        "SMTPUTF8": "",
        "PRDR": "",
        "AUTH": "ann+40example.org",
    }


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("SIZE", 501), ("SIZE=", 501), ("SIZE=-1", 501), ("SIZE=0x10", 501), ("SIZE=1_0", 501), ("SIZE=" + "9" * 21,
         501),
        ("SIZE=1 SIZE=1", 501), ("SIZE=1 size=2", 501), ("SIZE=1=2", 501), ("=1", 501), ("BODY=9BIT", 501), ("BODY",
         501),
        ("SMTPUTF8=yes", 501), ("PRDR=1", 501), ("AUTH", 501), ("X=1", 555), ("RET=HDRS", 555), ("ENVID=a", 555),
        ("BINARYMIME", 555), ("SI_ZE=1", 501), ("-X=1", 501),
    ],
)  # fmt: skip
def test_parameters_that_are_wrong(parameters: str, code: int) -> None:
    reply = grammar.mail(f"FROM:<a@example.org> {parameters}", ALL)
    assert isinstance(reply, Reply) and reply.code == code


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_parameter_that_is_not_offered_is_unknown(name: str) -> None:
    written = {"SIZE": "SIZE=1", "BODY": "BODY=7BIT", "BINARYMIME": "BODY=BINARYMIME", "AUTH": "AUTH=<>"}.get(
        name, name
    )
    assert isinstance(grammar.mail(f"FROM:<a@example.org> {written}", ALL), Mail)
    assert isinstance(grammar.mail(f"FROM:<a@example.org> {written}", ALL - {name}), Reply)


def test_rcpt_has_no_parameters_without_dsn() -> None:
    assert in_transaction(dsn=False).say("RCPT TO:<a@example.org> NOTIFY=NEVER").startswith("555 5.5.4")


@pytest.mark.parametrize(
    ("line", "verb"),
    [("mail from:<>", Verb.MAIL), ("Noop", Verb.NOOP), ("MAILX", Verb.UNKNOWN), (" NOOP", Verb.UNKNOWN)],
)
def test_verbs_are_found_in_any_case(line: str, verb: Verb) -> None:
    assert grammar.split(line)[0] is verb


@pytest.mark.parametrize("line", [b"NO\0OP", b"NOOP\t", b"NOOP\x7f", b"NOOP \xff", b"\xc3", b"NOOP\r"])
def test_control_characters_and_broken_utf8_are_refused(line: bytes) -> None:
    made = greeted()
    made.receive(line + b"\r\n")
    assert made.output.startswith(b"500 5.5.2 ") and not made.session.wants_close


def test_a_bare_lf_ends_a_command_only_where_it_is_normalised() -> None:
    made = greeted()
    made.receive(b"NOOP\n")
    assert made.output.startswith(b"500 5.5.2 a line ends with CRLF")
    made = greeted(bare_newline=BareNewline.NORMALISE)
    made.receive(b"NOOP\n")
    assert made.output == b"250 2.0.0 ok\r\n"


@pytest.mark.parametrize("line", ["EHLO", "EHLO a b", "HELO", "HELO " + "a" * 256, "EHLO exämple.org"])
def test_hello_wants_one_name(line: str) -> None:
    assert greeted().say(line).startswith("501 ")


@pytest.mark.parametrize("line", ["QUIT now", "RSET all", "DATA x", "VRFY", "EXPN"])
def test_arguments_too_many_or_missing(line: str) -> None:
    assert in_transaction().say(line).startswith("501 5.5.4")
