"""The story of test_dialect_story.py in Python. CRASHES is how it crashes where it runs."""

import asyncio

from gatepost import hangup, on, refuse, tempfail


async def judged(word, no):
    if word == "crash":
        crash()
    if word == "hang":
        await asyncio.Event().wait()
    return {"no": no, "later": tempfail(451, "4.7.1", "come later"), "leave": hangup("going away")}.get(word)


def crash():
    raise RuntimeError("crashed")  # CRASHES


async def answer(event, word, no):
    verdict = await judged(word, no)
    if word == "own":
        event.say("glad to have it")
    return verdict


@on("sender")
async def mail(event):
    return await answer(event, event.sender.local, refuse(550, "5.7.1", "not this one"))


@on("recipient")
async def rcpt(event):
    return await answer(event, event.recipient.local, refuse(550, "5.7.1", "not this one"))


@on("data")
async def data(event):
    first = next(iter(event.recipients)).local
    word = first.removeprefix("data-") if first.startswith("data-") else ""
    return await judged(word, refuse(554, "5.7.1", "not with that word"))


@on("message")
async def message(event):
    word = event.message.headers.get("X-Do")
    if word in ("tag", "half"):
        event.add_header("X-Story", "told")
    if word == "half":
        crash()
    return await answer(event, word, refuse(554, "5.7.1", "not with that word"))
