"""What an author who makes a mistake is told: when the sink is loaded, wherever that is possible."""

import functools
import threading

import pytest

from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.sink import ISmtpInCommandSink, constants, creating
from gatepost.plugins.sink.loading import load_sink
from gatepost.plugins.sink.options import SinkOptions
from gatepost.testing.rig import Rig


def ok(self, server, session, message, context):
    return constants.S_OK


def kind(**attributes):
    return type("Mine", (), attributes)


def wants_arguments(self, limit):
    """An __init__."""


def fails(self, *given):
    raise RuntimeError("boom")


async def asynchronous(self, bag):
    """A Load."""


@pytest.mark.parametrize(
    ("attributes", "how", "said"),
    [
        ({}, {}, "Mine has no event method; a sink has one of OnSmtpInCommand, "),
        ({"OnSmtpInCommand": 5}, {}, "no event method"),
        ({"OnSmtpInCallback": ok}, {}, "with OnSmtpInCallback is given to SetCallback"),
        ({"OnSmtpInboundCommand": ok}, {}, "OnSmtpInboundCommand, which nobody calls; did you mean OnSmtpInCommand"),
        ({"on_session_start": ok}, {}, "did you mean OnSmtpOutCommand?"),
        ({"OnSmtpInCommand": ok, "OnSmptOutCommand": ok}, {}, "OnSmptOutCommand.*did you mean OnSmtpOutCommand?"),
        ({"OnSMTPInCommand": ok}, {}, "did you mean OnSmtpInCommand?"),
        ({"ISMTPOnArrival_OnArrival": ok}, {}, "did you mean OnArrival?"),
        ({"OnMessageSubmission": fails, "OnArrival": fails}, {}, "OnMessageSubmission and OnArrival.*leave one"),
        ({"OnSmtpInCommand": ok, "__init__": wants_arguments}, {}, "'limit'; it is called without arguments.*by Load"),
        ({"OnSmtpInCommand": ok, "__init__": fails}, {}, "can't be made, as RuntimeError: boom"),
        ({"OnSmtpInCommand": ok, "CreateInstance": lambda: None}, {}, "makes NoneType objects, which have no OnSmtpIn"),
        ({"OnSmtpInCommand": ok, "IsCacheable": fails}, {}, "Mine fails in IsCacheable: RuntimeError: boom"),
        ({"OnSmtpInCommand": ok, "IsCacheable": lambda self: "yes"}, {}, "returned 'yes'; S_OK or True for yes"),
        ({"OnSmtpInCommand": ok, "Load": fails}, {}, "Mine fails in Load: RuntimeError: boom"),
        ({"OnSmtpInCommand": ok, "Load": lambda self: None}, {}, "Mine fails in Load: TypeError"),
        (
            {"OnSmtpInCommand": ok, "Load": asynchronous},
            {},
            "fails in Load: TypeError: it is async; only an event method",
        ),
        (
            {"OnSmtpInCommand": ok, "Load": lambda self, bag: bag.Read("limit")},
            {"properties": {"limits": 5}},
            'no sink property "limit"; there are: limits',
        ),
        ({"OnSmtpInCommand": ok}, {"properties": {"limit": 5}}, "no Load, so that properties would reach nobody"),
        (
            {"OnSmtpInCommand": lambda self, context: 0},
            {},
            r"OnSmtpInCommand\(context\), which is called with \(server, session, message, context\)",
        ),
        ({"OnMessageSubmission": ok}, {}, r"is called with \(message, notify, context\)"),
        ({"on_arrival": ok}, {}, r"is called with \(msg, event_status\)"),
        ({"OnSmtpInCommand": ok}, {"options": SinkOptions(create="com")}, 'create = "com" is for Windows libraries'),
        (
            {"OnSmtpInCommand": ok},
            {"wishes": [Wish(stages=("recipient",))]},
            r'stages = \["command"\] and rule = "rcpt',
        ),
        ({"OnSmtpInCommand": ok}, {"wishes": [Wish(stages=("reply",))]}, "a priority above 24576"),
        ({"OnSmtpInCommand": ok}, {"wishes": [Wish(stages=("message",))]}, "nothing for the stage message; .* command"),
        (
            {"OnSmtpInCommand": ok},
            {"wishes": [Wish(stages=("out-reply",))]},
            "; OnSmtpServerResponse is called there, and its methods are OnSmtpInCommand",
        ),
        ({"OnSmtpInCommand": ok}, {"wishes": [Wish(stages=("OnArrival",))]}, 'it is called "message" here'),
        ({"OnSmtpInCommand": ok}, {"wishes": [Wish(priority=24576)]}, "24576 is the house's own place"),
        ({"OnSmtpInCommand": ok}, {"wishes": [Wish(rule="rcpt to=a*b@x")]}, "asterisk"),
    ],
)
@pytest.mark.parametrize("inline", [False, True])
async def test_a_class_that_cannot_work_is_refused_with_what_to_do(attributes, how, said, inline):
    wishes = [
        Wish(stages=one.stages, priority=one.priority, rule=one.rule, inline=inline)
        for one in how.get("wishes", [Wish()])
    ]
    with pytest.raises(PluginError, match=f"(?s){said}"):
        await load_sink(kind(**attributes), **{**how, "wishes": wishes})


async def test_an_object_is_no_class():
    with pytest.raises(PluginError, match="give Mine, its class"):
        await load_sink(kind(OnSmtpInCommand=ok)())


