"""Refuse at end-of-data what mentions a keyword: the sender hears it, nothing is quarantined.

gatepost try examples/keywords.py message.eml
gatepost run --plugin examples/keywords.py
"""

from dataclasses import dataclass

from gatepost import Answer, Plugin, on, refuse, stages


@dataclass(frozen=True)
class Words:
    words: tuple[str, ...] = ("lottery", "inheritance")
    limit: int = 100_000  # octets of each part that are looked at


class Keywords(Plugin[Words]):
    @on("message", timeout="5s")
    async def content(self, event: stages.Message) -> Answer:
        async for part in event.message.parts():
            if part.type.startswith("text/"):
                text = part.read(self.properties.limit).decode("utf-8", "replace").lower()
                for word in self.properties.words:
                    if word in text:
                        event.note(keyword=word)
                        return refuse(554, "5.7.1", "this looks like spam")
        return None
