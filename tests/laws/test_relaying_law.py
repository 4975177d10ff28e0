"""No plugin grants relaying: whatever a chain of plugins says and edits, nothing leaves by a gate that is closed.

Plugins that say and do things at random are asked in real sessions of clients nobody knows; what the spool holds in the
end may only be for recipients whose gate is open. Only a binding with `may_relay` is different.
"""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from gatepost.model import Path, Recipient, Reply
from gatepost.plugins.loaded import Wish
from gatepost.plugins.python import load
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig

MESSAGE = b"From: a@b.example\r\nSubject: law\r\n\r\nhello\r\n"
GATES = (Gate("*@open.example", OpenTo.ANYONE), Gate("*@closed.example"))  # and no gate for all else
ADDRESSES = ("a@open.example", "b@open.example", "a@closed.example", "b@closed.example", "a@nowhere.example")
ASKED = (
    stages.Connect,
    stages.Hello,
    stages.Sender,
    stages.Recipient,
    stages.Data,
    stages.Headers,
    stages.Message,
    stages.Command,
)

ADDRESS = st.sampled_from(ADDRESSES)
VERDICT = st.one_of(
    st.just(None),
    st.sampled_from(v.Scope).map(v.Accept),
    st.sampled_from([v.Quarantine("q"), v.Discard("d"), v.Take("t"), v.Refuse("no")]),
    st.sampled_from([250, 354, 550]).map(lambda code: v.Respond(Reply(code, "", "by plugin"))),
)
EDIT = st.one_of(
    st.tuples(st.just("add"), ADDRESS),
    st.tuples(st.just("remove"), ADDRESS),
    st.tuples(st.just("replace"), ADDRESS, ADDRESS),
    st.tuples(st.just("sender"), ADDRESS),
)
TURN = st.tuples(VERDICT, st.lists(EDIT, max_size=2))
BINDING = st.tuples(
    st.sampled_from(ASKED),
    st.sampled_from([0, 24575, 24577, 32767]),
    st.booleans(),
    st.sampled_from(["tempfail", "proceed"]),
    st.lists(TURN, min_size=1, max_size=3),
)
CHAIN = st.lists(BINDING, min_size=1, max_size=4)


def plugin(number, binding, *, may_relay=False):
    """A plugin that takes its turns round and round."""
    stage, priority, always, on_failure, turns = binding
    count = 0

    @on(stage, priority=priority, always=always, on_failure=on_failure)
    async def hook(event):
        nonlocal count
        verdict, edits = turns[count % len(turns)]
        count += 1
        if isinstance(event, stages.Transaction):
            for edit in edits:
                make(event, *edit)
        return verdict

    return load(hook, name=f"random{number}", wishes=[Wish(may_relay=may_relay)])


def make(event, word, *addresses):
    match word:
        case "add":
            event.recipients.add(addresses[0])
        case "remove":
            event.recipients.remove(Recipient(Path.parse(addresses[0])))
        case "replace":
            event.recipients.replace(Recipient(Path.parse(addresses[0])), addresses[1])
        case "sender":
            event.change_sender(addresses[0])


async def sent(plugins, recipients):
    """Who would get mail that a client nobody knows sends twice in one session."""
    async with Rig(plugins, gates=GATES) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO client.example")
        for _ in range(2):
            await client.command("MAIL FROM:<x@y.example>")
            for recipient in recipients:
                await client.command(f"RCPT TO:<{recipient}>")
            if (await client.command("DATA")).startswith("354"):
                client.send(MESSAGE + b".\r\n")
                await client.reply()
            await client.command("RSET")
        client.line.end_of_file()
        await rig.settled()
        return {str(one) for entry in await rig.spool.entries() for one in entry.envelope.recipients}


@settings(max_examples=150, deadline=None)
@given(CHAIN, st.lists(ADDRESS, min_size=1, max_size=4))
def test_no_plugin_grants_relaying(chain, recipients):
    plugins = [plugin(number, binding) for number, binding in enumerate(chain)]
    assert asyncio.run(sent(plugins, recipients)) <= {"a@open.example", "b@open.example"}


async def test_may_relay_is_what_opens_a_gate():
    binding = (stages.Recipient, 100, False, "tempfail", [(v.Accept(v.Scope.STAGE), [])])
    assert await sent([plugin(0, binding)], ["a@closed.example"]) == set()
    assert await sent([plugin(0, binding, may_relay=True)], ["a@closed.example"]) == {"a@closed.example"}
    assert await sent([plugin(0, binding, may_relay=True)], ["a@nowhere.example"]) == set()
