"""What a RCPT leaves behind, and what it doesn't when it is refused in the end."""

from gatepost.hooks.api import accept, discard, on, per_transaction, quarantine, refuse
from gatepost.plugins.loaded import Wish
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins, sent, turns


async def kept(rig):
    entries = await rig.spool.entries()
    return [str(recipient) for entry in entries for recipient in entry.envelope.recipients]


async def heard(rig, *to):
    client = rig.connect()
    await greet(client)
    return client, await envelope(client, *to)


async def test_a_second_rcpt_that_is_refused_leaves_the_firsts_quarantine():
    asked = []

    @on("recipient")
    async def once(event):
        asked.append(event)
        return quarantine("bad") if len(asked) == 1 else refuse("no")

    async with Rig(plugins(once)) as rig:
        client, said = await heard(rig, "c@d.example", "c@d.example")
        assert [one[:3] for one in said] == ["250", "250", "550"]
        await content(client)
        assert (rig.spool.counts().queued, rig.spool.counts().held) == (0, 1)


async def test_S7_a_refused_hello_leaves_the_transaction():
    names = []

    @on("hello")
    async def once(event):
        names.append(event.helo)
        return refuse("no") if len(names) == 2 else None

    async with Rig(plugins(once)) as rig:
        client, _ = await heard(rig, "c@d.example")
        assert (await client.command("EHLO again.example")).startswith("550")
        assert (await client.command("RCPT TO:<e@d.example>")).startswith("250")
        assert (await content(client)).startswith("250")
        assert await kept(rig) == ["c@d.example", "e@d.example"]


async def test_S7_an_accepted_hello_ends_the_transaction():
    closed = []

    class Kept:
        def close(self):
            closed.append(self)

    kept = per_transaction(Kept)

    @on("sender")
    async def keeps(event):
        kept(event)

    async with Rig(plugins(keeps)) as rig:
        client, _ = await heard(rig, "c@d.example")
        assert (await client.command("EHLO again.example")).startswith("250")
        await turns()
        assert len(closed) == 1
        assert (await client.command("RCPT TO:<e@d.example>")).startswith("503")


async def test_a_recipient_sent_back_for_its_other_rules_leaves_no_edits():
    @on("recipient")
    async def replaces(event):
        if event.recipient.local == "b":
            event.recipients.replace(event.recipient, "z@d.example")
            event.add_header("X-From-B", "yes")
            return quarantine("bad")

    @on("message", rule="rcpt to=b@*")
    async def only_b(event): ...

    async with Rig(plugins(replaces, only_b)) as rig:
        client, said = await heard(rig, "a@d.example", "b@d.example")
        assert said[2].startswith("452 4.5.3")
        await content(client)
        assert await kept(rig) == ["a@d.example"]
        assert rig.spool.counts().held == 0
        assert b"X-From-B" not in (await rig.spool.entries())[0].content.read()


async def test_who_has_authenticated_sends_to_all_at_once_and_one_refusal_is_for_all():
    @on("sender")
    async def logs_in(event):
        event.session.user = "ann@d.example"

    @on("message", rule="rcpt to=b@*")
    async def only_b(event):
        return refuse(550, "5.7.1", "not to b")

    async with Rig(plugins(logs_in, only_b)) as rig:
        client, said = await heard(rig, "a@d.example", "b@d.example")
        assert [one[:3] for one in said] == ["250", "250", "250"]
        assert (await content(client)).startswith("550 5.7.1 not to b")
        assert await kept(rig) == []


async def test_the_first_recipient_has_no_other_rules_than_its_own_alias():
    @on("recipient")
    async def replaces(event):
        event.recipients.replace(event.recipient, "z@d.example")

    @on("message", rule="rcpt to=z@*")
    async def only_z(event): ...

    async with Rig(plugins(replaces, only_z)) as rig:
        _, said = await heard(rig, "a@d.example")
        assert said[1].startswith("250")


async def test_a_recipient_that_is_accepted_ahead_has_other_rules():
    @on("recipient")
    async def postmaster(event):
        if event.recipient.local == "postmaster":
            return accept("recipient")

    @on("message")
    async def judges(event):
        return refuse("spam")

    async with Rig(plugins(postmaster, judges)) as rig:
        _, said = await heard(rig, "a@d.example", "postmaster@d.example", "b@d.example")
        assert [one[:3] for one in said] == ["250", "250", "452", "250"]


async def test_recipients_are_alike_where_nobody_judges_the_message():
    @on("recipient")
    async def postmaster(event):
        if event.recipient.local == "postmaster":
            return accept("recipient")

    async with Rig(plugins(postmaster)) as rig:
        _, said = await heard(rig, "a@d.example", "postmaster@d.example")
        assert [one[:3] for one in said] == ["250", "250", "250"]


async def test_what_is_discarded_from_the_start_isnt_judged_at_the_end():
    for stage in ("connect", "hello", "sender"):

        @on(stage)
        async def gone(event):
            return discard("x")

        @on("message")
        async def judges(event):
            return refuse("no")

        async with Rig(plugins(gone, judges)) as rig:
            _, said = await sent(rig, "c@d.example")
            assert said.startswith("250")
            assert len(await rig.spool.records()) == 1
            assert rig.spool.counts().queued == 0


async def test_verbatim_is_kept_at_message_for_the_plugin_that_has_it():
    @on("message", rule="rcpt to=c@*")
    async def judges(event):
        return refuse(554, "5.7.1", "just this")

    for wish, said_is in ((Wish(verbatim=True), "554 5.7.1 just this"), (Wish(), "554 5.7.1 just this (")):
        async with Rig([load(judges, wishes=[wish])]) as rig:
            _, said = await sent(rig, "c@d.example")
            assert said.startswith(said_is) and (said == said_is) is bool(wish.verbatim)
