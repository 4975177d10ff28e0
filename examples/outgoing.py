"""On the way out: leave a recipient for later, hear what next servers say, choose the address called from.

[[plugin]]
source = "examples/outgoing.py"
properties = { vacation = ["ann@*"], slow = "*.bigmail.example", source = "127.0.0.2" }
"""

from dataclasses import dataclass

from gatepost import Plugin, fail, on, skip, stages
from gatepost.model import glob_matches


@dataclass(frozen=True)
class Settings:
    vacation: tuple[str, ...] = ()
    """Recipients whose mail waits for the next attempt."""
    slow: str = ""
    """Next servers that are called from an address of their own."""
    source: str = ""


class Outgoing(Plugin[Settings]):
    @on("out-session")
    async def choose(self, event: stages.OutSession):
        if glob_matches(self.properties.slow, event.host):
            event.call_from(self.properties.source)
            event.introduce_as("slow.example.org")

    @on("out-recipient")
    async def wait(self, event: stages.OutRecipient):
        if any(event.recipient.matches(pattern) for pattern in self.properties.vacation):
            return skip()

    @on("out-reply", pipelining=True)  # it only listens: commands needn't wait for it
    async def listen(self, event: stages.OutReply):
        if event.phase == "recipient" and "spam" in event.reply.text.lower():
            event.note(refused=event.reply.text)
            return fail(451, "4.7.1", "they take us for spammers; tried again later")
