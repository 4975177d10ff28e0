"""Known partners first: from these senders nothing else is asked. What the house refuses stays refused.

gatepost try examples/allowlist.py --from boss@partner.example
"""

from gatepost import accept, on, stages

PARTNERS = ("*@partner.example", "news@supplier.example")


@on("sender", priority=10)
async def known(event: stages.Sender):
    if any(event.sender.matches(pattern) for pattern in PARTNERS):
        event.note(partner=event.sender.domain)
        return accept("transaction")
