"""A POP3 server in memory, and somebody who talks to it."""

import hashlib

from gatepost.app.settings.root import Settings
from gatepost.model import Bytes
from gatepost.plugins.python import load
from gatepost.store.mailbox_memory import MemoryMailboxes
from gatepost.testing.rig import Rig

MESSAGES = (
    b"From: a@b.example\r\nSubject: one\r\n\r\nhello\r\n",
    b"From: a@b.example\r\nSubject: two\r\n\r\n.\r\n..dots\r\nlast\r\n",
    b"From: a@b.example\r\nSubject: three\r\n\r\n" + b"x" * 70 + b"\r\n" + b"line\r\n" * 60_000,
)
SIZES = [len(message) for message in MESSAGES]


class House:
    """Users whose password is their name backwards; `asked` counts how often somebody wanted to know."""

    can_scram = False

    def __init__(self, *names):
        self.names = names or ("ann@example.org", "bob@example.org")
        self.asked = []

    async def verify(self, name, password):
        self.asked.append(name)
        return name.lower() if name.lower() in self.names and password == name[::-1] else None

    async def scram_keys(self, name):
        raise AssertionError("SCRAM wasn't offered")


def pop_settings(**pop3):
    # the check wants maildrops on disk; here they are in memory, so the tree is made without it
    return Settings.model_validate({
        "hostname": "pop.test",
        "data": None,
        "listen": [{"address": "127.0.0.1:0", "protocol": "pop3", "auth_without_tls": True}],
        "pop3": {"failure_delay": 0, **pop3},
    })  # fmt: skip


async def mailboxes(*messages, user="ann@example.org"):
    kept = MemoryMailboxes(lambda size: hashlib.sha256(b"entropy").digest()[:size])
    for message in messages or MESSAGES:
        await kept.deliver(user, Bytes(message))
    return kept


def pop_rig(kept, *hooks, users=None, **pop3):
    return Rig([load(hook) for hook in hooks], settings=pop_settings(**pop3), users=users or House(), mailboxes=kept)


async def logged_in(rig, user="ann@example.org", **where):
    client = rig.pick_up(**where)
    assert (await client.reply()).startswith("+OK pop.test POP3")
    assert (await client.command(f"USER {user}")).startswith("+OK")
    assert (await client.command(f"PASS {user[::-1]}")).startswith("+OK")
    return client


def body(lines):
    return b"".join(line.encode() + b"\r\n" for line in lines)
