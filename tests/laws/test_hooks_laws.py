"""Laws of the hooks: how opinions become one verdict, what a reply may look like, what parsing may raise."""

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.hooks import verdicts as v
from gatepost.hooks.effects import EFFECTS, complaint
from gatepost.hooks.fold import ends_chain, fold, graver
from gatepost.hooks.records import RecordError, plain_edit, plain_verdict, read_edit, read_verdict
from gatepost.hooks.replies import MAX_LINE, refusal, safe_text, success
from gatepost.hooks.rules import RuleError, When, parse_rule, parse_when
from gatepost.model import (
    NULL_PATH,
    AddHeader,
    AddRecipient,
    Bytes,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    Path,
    Peer,
    Recipient,
    RemoveRecipient,
    ReplaceBody,
    ReplacePart,
    Reply,
    Split,
)
from gatepost.wire.smtp.replies import encode

REASONS = st.text(max_size=8)
CODES = st.integers(200, 599)
REPLIES = st.builds(lambda code, text: Reply(code, "", text), CODES, st.text(max_size=40))
PASSING = st.one_of(
    st.just(v.PROCEED), st.sampled_from(v.Scope).map(v.Accept), REASONS.map(v.Quarantine)
)  # what lets the next binding be asked
ENDING = st.one_of(
    st.one_of(REPLIES, REASONS).map(v.Refuse), REASONS.map(v.Discard), REASONS.map(v.Take), REPLIES.map(v.Hangup)
)
JUDGING = st.one_of(PASSING, ENDING)
TOKEN = "06HK3M-9Q7TZA"


# ── fold ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(JUDGING)
def test_saying_it_twice_is_saying_it_once(verdict):
    assert graver(verdict, verdict) == verdict
    assert fold([verdict, verdict]) == fold([verdict])


@given(st.lists(PASSING), ENDING, st.lists(JUDGING))
def test_the_first_ending_verdict_wins(before, ending, after):
    assert fold([*before, ending, *after]) is ending


@given(st.lists(PASSING), st.randoms(use_true_random=False))
def test_order_doesnt_matter_while_nobody_ends_the_chain(opinions, random):
    shuffled = opinions.copy()
    random.shuffle(shuffled)
    assert type(fold(shuffled)) is type(fold(opinions))
    assert not ends_chain(fold(opinions))


@given(st.lists(PASSING), REASONS, st.lists(PASSING))
def test_nothing_undoes_a_quarantine(before, reason, after):
    folded = fold([*before, v.Quarantine(reason), *after])
    assert isinstance(folded, v.Quarantine)
    first = next(one for one in [*before, v.Quarantine(reason)] if isinstance(one, v.Quarantine))
    assert folded == first


@given(st.lists(JUDGING), st.lists(JUDGING))
def test_a_chain_may_be_folded_in_two_parts(first, second):
    assert graver(fold(first), fold(second)) == fold([*first, *second])


LINES = st.text("abc <>@", min_size=1, max_size=8)
SENDING = st.one_of(st.just(v.PROCEED), LINES.map(v.Send))
ENDING_OUT = st.one_of(
    st.just(v.Skip()),
    st.just(v.Repeat()),
    LINES.map(v.Repeat),
    st.binary(min_size=1, max_size=8).map(v.Blob),
    st.sampled_from(v.Target).map(v.Jump),
    st.one_of(REPLIES, REASONS).map(v.Fail),
    st.one_of(REPLIES, REASONS).map(v.EndSession),
)


@given(st.lists(SENDING))
def test_on_the_way_out_the_last_line_goes(opinions):
    lines = [one for one in opinions if isinstance(one, v.Send)]
    assert fold(opinions) == (lines[-1] if lines else v.PROCEED)


@given(st.lists(SENDING), ENDING_OUT, st.lists(st.one_of(SENDING, ENDING_OUT)))
def test_on_the_way_out_the_first_ending_verdict_wins(before, ending, after):
    assert fold([*before, ending, *after]) is ending


@given(st.text(max_size=40))
def test_I1_a_line_that_may_be_sent_is_one_line(text):
    if v.is_line(text):
        octets = text.encode()
        assert 0 < len(octets) <= v.MOST_LINE
        assert not any(octet < 32 or octet == 127 for octet in octets)
    else:
        with pytest.raises(ValueError, match="one line"):
            v.send_line(text)


