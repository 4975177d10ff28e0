"""The POP3 stages are Python's, in the server's own process: every other dialect refuses them at load, by name.

None of the foreign systems asks its plugins in POP3 sessions; the host-program module has its own callback.
"""

import subprocess
from pathlib import Path

import pytest

from gatepost import on
from gatepost.hooks import stages
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.plugins.python import load, load_isolated
from gatepost.plugins.sink import load_sink
from programs import program

HERE = Path(__file__).parent / "dialects"
POP = sorted(stage.name for stage in stages.POP)
FOREIGN = ("mailenable", "indimail", "filter", "scan", "sink", "COM sink", "isolated")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The libraries of each dialect, compiled once."""
    folder = tmp_path_factory.mktemp("built")
    native = Path(__file__).parents[2] / "native"
    for name, source, *defined in (
        ("mailenable", "story"),
        ("indimail", "story", "-DINDIMAIL"),
        ("sink", "story_sink"),
    ):
        command = [program("cc"), "-shared", "-fPIC", "-w", f"-I{native}", *defined, "-o"]
        subprocess.run([*command, folder / f"{name}.so", HERE / f"{source}.c"], check=True)
    return folder


async def loaded_as(dialect, built, tmp_path, wishes):
    match dialect:
        case "mailenable":
            return await load_mailenable(built / "mailenable.so", wishes=wishes, processes=1, scratch=tmp_path)
        case "indimail":
            return await load_indimail(built / "indimail.so", wishes=wishes, scratch=tmp_path)
        case "filter":
            return await load_program(str(HERE / "filter.sh"), wishes=wishes, scratch=tmp_path)
        case "scan":
            options = ProgramOptions(mode="scan", hit="1", text="no")
            return await load_program(
                f"{HERE / 'scan.sh'} {{EMAILFILESPEC}}", wishes=wishes, scratch=tmp_path, options=options
            )
        case "sink":
            return await load_sink(f"{HERE / 'story_sink.py'}:Story", wishes=wishes)
        case "COM sink":
            return await load_sink(built / "sink.so", wishes=wishes, scratch=tmp_path)
        case "isolated":
            source = tmp_path / "one.py"
            source.write_text(
                "from gatepost import on\n\n@on('pop-login')\n@on('pop-retrieve')\n@on('pop-delete')\n"
                "def hook(event):\n    pass\n"
            )
            return await load_isolated(source, wishes=wishes)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("stage", POP)
@pytest.mark.parametrize("dialect", FOREIGN)
async def test_other_dialects_refuse_the_pop3_stages_by_name(dialect, stage, built, tmp_path):
    with pytest.raises(PluginError, match=f'"?{stage}"?') as refused:
        plugin = await loaded_as(dialect, built, tmp_path, [Wish(stages=(stage,))])
        await plugin.close()
    assert 'plugin "' in str(refused.value)


@pytest.mark.parametrize("stage", POP)
def test_python_has_them(stage):
    def hook(event):
        return None

    plugin = load(on(stage)(hook), wishes=[Wish(stages=(stage,))])
    assert [binding.stage.name for binding in plugin.bindings] == [stage]
