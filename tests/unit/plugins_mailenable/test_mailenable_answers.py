"""Number and text of `Execute`, in every combination the contract knows, and what comes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.verdicts import PROCEED, Hangup, Proceed, Refuse
from gatepost.model import Reply
from gatepost.plugins.mailenable.answers import REJECTED, Meaning, Response, describe, read_response, understand

OK = "250 2.1.0 sender ok"
REFUSED = Meaning(Refuse(REJECTED))
GOES_ON = Meaning(PROCEED)


def refusal(code, status, text):
    return Meaning(Refuse(Reply(code, status, text)))


@pytest.mark.parametrize(
    ("returned", "response", "expected"),
    [
        (0, "550 5.7.1 no thanks", refusal(550, "5.7.1", "no thanks")),
        (0, "550 no thanks\r\n", refusal(550, "", "no thanks")),
        (0, "550-5.7.1 no\r\n550 5.7.1 thanks\r\n", refusal(550, "5.7.1", "no\nthanks")),
        (0, "451 4.7.1 later", refusal(451, "4.7.1", "later")),
        (0, "421 4.3.2 going", Meaning(Hangup(Reply(421, "4.3.2", "going")))),
        (0, "550", refusal(550, "", "")),
        (0, "550 4.7.1 not its class", refusal(550, "", "4.7.1 not its class")),
        (0, "", REFUSED),
        (0, OK, REFUSED),
        (0, "250 fine", REFUSED),
        (0, "221 bye", REFUSED),
        (0, "354 go", REFUSED),
        (0, "go away", REFUSED),
        (0, "999 unheard of", REFUSED),
        (0, "5501 too long a code", REFUSED),
        (0, " \r\n ", REFUSED),
        (1, "", GOES_ON),
        (1, OK, GOES_ON),
        (1, f" {OK}\r\n", GOES_ON),
        (1, "250", GOES_ON),
        (1, "250 2.1.0 glad to", Meaning(PROCEED, "glad to")),
        (1, "251 glad to", Meaning(PROCEED, "glad to")),
        (1, "354 go", Meaning(PROCEED, "go")),
        (1, "glad to", Meaning(PROCEED, "glad to")),
        (1, "250-glad\r\n250 to", Meaning(PROCEED, "glad\nto")),
        (1, "250 glad\r\n550 not to", Meaning(PROCEED, "glad 550 not to")),
        (2, "", GOES_ON),
        (2, "250 glad to", Meaning(PROCEED, "glad to")),
        (-1, OK, GOES_ON),
        (-(2**31), OK, GOES_ON),
    ],
)
def test_what_it_comes_to(returned, response, expected):
    assert understand(returned, response, OK, stages.Sender) == expected


@pytest.mark.parametrize("returned", [1, 2, -1])
@pytest.mark.parametrize("response", ["550 no", "451 4.7.1 later", "421 bye", "599", "550-no\r\n550 no"])
def test_a_success_with_a_refusals_text_is_no_answer(returned, response):
    with pytest.raises(AnswerError, match=f"it returned {returned}, which is success"):
        understand(returned, response, OK, stages.Message)


@pytest.mark.parametrize("response", ["250 ok", "250 2.0.0 welcome", "354 go on", "anything"])
def test_at_DATA_the_354_stays_what_it_is(response):
    assert understand(1, response, "354 send it", stages.Data) == GOES_ON


def test_at_DATA_a_refusal_is_said_instead_of_the_354():
    assert understand(0, "554 5.7.1 no", "354 send it", stages.Data) == refusal(554, "5.7.1", "no")


def test_lines_of_other_codes_are_not_lines_of_a_reply():
    assert read_response("550 no\r\n250 ok\r\n221 bye") == Response(550, "", "no 250 ok 221 bye")
    assert read_response("550 no\rMAIL FROM:<>") == Response(550, "", "no MAIL FROM:<>")


@given(st.integers(-(2**31), 2**31 - 1), st.text(max_size=60) | st.from_regex(r"[2-5][0-9]{2}[ -].{0,20}"))
def test_whatever_it_leaves_is_a_verdict_or_a_failure(returned, response):
    try:
        meaning = understand(returned, response, OK, stages.Recipient)
    except AnswerError:
        assert returned != 0
        return
    assert isinstance(meaning.verdict, Proceed) == (returned != 0)
    if isinstance(meaning.verdict, Refuse):
        assert isinstance(meaning.verdict.reply, Reply) and meaning.verdict.reply.code >= 400


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ("", "→ 1, no text"),
        (OK, "→ 1, text untouched"),
        ("250 glad\r\n", '→ 1, "250 glad"'),
        ("x" * 500, f'→ 1, "{"x" * 120}…"'),
    ],
)
def test_a_call_is_told_in_a_few_words(response, told):
    assert describe(1, response, OK) == told
