"""Sinks of these tests: loaded as settings would have them, in a server in memory."""

from gatepost.plugins.loaded import Wish
from gatepost.plugins.sink.loading import load_sink
from gatepost.plugins.sink.options import SinkOptions
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import greet


def wish(**words):
    if isinstance(words.get("stages"), str):
        words["stages"] = (words["stages"],)
    return Wish(**words)


async def sinks(*kinds, **words):
    """Each a class, or (class, words of its wish)."""
    found = []
    for each in kinds:
        kind, own = each if isinstance(each, tuple) else (each, {})
        made = dict(words)
        for key in ("properties", "options", "name"):
            if key in own:
                own = dict(own)
                made[key] = own.pop(key)
        found.append(await load_sink(kind, wishes=[wish(**own)], **made))
    return found


def in_command(answer, **attributes):
    """A sink class whose OnSmtpInCommand is this function of its context (and pMsg, pSession, pServer)."""

    def OnSmtpInCommand(self, server, session, message, context):
        return answer(context)

    return type("Sink", (), {"OnSmtpInCommand": OnSmtpInCommand, **attributes})


async def talk(plugins, *commands):
    """What a client hears to the commands, after EHLO."""
    async with Rig(plugins) as rig:
        client = rig.connect()
        await greet(client)
        return [await client.command(command) for command in commands]


__all__ = ["SinkOptions", "in_command", "sinks", "talk", "wish"]
