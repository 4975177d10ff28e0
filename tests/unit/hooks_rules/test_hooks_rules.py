"""The grammar of rules: what is read, what is refused and where, and which lines a rule fits."""

from __future__ import annotations

import pytest

from gatepost.hooks.patterns import RuleError
from gatepost.hooks.rules import Item, Rule, parse_rule
from gatepost.model import NULL_PATH, Path, Recipient


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ehlo=*.microsoft.com", "ehlo=*.microsoft.com"),
        ("mail from=*", "mail from=*"),
        ("rcpt to=*@sncore.com", "rcpt to=*@sncore.com"),
        ("RCPT", "rcpt to=*"),
        (" Mail  From = INFO* ;; EHLO ;", "mail from=info*; ehlo=*"),
        ("mail=*x*@*.example", "mail from=*x*@*.example"),
        ("XFOO; starttls", "xfoo; starttls"),
        ("helo=a", "ehlo=a"),
        ("lhlo=[192.0.2.1]", "ehlo=[192.0.2.1]"),
        ("rcpt to=*@*münchen.example", "rcpt to=*@*münchen.example"),
        ("mail from=<>", "mail from=<>"),
    ],
)
def test_a_rule_is_read_and_shown(text, canonical):
    assert str(parse_rule(text)) == canonical


@pytest.mark.parametrize("text", ["", "  ", ";", " ; ;"])
def test_an_empty_rule_is_none(text):
    assert parse_rule(text) is None


@pytest.mark.parametrize(
    ("text", "caret", "words"),
    [
        ("ehlo=ann@x.example", "        ^", "no @"),
        ("mail from=*; rcpt to=a*b@x", "                      ^", "asterisk in its middle"),
        ("rcpt to=@x.example", "        ^", "*@x.example"),
        ("rcpt to=ann@", "            ^", "no domain"),
        ("rcpt to= **", "          ^", "asterisk"),
        ("rcpt to=*@x.*", "            ^", "at the beginning"),
        ("ehlo=x_y.*", "         ^", "at the beginning"),
        ("ehlo=*.a b", "        ^", "a blank"),
        ("mail from=<a@b>", "          ^", '"<"'),
        ("mail from=a@b@c", "           ^", '"@"'),
        ("rctp to=*", "^", '"rctp to"'),
        (" xfoo=a", " ^", '"xfoo"'),
        ("ehlo; =*", "      ^", "no verb before"),
        ("mail from=", "          ^", "has no pattern"),
        ("ehlo; (x)", "      ^", "can't be a verb"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(text, caret, words):
    with pytest.raises(RuleError) as raised:
        parse_rule(text)
    assert words in str(raised.value)
    assert raised.value.pointed(text) == f"{text}\n{caret}"


def fits(rule: str, line: str, *, ehlo_is_helo: bool = True) -> bool:
    parsed = parse_rule(rule, ehlo_is_helo=ehlo_is_helo)
    assert parsed is not None
    return parsed.fits_line(line)


@pytest.mark.parametrize(
    ("rule", "line", "expected"),
    [
        ("rcpt to=*@x.example", "RCPT TO:<Ann@X.Example> NOTIFY=NEVER", True),
        ("rcpt=*@x.example", "rcpt to: <ann@x.example>", True),
        ("rcpt to=*@x.example", "RCPT TO:ann@x.example", True),
        ("rcpt to=*@x.example", "RCPT TO:<@relay.example,@b.example:ann@x.example>", True),
        ("rcpt to=*@x.example", 'RCPT TO:<"a>;b"@x.example>', True),
        ("rcpt to=*@x.example", "RCPT TO:<ann@y.example> ORCPT=rfc822;<ann@x.example>", False),
        ("rcpt to=*@x.example", "RCPT TO:<ann@xx.example>", False),
        ("rcpt to=*@*", "RCPT TO:<<>", False),
        ("rcpt to=*", "RCPT TO:<<>", True),
        ("rcpt", "RCPT", True),
        ("rcpt to=postmaster", "RCPT TO:<Postmaster>", True),
        ("rcpt to=*@x.example", "RCPT", False),
        ("rcpt to=*@x.example", "MAIL FROM:<ann@x.example>", False),
        ("mail from=*@x.example", "MAIL FROM:<ann@x.example> SIZE=5", True),
        ("mail from=<>", "MAIL FROM:<>", True),
        ("mail from=<>", "MAIL FROM:<a@x.example>", False),
        ("mail from=*", "MAIL FROM:<>", True),
        ("mail from=ann", "MAIL FROM:<ann@any.example>", True),
        ("mail from=*@*.münchen.example", "MAIL FROM:<a@b.xn--mnchen-3ya.example>", True),
        ("ehlo=*.x", "EHLO Mail.X ", True),
        ("ehlo=*.x", "EHLO", False),
        ("ehlo", "EHLO", True),
        ("ehlo=*.x", "HELO mail.x", True),
        ("xfoo", "XFoo bar", True),
        ("xfoo", "XFOOBAR", False),
        ("hello", "EHLO x", False),
        ("ehlo=*", "HELLO x", False),
        ("ehlo; quit", "QUIT", True),
        ("ehlo", "", False),
        ("ehlo", "   ", False),
    ],
)
def test_at_command_the_line_itself_is_matched(rule, line, expected):
    assert fits(rule, line) is expected


def test_ehlo_is_helo_only_where_it_is_said():
    assert not fits("ehlo=*", "HELO x", ehlo_is_helo=False)
    assert fits("ehlo=*", "EHLO x", ehlo_is_helo=False)
    assert fits("ehlo=*", "LHLO x", ehlo_is_helo=False)
    assert fits("helo=x", "HELO x", ehlo_is_helo=False)
    assert not fits("helo=x", "EHLO x", ehlo_is_helo=False)
    both = parse_rule("helo=x", ehlo_is_helo=False)
    assert both is not None and both.fits_hello("X") and str(both) == "helo=x"


def test_where_a_rule_means_something():
    rule = Rule((Item("xfoo"),))
    assert rule.can_match_at("command")
    assert not rule.can_match_at("message")
    assert not rule.can_match_at("recipient")
    envelope = Rule((Item("rcpt", "*@x"),))
    assert envelope.can_match_at("message") and envelope.can_match_at("out-command")
    assert not envelope.can_match_at("out-session") and not envelope.can_match_at("hello")
    assert Rule((Item("ehlo", "a"),)).can_match_at("out-session")


def test_paths_of_the_envelope():
    rule = parse_rule("mail from=*@a.example; rcpt to=b*@b.example")
    assert rule is not None
    ann, bob = Recipient(Path("ann", "b.example")), Recipient(Path("Bob", "b.example"))
    assert list(rule.among("", NULL_PATH, [ann, bob])) == [bob]
    assert list(rule.among("", Path("x", "a.example"), [ann, bob])) == [ann, bob]
