"""The story of test_dialect_story.py as an event sink in Python."""

import asyncio

from gatepost.plugins.sink import (
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_TRANSIENT_FAILURE,
    S_FALSE,
    S_OK,
)

REPLIES = {
    "no": ("550 5.7.1 not this one", EXPE_COMPLETE_FAILURE),
    "later": ("451 4.7.1 come later", EXPE_TRANSIENT_FAILURE),
    "leave": ("421 4.7.0 going away", EXPE_DROP_SESSION),
}
OWN = {"MAIL": "250 2.1.0 glad to have it", "RCPT": "250 2.1.5 glad to have it"}


class Story:
    async def OnSmtpInCommand(self, server, session, message, context):
        verb = context.query_command_keyword()
        word = context.query_command().partition("<")[2].partition("@")[0]
        if verb == "DATA":
            before, _, word = message.recipients.item(0).partition("@")[0].rpartition("-")
            word = word if before == "data" else ""
        elif verb not in OWN:
            return S_OK
        await suffer(word)
        if word == "own" and verb in OWN:
            context.set_response(OWN[verb])
        if word not in REPLIES:
            return S_OK
        reply, status = REPLIES[word]
        context.set_response(
            reply if verb != "DATA" else reply.replace("550 5.7.1 not this one", "554 5.7.1 not with that word")
        )
        context.set_command_status(status)
        return S_FALSE

    async def OnMessageSubmission(self, message, notify, context):
        content = message.read_content()
        word = content.partition(b"X-Do: ")[2].partition(b"\r\n")[0].decode()
        if word in ("tag", "half"):
            head, blank, body = content.partition(b"\r\n\r\n")
            message.write_content(0, head + b"\r\nX-Story: told" + blank + body)
        await suffer("crash" if word == "half" else word)
        if word == "no":
            message.refuse("554 5.7.1 not with that word")
        elif word == "later":
            message.refuse("451 4.7.1 come later")
        return S_OK


async def suffer(word):
    if word == "crash":
        raise RuntimeError("crashed")
    if word == "hang":
        await asyncio.Event().wait()
