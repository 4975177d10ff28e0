"""Whether a question concerns a binding: its conditions hold, and its rule fits what the stage is about."""

from __future__ import annotations

from gatepost.hooks import stages
from gatepost.hooks.bindings import Binding
from gatepost.hooks.questions import Question
from gatepost.hooks.rules import Rule

BY_ENVELOPE = (stages.Data, stages.Headers, stages.Message, stages.Submitted, stages.Expanded)
"""Where a rule chooses among the recipients, which is done with the whole envelope at hand."""

_LINES = (stages.Command, stages.Replying)


def concerns(binding: Binding, question: Question) -> bool:
    """Whether the binding is to be asked, as far as the session and the stage's own fields tell."""
    if binding.when is not None and not binding.when.holds(question.session, question.size):
        return False
    rule = binding.rule
    if rule is None or question.stage in BY_ENVELOPE:
        return True
    if question.stage in stages.OUTBOUND:
        return _fits_outgoing(rule, question)
    if question.stage is stages.Hello:
        return rule.fits_hello(question.facts["helo"])
    if question.stage is stages.Sender:
        return question.transaction is not None and rule.fits_sender(question.transaction.sender)
    if question.stage is stages.Recipient:
        return rule.fits_recipient(question.facts["recipient"])
    if question.stage in _LINES:
        return rule.fits_line(str(question.facts.get("line", "")))
    return False


def _fits_outgoing(rule: Rule, question: Question) -> bool:
    """Whether any item is about the next server's name, or about the message, if there is one."""
    if rule.fits_hello(question.session.helo):
        return True
    transaction = question.transaction
    if transaction is None:
        return False
    if rule.fits_sender(transaction.sender):
        return True
    recipient = question.facts.get("recipient")
    return any(rule.fits_recipient(one) for one in ([recipient] if recipient else transaction.recipients))
