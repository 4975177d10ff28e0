"""Senders of mail, in a process of their own so that they measure the server and not themselves.

Standard input: {"port", "seconds", "seed", "sessions": [{"to": [...], "domain", "animals": [[stage, animal], ...],
"pace_s", "most"}]}. Each session sends mail after mail, beginning one every `pace_s` at the most, until the seconds or
its `most` are over, and then says QUIT. Standard output: for each session whether it ended well, and for each mail its
id, its stage and animal, the replies, and how long each took in seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

LONGEST_S = 60.0  # that a reply may take: a session that waits longer is stuck


def body(id: str) -> str:
    """The mail's text, by which it is known to be whole."""
    return "".join(f"{id} line {n} of a text that has to arrive\r\n" for n in range(60)) + f"end of {id}\r\n"


def content(id: str, animal: str) -> bytes:
    return f"From: a@b.example\r\nSubject: {id}\r\nX-Animal: {animal}\r\n\r\n{body(id)}".encode()


class Session:
    def __init__(self, number, plan, shared):
        self.number, self.plan, self.shared = number, plan, shared
        self.random = random.Random(shared["seed"] * 1000 + number)
        self.mails = []

    async def run(self):
        until = time.monotonic() + self.shared["seconds"]
        await asyncio.sleep(self.random.random() * self.plan["pace_s"])
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.shared["port"])
        await self.reply()
        await self.say("EHLO client.example")
        count = 0
        while time.monotonic() < until and count < self.plan["most"]:
            began = time.monotonic()
            await self.mail(count)
            count += 1
            await asyncio.sleep(
                max(0.0, began + self.plan["pace_s"] * (0.8 + 0.4 * self.random.random()) - time.monotonic())
            )
        heard, _ = await self.say("QUIT")
        ended = heard.startswith("221") and await self.reader.read() == b""
        self.writer.close()
        return ended

    async def mail(self, count):
        stage, animal = self.plan["animals"][count % len(self.plan["animals"])]
        id = f"{self.shared['seed']}-{self.number}-{count}"
        told = {"id": id, "stage": stage, "animal": animal, "replies": [], "took": [], "accepted": False}
        self.mails.append(told)

        async def note(line):
            heard, took = await self.say(line)
            told["replies"].append(heard)
            told["took"].append(took)
            return heard[0] in "23"

        await note("MAIL FROM:<a@b.example>")
        accepted = False
        for to in [animal] if stage == "recipient" else self.plan["to"]:
            accepted |= await note(f"RCPT TO:<{to}@{self.plan['domain']}>")
        if not accepted:
            await self.say("RSET")
        elif await note("DATA"):
            told["accepted"] = await note(content(id, animal).decode() + ".")

    async def say(self, line):
        began = time.perf_counter()
        self.writer.write(line.encode() + b"\r\n")
        heard = await self.reply()
        return heard, time.perf_counter() - began

    async def reply(self):
        async with asyncio.timeout(LONGEST_S):
            line = (await self.reader.readuntil(b"\r\n")).decode()
            while line[3:4] == "-":
                line = (await self.reader.readuntil(b"\r\n")).decode()
        return line.strip()


async def main():
    shared = json.load(sys.stdin)
    sessions = [Session(number, plan, shared) for number, plan in enumerate(shared["sessions"])]
    ended = await asyncio.gather(*(session.run() for session in sessions), return_exceptions=True)
    told = [
        {"ended": ended[n] is True, "why": "" if ended[n] is True else repr(ended[n]), "mails": session.mails}
        for n, session in enumerate(sessions)
    ]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
