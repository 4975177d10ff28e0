"""What a client says in these tests, and a ledger that can be looked into."""

import asyncio

from gatepost.plugins.python import load

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\nhello\r\n"


class Memory:
    """As much of the ledger as repeats need."""

    def __init__(self):
        self.facts = {}

    async def put(self, space, key, value, ttl_s):
        self.facts[key] = value

    async def take_once(self, space, key):
        return self.facts.pop(key, None)

    async def get(self, space, key):
        return self.facts.get(key)


def plugins(*hooks, **words):
    return [load(hook, **words) for hook in hooks]


async def greet(client, verb="EHLO"):
    await client.reply()
    return await client.command(f"{verb} client.example")


async def envelope(client, *to, sender="a@b.example", parameters=""):
    said = [await client.command(f"MAIL FROM:<{sender}>{parameters}")]
    said += [await client.command(f"RCPT TO:<{recipient}>") for recipient in to]
    return said


async def content(client, message=MESSAGE):
    said = await client.command("DATA")
    return await client.content(message) if said.startswith("354") else said


async def sent(rig, *to, verb="EHLO", parameters="", message=MESSAGE):
    """A session up to the reply to its message: the client, and everything it heard at end-of-data."""
    client = rig.connect()
    await greet(client, verb)
    await envelope(client, *to, parameters=parameters)
    return client, await content(client, message)


async def vanish(rig, client):
    client.line.lose()
    await rig.settled()


async def turns(count=5):
    """A few turns of the loop, for what doesn't wait for anything."""
    for _ in range(count):
        await asyncio.sleep(0)
