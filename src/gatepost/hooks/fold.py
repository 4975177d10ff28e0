"""How the opinions of a chain become one verdict. Pure, and small enough to be held by laws.

Refuse, Discard, Take and Hangup end the chain: the first of them wins. Otherwise the gravest wins: Quarantine over
Accept over Proceed; of two quarantines the first keeps its reason. So an Accept never undoes an earlier quarantine, and
the order among bindings that don't end the chain doesn't matter for what becomes of the mail.

On the way out Skip, Blob, Repeat, Jump, Fail and EndSession end the chain; of several Sends the last one's line goes.
"""

from __future__ import annotations

from gatepost.hooks.verdicts import (
    PROCEED,
    Accept,
    Blob,
    Converse,
    Credentials,
    Deny,
    Discard,
    EndSession,
    Fail,
    Hangup,
    Identity,
    Jump,
    Proceed,
    Quarantine,
    Refuse,
    Repeat,
    Respond,
    Send,
    Skip,
    Take,
    Verdict,
)

_GRAVITY: dict[type, int] = {Proceed: 0, Accept: 1, Send: 1, Quarantine: 2}
_ENDING = frozenset(
    {
        *(Refuse, Discard, Take, Hangup, Respond, Converse, Identity, Credentials, Deny),
        *(Skip, Blob, Repeat, Jump, Fail, EndSession),
    }
)


def ends_chain(verdict: Verdict) -> bool:
    """Whether nobody is asked after this."""
    return type(verdict) in _ENDING  # looked up many times a message: quicker than isinstance


def graver(standing: Verdict, said: Verdict) -> Verdict:
    """The verdict after one more opinion; what has ended the chain stays."""
    if said is PROCEED or ends_chain(standing):
        return standing
    if ends_chain(said):
        return said
    if type(said) is Send:
        return said
    return said if _GRAVITY[type(said)] > _GRAVITY[type(standing)] else standing


def fold(opinions: list[Verdict]) -> Verdict:
    """The verdict of a whole chain, in order."""
    verdict: Verdict = PROCEED
    for opinion in opinions:
        verdict = graver(verdict, opinion)
    return verdict