async def test_an_interface_alone_is_no_sink():
    with pytest.raises(PluginError, match="abstract: it lacks OnSmtpInCommand"):
        await load_sink(ISmtpInCommandSink)


@pytest.mark.parametrize(
    ("text", "cls", "said"),
    [
        ("class A:\n def OnSmtpInCommand(self, *given)\n  pass\n", "", "sink.py, line 2: SyntaxError"),
        ("import nothing_of_that_name\n", "", "line 1: ModuleNotFoundError"),
        ("class A:\n def OnSmtpInCommand(self, *given): pass\nclass B(A): pass\n", "", 'A, B; say which.*class = "A"'),
        (
            "class Shield:\n def OnSmtpInCommand(self, *given): pass\n",
            "Shild",
            'no class "Shild"; did you mean "Shield"',
        ),
        ("class A:\n def OnSmtpInCommand(self, *given): pass\n", "Other", 'no class "Other"; it has: A'),
        ("class A:\n def OnSmtpInCommand(self, *given): pass\n", "os", 'no class "os"'),
        ("class A: pass\n", "Other", "it has: none that is a sink"),
        ("class A: pass\n", "", "no class with an event method; there are OnSmtpInCommand"),
        ("class A: pass\n", "A", "A has no event method|sink.py has no event method"),
        (
            "class A:\n def OnSmtpInComand(self, *given): pass\n",
            "",
            "A has OnSmtpInComand.*did you mean OnSmtpInCommand",
        ),
        ("def OnSmtpInCommand(*given): pass\n", "", "is a function; a sink is a class"),
    ],
)
async def test_a_file_that_cannot_work_is_refused_with_what_to_do(text, cls, said, tmp_path):
    (tmp_path / "sink.py").write_text(text)
    with pytest.raises(PluginError, match=f"(?s){said}"):
        await load_sink("sink.py", options=SinkOptions(cls=cls), folder=tmp_path)
    if cls:
        with pytest.raises(PluginError, match=f"(?s){said}"):
            await load_sink(f"sink.py:{cls}", folder=tmp_path)


def returning(value):
    return lambda self, server, session, message, context: value


def calling(function):
    def OnSmtpInCommand(self, server, session, message, context):
        function(context)
        return constants.S_FALSE

    return OnSmtpInCommand


def nobody_takes_it(context):
    context.SetCallback(None)
    context.SetCommandStatus(constants.EXPE_BLOB_READY)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (returning(True), "OnSmtpInCommand returned True; a sink returns an HRESULT"),
        (returning("550 no"), "returned '550 no'; a sink returns an HRESULT"),
        (returning(2**40), "no HRESULT"),
        (calling(lambda context: context.SetResponse(5)), "a text is wanted, not 5"),
        (calling(lambda context: context.SetResponse("x" * 65537)), "65536 characters, not 65537"),
        (calling(lambda context: context.SetCommandStatus("drop")), "a number of 32 bits is wanted, not 'drop'"),
        (calling(lambda context: context.SetSmtpStatusCode(2**32)), "a number of 32 bits"),
        (calling(lambda context: context.SetCallback(7)), "7 has no OnSmtpInCallback"),
        (calling(nobody_takes_it), "EXPE_BLOB_READY without SetCallback"),
    ],
)
async def test_what_only_a_call_shows_fails_it_in_words(method, said):
    async with Rig([await load_sink(kind(OnSmtpInCommand=method))]) as rig:
        client = rig.connect()
        await client.reply()
        assert (await client.command("NOOP")).startswith("451")
        ((_, _, error),) = rig.records.errors
        assert said in str(error)


async def test_a_method_may_be_any_callable():
    class Wrapped:
        def answer(self, server, session, message, context):
            context.SetResponse("250 wrapped")
            return constants.S_FALSE

        OnSmtpInCommand = answer
        OnSmtpOutCommand = functools.partialmethod(answer)

    async with Rig([await load_sink(Wrapped)]) as rig:
        client = rig.connect()
        await client.reply()
        assert await client.command("NOOP") == "250 2.0.0 wrapped"


async def test_a_plain_method_may_give_something_to_be_awaited():
    async def later(context):
        context.SetResponse("250 later")
        return constants.S_FALSE

    class Sink:
        def OnSmtpInCommand(self, server, session, message, context):
            return later(context)

    async with Rig([await load_sink(Sink)]) as rig:
        client = rig.connect()
        await client.reply()
        assert await client.command("NOOP") == "250 2.0.0 later"


async def test_a_first_object_that_never_comes_is_told(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(creating, "_LOAD_S", 0.05)
    try:
        with pytest.raises(PluginError, match="first object isn't there after"):
            await load_sink(kind(OnSmtpInCommand=ok, Load=lambda self, bag: never.wait()))
    finally:
        never.set()


async def test_a_sink_that_is_refused_leaves_no_thread():
    def mine():
        return [thread for thread in threading.enumerate() if thread.name.startswith("leaves-none-")]

    seen = []
    failing = kind(OnSmtpInCommand=ok, Load=lambda self, bag: seen.extend(mine()) or fails(self))
    with pytest.raises(PluginError, match="boom"):
        await load_sink(failing, name="leaves-none")
    assert len(seen) == 1
    seen[0].join(10)
    assert not seen[0].is_alive()