@given(st.sampled_from(sorted(EFFECTS, key=str)), st.one_of(JUDGING, SENDING, ENDING_OUT))
def test_what_isnt_in_the_table_is_no_answer(pair, verdict):
    stage, _ = pair
    if (stage, type(verdict)) not in EFFECTS:
        assert complaint(stage, verdict) is not None
    elif isinstance(verdict, v.Fail | v.EndSession) and isinstance(verdict.reply, Reply):
        assert (complaint(stage, verdict) is None) == (verdict.reply.code >= 400)


# ── replies ────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.one_of(st.text(max_size=60), st.text(st.sampled_from("ab \r\n\0\x0b\x85\u2028é€"), max_size=1200))
SAID = st.one_of(TEXTS, st.builds(lambda code, text: Reply(code, "", text), CODES, TEXTS))


def lines_of(reply, smtputf8):
    octets = encode(reply, smtputf8=smtputf8)
    assert octets.endswith(b"\r\n")
    return octets[:-2].split(b"\r\n")


@given(SAID, st.booleans(), st.booleans())
def test_I1_any_text_and_code_make_safe_lines(said, verbatim, smtputf8):
    reply = refusal(said, code=554, status="5.7.1", token=TOKEN, verbatim=verbatim)
    assert 400 <= reply.code <= 599
    lines = lines_of(reply, smtputf8)
    for line in lines:
        assert len(line) <= MAX_LINE
        assert line[:3] == str(reply.code).encode()
        assert not any(octet < 32 or octet == 127 for octet in line)
    assert all(line[3:4] == b"-" for line in lines[:-1])
    assert lines[-1][3:4] == b" "


@given(SAID)
def test_every_refusal_carries_its_token_and_a_status_of_its_class(said):
    reply = refusal(said, code=450, status="4.7.1", token=TOKEN)
    assert encode(reply).endswith(b" (%s)\r\n" % TOKEN.encode())
    assert reply.status[0] == str(reply.code)[0]


@given(CODES.filter(lambda code: code < 400), TEXTS)
def test_P8_a_refusal_with_a_positive_code_is_550(code, text):
    assert refusal(Reply(code, "", text), code=554, status="5.7.1", token=TOKEN).code == 550


@given(TEXTS)
def test_a_positive_reply_keeps_code_and_status(text):
    reply = success(Reply(250, "2.1.5", "recipient ok"), text)
    assert (reply.code, reply.status) == (250, "2.1.5")
    assert all(len(line) <= MAX_LINE for line in lines_of(reply, True))
    assert reply.text == "recipient ok" or reply.text


@given(TEXTS)
def test_safe_text_is_safe_and_stays_as_it_is(text):
    safe = safe_text(text)
    assert safe_text(safe) == safe
    assert all(line.isprintable() and line for line in safe.split("\n") if safe)


# ── rules ──────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(["ehlo", "helo", "mail from", "MAIL  FROM", "rcpt to", "xverb", ""])


@given(st.one_of(st.text(max_size=60), st.lists(st.tuples(WORDS, st.text("ab*.@; ", max_size=8))).map(
    lambda items: ";".join(f"{verb}={pattern}" for verb, pattern in items)
)), st.text(max_size=20))  # fmt: skip
def test_a_rule_is_parsed_or_refused_and_then_answers(text, name):
    try:
        rule = parse_rule(text)
    except RuleError:
        return
    if rule is None:
        assert not text.replace(";", "").strip()
        return
    for stage in ("hello", "sender", "recipient", "message", "command", "connect"):
        assert rule.can_match_at(stage) in (True, False)
    assert rule.fits_verb(name) in (True, False)
    everybody = [Recipient(Path("ann", "example.org")), Recipient(Path("bob", "example.com"))]
    matching = [one for one in everybody if rule.fits_recipient(one)]
    whole = rule.fits_hello(name) or rule.fits_sender(NULL_PATH)
    assert list(rule.among(name, NULL_PATH, everybody)) == (everybody if whole else matching)


