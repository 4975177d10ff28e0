"""The zoo at work: plugins that do their worst, in four dialects at once, among fifty sessions of a real server.

Nothing is lost, nobody is stuck, other plugins' answers are what they always are, and no process is left. How long
sessions wait that have nothing to do with the animals is printed: that is the machine's figure too.
"""

from __future__ import annotations

import logging
import re
from statistics import median

import pytest

from gatepost.plugins.host import Backoff, Limits
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.loaded import Wish
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.plugins.python import load
from gatepost.plugins.sink import load_sink
from native.zoo.keeper import HERE, MANY, Keeper, check_nothing_lost, check_nothing_stuck, compiled, untiring

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(150)]
MIB = 1024 * 1024
TIME = "1s"  # that an animal has
PARTS = 2
PACE_S = 0.5
SESSIONS, CALM_SESSIONS = 50, 25
QUICK = Backoff(0.05, 1.0)
TOKEN = re.compile(r"(?: \([0-9A-Z]{6}-[0-9A-Z]{6}\)|, [0-9A-Z]{6}-[0-9A-Z]{6}-\d+)$")
GOOD = """
from gatepost import on, refuse

@on("recipient")
async def rcpt(event):
    return refuse(550, "5.7.1", "good python says no") if event.recipient.local == "no-python" else None

@on("message")
async def message(event):
    event.add_header("X-Good", "python")
"""
CALM = {  # the recipients of a calm session, and what it hears about them
    "ann": "250 2.1.5 recipient ok",
    "no-python": "550 5.7.1 good python says no",
    "no-mailenable": "550 5.7.1 good mailenable says no",
    "no-indimail": "550 5.7.1 good indimail says no",
    "no-sink": "550 5.7.1 good sink says no",
}
SENDER, DATA = "250 2.1.0 sender ok", "354 send the message, end with a line that is a single dot"
ACCEPTED = "250 2.0.0 accepted"
FAILED = "451 4.3.0 a check couldn't be made, try again later"

ANIMALS = {
    "mailenable": (
        *(("recipient", animal) for animal in ("segfaults", "hangs", "overruns", "twice", "exits")),
        *(("message", animal) for animal in ("leaks", "late", "prints", "forks", "throws")),
    ),
    "indimail": (
        *(("recipient", animal) for animal in ("segfaults", "hangs", "leaks", "twice", "exits")),
        *(("message", animal) for animal in ("late", "prints", "forks", "throws")),
    ),
    "sink": (
        *(
            ("recipient", one)
            for one in ("segfaults", "hangs", "keeps", "doubles", "lingers", "never", "forks", "exits")
        ),
        *(("recipient", "scribbles"), ("message", "half"), ("message", "never"), ("message", "doubles")),
        *(("message", animal) for animal in ("leaks", "late", "prints", "throws")),
    ),
    "program": tuple(
        ("message", animal)
        for animal in ("segfaults", "hangs", "late", "prints", "floods", "forks", "throws", "exits", "leaks", "half")
    ),
}
HARMLESS = {"leaks", "prints", "forks", "twice", "tame", "keeps", "doubles", "lingers", "scribbles"}
"""Who may be answered for, since it only does something else beside. All the others never are."""


async def plugins(folder, env):
    """The good ones, and the zoo's; each of these is shown only its own domain's mail."""
    more = {"scratch": folder, "grace_s": 0.2, "backoff": QUICK}
    libraries = {
        "mailenable": compiled(folder),
        "indimail": compiled(folder, "INDIMAIL"),
        "sink": compiled(folder, "SINK"),
    }
    python = folder / "good_python.py"
    python.write_text(GOOD)
    yield load(python)
    yield await load_mailenable(
        libraries["mailenable"], name="good-mailenable", env=env | {"ZOO_GOOD": "no-mailenable"}, **more
    )
    yield await load_indimail(
        libraries["indimail"], name="good-indimail", env=env | {"ZOO_GOOD": "no-indimail"}, **more
    )
    yield await load_sink(
        libraries["sink"],
        name="good-sink",
        wishes=[Wish(stages=("command",), rule="rcpt")],
        env=env | {"ZOO_GOOD": "no-sink"},
        **more,
    )
    yield await load_program(
        str(HERE / "animals.sh"),
        name="good-filter",
        env=env | {"ZOO_GOOD": "yes"},
        wishes=[Wish(rule="rcpt to=*@filtered.example")],
        scratch=folder,
    )

    def wishes(dialect):
        before = {"program": (), "sink": ("command",)}.get(dialect, ("recipient",))
        return [Wish(stages=(*before, "message"), rule=f"rcpt to=*@{dialect}.example", timeout=TIME)]

    limits = Limits(address_space=768 * MIB)
    yield await load_mailenable(
        libraries["mailenable"], name="zoo-mailenable", env=env, wishes=wishes("mailenable"), limits=limits, **more
    )
    yield await load_indimail(
        libraries["indimail"], name="zoo-indimail", env=env, wishes=wishes("indimail"), limits=limits, **more
    )
    yield await load_sink(libraries["sink"], name="zoo-sink", env=env, wishes=wishes("sink"), limits=limits, **more)
    yield await load_program(
        str(HERE / "animals.sh"),
        name="zoo-program",
        env=env,
        wishes=wishes("program"),
        limits=Limits(address_space=256 * MIB),
        options=ProgramOptions(output_size=MIB),
        scratch=folder,
    )


