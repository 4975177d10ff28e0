"""Laws of rules: what is shown is read as the same; a rule fits a line if any of its items does."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from gatepost.hooks.patterns import RuleError, path_in
from gatepost.hooks.rules import Item, Rule, parse_rule

LABELS = st.text("abcxyz09", min_size=1, max_size=4)
DOMAINS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
DOMAIN_PATTERNS = st.builds(lambda star, dot, name: star + (dot if star else "") + name, *(
    st.sampled_from(["", "*"]), st.sampled_from(["", "."]), DOMAINS)) | st.just("*")  # fmt: skip
NAMES = st.text("abcxyz09.+-_'=", min_size=1, max_size=5)
NAME_PATTERNS = st.builds(lambda before, name, after: before + name + after, *(
    st.sampled_from(["", "*"]), NAMES, st.sampled_from(["", "*"]))) | st.just("*")  # fmt: skip
ADDRESS_PATTERNS = NAME_PATTERNS | st.builds(lambda name, domain: f"{name}@{domain}", NAME_PATTERNS, DOMAIN_PATTERNS)
ITEMS = st.one_of(
    st.builds(Item, st.sampled_from(["mail", "rcpt"]), ADDRESS_PATTERNS),
    st.builds(Item, st.just("ehlo"), DOMAIN_PATTERNS),
    st.builds(Item, st.sampled_from(["data", "xfoo", "x-9", "hello"])),
)
SOUND = st.builds(Rule, st.lists(ITEMS, min_size=1, max_size=4).map(tuple))
STRICT = st.lists(ITEMS | st.builds(Item, st.just("helo"), DOMAIN_PATTERNS), min_size=1, max_size=4).map(
    lambda items: Rule(tuple(items), ehlo_is_helo=False)
)
LINES = st.one_of(
    st.builds("{} {}".format, st.sampled_from(["EHLO", "helo", "LHLO"]), DOMAINS),
    st.builds("MAIL FROM:<{}@{}>".format, LABELS, DOMAINS),
    st.builds("rcpt to: <{}@{}> X=1".format, LABELS, DOMAINS),
    st.sampled_from(["", "DATA", "XFOO a", "MAIL", "RCPT TO:<", "MAIL FROM:<>"]),
    st.text(max_size=30),
)


@given(SOUND | STRICT)
def test_what_is_shown_is_read_as_the_same_rule(rule):
    assert parse_rule(str(rule), ehlo_is_helo=rule.ehlo_is_helo) == rule


@given(SOUND | STRICT, st.sampled_from(["upper", "blanks", "bare"]))
def test_spelling_makes_no_difference(rule, how):
    text = str(rule)
    match how:
        case "upper":
            text = text.upper()
        case "blanks":
            text = text.replace("; ", "\t;  ;").replace("mail from=", "mail   from\t= ")
        case _:
            text = text.replace("mail from=", "mail=").replace("rcpt to=", "rcpt=")
    assert parse_rule(text, ehlo_is_helo=rule.ehlo_is_helo) == rule


@given(SOUND | STRICT, LINES)
def test_any_item_is_enough(rule, line):
    alone = [Rule((item,), rule.ehlo_is_helo) for item in rule.items]
    assert rule.fits_line(line) == any(one.fits_line(line) for one in alone)
    verb = (line.split() or [""])[0]
    assert not rule.fits_line(line) or rule.fits_verb(verb)


@given(SOUND, st.sampled_from(["MAIL FROM", "RCPT TO"]), LABELS, DOMAINS)
def test_the_line_is_matched_as_the_envelope_will_be(rule, command, local, domain):
    line = f"{command}:<{local}@{domain}>"
    path = path_in(line)
    verb = command.split()[0].lower()
    named = [item for item in rule.items if item.verb == verb]
    if path is None:  # such as a domain that ends in a number
        assert rule.fits_line(line) == any(item.pattern == "*" for item in named)
    else:
        assert rule.fits_line(line) == any(item.fits_path(path) for item in named)


@given(st.text('ehlo mailfrom=*@x.;<>"', max_size=40) | st.text(max_size=40))
def test_what_is_refused_has_a_place(text):
    try:
        rule = parse_rule(text)
    except RuleError as error:
        assert 0 <= error.position <= len(text)
        assert error.pointed(text).count("\n") == text.count("\n") + 1
    else:
        assert rule is None or parse_rule(str(rule)) == rule
