"""What can't be meant is refused before anything runs, by name."""

import pytest

from gatepost.hooks.stages import Message
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.program import ExitCodes, OptionError, ProgramOptions, SpamCodes, load_program
from unit.plugins_program.program_scripts import script


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("1, 4, 8-32, 64-", {1, 4, *range(8, 33), *range(64, 256)}),
        ("0", {0}),
        (" 7 - 9 ,3", {3, 7, 8, 9}),
        ("255-", {255}),
        ("", set()),
    ],
)
def test_exit_codes(text, inside):
    codes = ExitCodes.parse(text)
    assert {code for code in range(256) if code in codes} == inside
    assert bool(codes) == bool(inside)


@pytest.mark.parametrize("text", ["-5", "9-8", "256", "1;2", "a", "1 2", "1--2", "٣", "1-2-3"])
def test_what_is_no_exit_code(text):
    with pytest.raises(OptionError):
        ExitCodes.parse(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hit": "1"}, 'hit has no meaning with mode = "filter"; it belongs to scan'),
        ({"mode": "qfilter", "spam": SpamCodes()}, "spam has no meaning"),
        ({"mode": "scan", "hit": "1", "empty": "unchanged"}, "empty has no meaning"),
        ({"mode": "pickup", "text": "no"}, "text has no meaning"),
        ({"mode": "scan"}, "needs to know the exit codes of a hit"),
        ({"mode": "scan", "hit": "1-5", "error": "5-"}, "exit code 5 is among both"),
        ({"mode": "scan", "hit": "1", "action": "tag"}, "go together"),
        ({"mode": "scan", "hit": "1", "header": "X: y"}, "go together"),
        ({"mode": "scan", "hit": "1", "action": "tag", "header": "X Y: z"}, "header: "),
        ({"mode": "pickup", "connector": "../SMTP"}, "connector is a short code"),
        ({"discard": "2, 100"}, "exit code 100 means something else already"),
        ({"discard": "1", "spam": SpamCodes()}, "exit codes of its own"),
        ({"output_size": 0}, "output_size is at least 1"),
    ],
)
def test_options_that_cant_be_meant(options, words):
    with pytest.raises(PluginError, match=words):
        ProgramOptions(**options)


def test_spam_codes_differ():
    with pytest.raises(OptionError, match="different"):
        SpamCodes(spam=1)
    with pytest.raises(OptionError, match="reject"):
        SpamCodes(reject=-1)


async def test_programs_that_cant_be_run(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for source, words in (
        ("no-such-program-here -x", 'no program "no-such-program-here" in PATH'),
        (f"{tmp_path}/missing", "there is no file"),
        (str(plain), "isn't executable; mend: chmod"),
        (f"{tmp_path}/", "isn't a file"),
        ("cat 'unfinished", "can't be split"),
        ("", "a program's source is a command line"),
        ("  ", "a program's source is a command line"),
    ):
        with pytest.raises(PluginError, match=words):
            await load_program(source)
    for source in ("cat --", "-- cat", "cat -- -- cat"):
        with pytest.raises(PluginError, match="nothing where a filter should be"):
            await load_program(source, options=ProgramOptions(mode="qfilter"))
    with pytest.raises(PluginError, match="at least one"):
        await load_program("cat", processes=0)


async def test_a_binding_is_for_message_and_behind_the_house(tmp_path):
    loaded = await load_program("cat", wishes=[Wish(), Wish(priority=5, rule="rcpt to=*@example.org")])
    assert [(one.stage, one.priority) for one in loaded.bindings] == [(Message, 25000), (Message, 5)]
    assert (loaded.name, loaded.dialect) == ("cat", "program")
    with pytest.raises(PluginError, match="has nothing for the stage recipient; it has: expanded, message, submitted"):
        await load_program("cat", wishes=[Wish(stages=("recipient",))])


async def test_paths_are_relative_to_the_folder(tmp_path):
    script(tmp_path, "exit 99", "away")
    assert (await load_program("./away.sh", folder=tmp_path)).name == "away"
    with pytest.raises(PluginError, match="there is no file"):
        await load_program("./away.sh", folder=tmp_path.parent)