def sessions(*, wild):
    """Half of them calm, half of them the animals' keepers: with tame animals, or with wild and tame ones in turns."""
    plans = []
    for number in range(CALM_SESSIONS):
        domain = "filtered.example" if number % 5 == 0 else "calm.example"
        plans.append(plan(domain, [("message", "tame")], to=list(CALM)))
    for number in range(SESSIONS - CALM_SESSIONS):
        dialect = list(ANIMALS)[number % len(ANIMALS)]
        animals = [("message", "tame")]
        if wild:
            own = ANIMALS[dialect]
            at = number // len(ANIMALS) * 2  # of more animals than a session meets
            turned = own[at:] + own[:at]
            animals = [one for animal in turned for one in (animal, ("message", "tame"))]
        plans.append(plan(f"{dialect}.example", animals))
    return plans


def plan(domain, animals, *, to=("ann",), pace_s=PACE_S, most=MANY):
    return {"domain": domain, "animals": list(animals), "to": list(to), "pace_s": pace_s, "most": most}


def told(reply):
    return TOKEN.sub("", reply)


def took(heard):
    """How long every reply to a calm session took."""
    times = [one for session in heard[:CALM_SESSIONS] for mail in session["mails"] for one in mail["took"]]
    assert len(times) > 300
    return times


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


def check_answers(everything, stored):
    """Calm sessions hear and get what they always do; of the animals only the harmless are answered for."""
    filtered = set()
    for number, session in enumerate(everything):
        for mail in session["mails"]:
            heard = [told(reply) for reply in mail["replies"]]
            if number % SESSIONS < CALM_SESSIONS:
                assert heard == [SENDER, *CALM.values(), DATA, ACCEPTED]
                if number % SESSIONS % 5 == 0:
                    filtered.add(mail["id"])
            else:
                harmless = mail["animal"] in HARMLESS
                assert heard[-1] == FAILED or (heard[-1] == ACCEPTED and harmless), mail
    for [content] in stored.values():
        assert b"\r\nX-Good: python\r\n" in content
    assert {id for id, [content] in stored.items() if b"X-Filtered: yes\r\n" in content} == filtered


async def test_the_zoo_among_fifty_sessions(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    keeper = Keeper(tmp_path)
    everybody = [untiring(plugin) async for plugin in plugins(tmp_path, keeper.env)]
    everything = []
    async with keeper.open(everybody):
        before, during, wild = [], [], []
        for part in range(PARTS):  # in turns, so that whatever else this machine does is in both
            quiet = await keeper.serve(sessions(wild=False), seconds=3, seed=10 * part)
            loud = await keeper.serve(sessions(wild=True), seconds=5, seed=10 * part + 1)
            everything += quiet + loud
            before += took(quiet)
            during += took(loud)
            wild += loud[CALM_SESSIONS:]
        print(f"\n{figures('quiet', before)}; {figures('beside the zoo', during)}; {animals_of(wild)}")
        check_nothing_stuck(everything)
        accepted = {mail["id"] for session in everything for mail in session["mails"] if mail["accepted"]}
        stored = await keeper.delivered(accepted)
    check_nothing_lost(everything, stored)
    check_answers(everything, stored)
    assert await keeper.left() == []


def figures(name, times):
    return f"{name}: {len(times)} replies, median {median(times) * 1000:.1f} ms, p99 {p99(times) * 1000:.1f} ms"


def animals_of(sessions):
    mails = [mail for session in sessions for mail in session["mails"]]
    wild = [mail for mail in mails if mail["animal"] != "tame"]
    tame = [mail for mail in mails if mail["animal"] == "tame"]
    passed = sum(mail["accepted"] for mail in tame)
    assert passed > len(tame) / 2  # the innocent are asked about once more
    return f"{len(wild)} animals, {passed} of {len(tame)} tame ones of the same plugins answered"
