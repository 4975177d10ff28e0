"""The objects of sinks in Python: made, kept and given properties as COM would; what they are given lives as long as it
should.
"""

import pytest

from gatepost.plugins.sink import constants as c
from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_talk import in_command, sinks, talk
from unit.serving.serving_talk import greet


class Counted:
    made = 0
    order: list[str] = []  # noqa: RUF012  of the test

    def __init__(self):
        type(self).made += 1

    def OnSmtpInCommand(self, server, session, message, context):
        self.order.append("event")


@pytest.mark.parametrize(
    ("says", "made"), [(None, 1), (c.S_OK, 1), (True, 1), (c.S_FALSE, 3), (False, 3), (c.E_NOTIMPL, 3)]
)
async def test_an_object_is_kept_only_if_it_says_so(says, made):
    class Cacheable(Counted):
        made = 0

        def IsCacheable(self):
            return says

    await talk(await sinks(Cacheable), "NOOP", "NOOP")
    assert Cacheable.made == made


async def test_without_is_cacheable_each_event_has_an_object_of_its_own():
    class Plain(Counted):
        made = 0

    await talk(await sinks(Plain), "NOOP", "NOOP")
    assert Plain.made == 3


async def test_the_order_is_cacheable_then_properties_then_the_event():
    class Ordered(Counted):
        order: list[object] = []  # noqa: RUF012  of the test

        @classmethod
        def CreateInstance(cls):
            cls.order.append("create")
            return cls()

        def IsCacheable(self):
            self.order.append("cacheable")

        def Load(self, bag):
            self.order.append(("load", bag.Read("LIMIT"), dict(bag)))

    await talk(await sinks((Ordered, {"properties": {"limit": 5}})), "NOOP")
    assert Ordered.order == ["create", "cacheable", ("load", 5, {"limit": 5}), "event", "event"]


async def test_python_spelling_is_the_same():
    class Snake:
        def on_smtp_in_command(self, server, session, message, context):
            if context.QueryCommand() == "NOOP":
                context.SetResponse(b"250 snake\r\n\0")
                return c.S_FALSE
            return None

        def is_cacheable(self):
            return True

    assert await talk(await sinks(Snake), "NOOP") == ["250 2.0.0 snake"]


async def test_bags_live_as_long_as_what_they_belong_to():
    seen = []

    class Bags:
        def OnSmtpInCommand(self, server, session, message, context):
            counts = []
            for bag in (server, session):
                try:
                    count = bag.get_dword(0x9000)
                except LookupError:
                    count = 0
                bag.put_dword(0x9000, count + 1)
                counts.append(count)
            seen.append((*counts, server.get_string(1), server.get_dword(0)))

    class Other(Bags):
        pass

    async with Rig(await sinks(Bags, Other)) as rig:
        for _ in range(2):
            client = rig.connect()
            await greet(client)
    assert [one[:2] for one in seen] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert {one[2:] for one in seen} == {("mx.test", 1)}


async def test_a_context_is_of_no_use_when_the_call_is_over():
    kept = []
    await talk(await sinks(in_command(kept.append)), "NOOP")
    with pytest.raises(RuntimeError, match="over"):
        kept[0].set_response("too late")


@pytest.mark.parametrize("secrets", [False, True])
async def test_a_password_is_shown_to_who_may_see_it_only(secrets):
    seen = []
    noting = in_command(lambda context: seen.append(context.query_command()))
    await talk(await sinks((noting, {"secrets": secrets})), "AUTH PLAIN AGEAYgBj")
    assert seen[-1] == ("AUTH PLAIN AGEAYgBj" if secrets else "AUTH PLAIN ***")


@pytest.mark.parametrize(
    ("stages", "asked_at"),
    [
        ((), ["command", "message", "out-command"]),
        (("out-data", "out-quit"), ["out-command", "out-command"]),
        (("message",), ["message"]),
    ],
)
async def test_who_names_no_stage_is_asked_once_about_each_command(stages, asked_at):
    class Sink:
        def OnSmtpInCommand(self, server, session, message, context): ...
        def OnSmtpOutCommand(self, server, session, message, context): ...
        def OnMessageSubmission(self, message, notify, context): ...

    (loaded,) = await sinks((Sink, {"stages": stages}))
    assert sorted(one.stage.name for one in loaded.bindings if not one.quiet) == asked_at