KEYS = st.sampled_from(["network", "listener", "authenticated", "tls", "user", "helo", "size", "weather"])
VALUES = st.one_of(
    st.text(max_size=12),
    st.booleans(),
    st.none(),
    st.integers(),
    st.lists(st.one_of(st.text(max_size=8), st.integers()), max_size=3),
    st.sampled_from([">=5", "<5", "<²", "<" + "9" * 5000, "192.0.2.0/24", "::/0"]),
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_when_table_is_parsed_or_refused(table):
    try:
        when = parse_when(table)
    except RuleError:
        return
    assert isinstance(when, When) if table else when is None


def test_the_peer_of_another_family_is_in_no_network():
    when = parse_when({"network": ["2001:db8::/32"]})
    assert when is not None and not any(Peer(ip_address("192.0.2.1")).address in one for one in when.networks)


# ── records ────────────────────────────────────────────────────────────────────────────────────────────────────────

ADDRESSES = st.sampled_from(["ann@example.org", '"a b"@example.org', "bob@[192.0.2.1]", "grün@example.org", "x@y.z"])
PATHS = ADDRESSES.map(Path.parse)
RECIPIENTS = st.builds(Recipient, PATHS, st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
NAMES = st.sampled_from(["Subject", "X-Spam", "received"])
CONTENT_EDITS = st.one_of(
    st.builds(AddHeader, NAMES, st.text(max_size=20), st.one_of(st.none(), st.integers(0, 9))),
    st.builds(ChangeHeader, NAMES, st.text(max_size=20), st.integers(0, 9)),
    st.builds(DeleteHeader, NAMES, st.one_of(st.none(), st.integers(0, 9))),
    st.binary(max_size=20).map(Bytes).map(ReplaceBody),
    st.builds(ReplacePart, st.integers(0, 9), st.binary(max_size=20)),
)
EDITS = st.one_of(
    CONTENT_EDITS,
    RECIPIENTS.map(AddRecipient),
    RECIPIENTS.map(RemoveRecipient),
    st.one_of(PATHS, st.just(NULL_PATH)).map(ChangeSender),
    st.builds(Split, st.lists(RECIPIENTS, max_size=3).map(tuple), st.lists(CONTENT_EDITS, max_size=3).map(tuple)),
)
VERDICTS = st.one_of(
    JUDGING,
    REPLIES.map(v.Respond),
    st.builds(v.Converse, REPLIES, st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 9)),
    st.builds(v.Identity, REASONS, st.one_of(st.none(), REASONS)),
    st.dictionaries(REASONS, st.one_of(REASONS, st.integers(), st.binary())).map(v.Credentials),
    REASONS.map(v.Deny),
    REASONS.map(v.Send),
    st.just(v.Skip()),
    st.binary(max_size=8).map(v.Blob),
    st.just(v.Repeat()),
    REASONS.map(v.Repeat),
    st.sampled_from(v.Target).map(v.Jump),
    st.one_of(REPLIES, REASONS).map(v.Fail),
    st.one_of(REPLIES, REASONS).map(v.EndSession),
)
GARBAGE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["say", "edit", "reply", "scope", "name", "value", "at", "x"]), inner),
    ),
    max_leaves=12,
)


@given(VERDICTS)
def test_a_verdict_comes_back_as_it_went(verdict):
    assert read_verdict(plain_verdict(verdict)) == verdict


@given(EDITS)
def test_an_edit_comes_back_as_it_went(edit):
    assert read_edit(plain_edit(edit)) == edit


@given(GARBAGE)
def test_P2_garbage_is_a_record_error_and_nothing_else(data):
    for read in (read_verdict, read_edit):
        with pytest.raises(RecordError):
            read(data)


@given(VERDICTS, st.data())
def test_P2_a_record_with_one_field_spoiled_reads_or_is_a_record_error(verdict, data):
    plain = dict(plain_verdict(verdict))
    plain[data.draw(st.sampled_from(sorted(plain)))] = data.draw(GARBAGE)
    with suppress(RecordError):
        read_verdict(plain)


@given(EDITS, st.data())
def test_P2_an_edit_with_one_field_spoiled_reads_or_is_a_record_error(edit, data):
    plain = dict(plain_edit(edit))
    plain[data.draw(st.sampled_from(sorted(plain)))] = data.draw(GARBAGE)
    with suppress(RecordError):
        read_edit(plain)
