"""Rewrite recipients: an old domain's mail goes to the new one, and sales@ to two people.

gatepost try examples/rewrite.py --to ann@old.example --to sales@example.org
"""

from gatepost import on, stages

SALES = ("ann@example.org", "bob@example.org")


@on("recipient", rule="rcpt to=*@old.example")
async def moved(event: stages.Recipient):
    event.recipients.replace(event.recipient, f"{event.recipient.local}@example.org")


@on("recipient", rule="rcpt to=sales@example.org")
async def sales(event: stages.Recipient):
    event.recipients.replace(event.recipient, *SALES)
