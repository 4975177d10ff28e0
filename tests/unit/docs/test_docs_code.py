"""The code on the pages works: plugins load and answer, programs run, settings load, `gatepost try` prints what it is
said to print.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest
import trustme

from gatepost import Server
from gatepost.app.cli import main
from gatepost.app.settings import load as load_settings
from gatepost.content.dkim_keys import Algorithm, make_key
from gatepost.hooks.stages import AFTERWARDS, OUTBOUND, POP
from gatepost.plugins.python import load
from gatepost.testing import try_plugin
from unit.docs.pages import BRING, PAGES, ROOT, Block, blocks, normalised, shows

GUIDES = [page for page in PAGES if "walks" not in page.parts and page != BRING]
PLUGIN = 'from gatepost import on\n\n\n@on("message")\nasync def spam(event):\n    pass\n'
FILES = {
    "secrets/srs": "a secret of sixteen octets or more\n",
    "secrets/batv": "another secret of sixteen octets\n",
    "plugins/spam.py": PLUGIN,
    "plugins/keywords.py": PLUGIN,
    "plugins/archive.py": PLUGIN,
    "plugins/new.py": PLUGIN,
    "plugins/shield.py": "class Shield:\n    def OnSmtpInCommand(self, *given):\n        pass\n",
    "plugins/SpamFilter.dll": "",
    "recipients.txt": "ann@example.org\n",
    "users.passwd": "ann:{PLAIN}secret\n",
    "secrets/inner": "secret\n",
    "secrets/isp": "secret\n",
    **dict.fromkeys(
        ["keys/example.org.s2026a.pem", "keys/example.org.s2026b.pem"], make_key(Algorithm.ED25519)[1].decode()
    ),
}


def _blocks(kind: str) -> list[Block]:
    return [block for page in GUIDES for block in blocks(page, kind)]


def _is_plugin(block: Block) -> bool:
    return any(line.strip().startswith("@on(") for line in block.text.splitlines())


PYTHON = _blocks("python")


@pytest.mark.parametrize("block", [block for block in PYTHON if _is_plugin(block)], ids=str)
async def test_a_plugin_on_a_page_loads_and_answers(block, tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text(block.text)
    story = await try_plugin(load(file), dns={"client.example": {"A": ["192.0.2.1"]}})
    assert story.errors == []
    is_arriving = any(binding.stage not in AFTERWARDS | OUTBOUND | POP for binding in load(file).bindings)
    assert bool((await try_plugin(load(file), failing=True)).asked) is is_arriving


@pytest.mark.parametrize(
    "block", [block for block in PYTHON if not _is_plugin(block) or "def test_" in block.text], ids=str
)
def test_a_program_on_a_page_runs(block, tmp_path, capsys, sink_session):
    module = ModuleType("page")
    module.__file__ = str(tmp_path / "page.py")
    exec(compile(block.text, str(block), "exec"), vars(module))  # the page's own code
    found = vars(module)
    if "main" in found:
        asyncio.run(_until_it_waits(found["main"]()) if "Event().wait()" in block.text else found["main"]())
    for name, function in found.items():
        if not name.startswith("test_"):
            continue
        wanted = inspect.signature(function).parameters
        if "gatepost" in wanted:
            with Server().in_thread() as server:
                function(server)
        elif "sink_session" in wanted:
            function(sink_session)
        elif inspect.iscoroutinefunction(function):
            asyncio.run(function(**({"try_plugin": try_plugin} if "try_plugin" in wanted else {})))
        else:
            function()


async def _until_it_waits(work) -> None:
    """A server that serves for ever has begun, and ends well when it is told to."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=0.3)
    assert not task.done(), task.exception()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("block", _blocks("toml"), ids=str)
def test_settings_on_a_page_load(block, tmp_path):
    issued = trustme.CA().issue_cert("mx.example.org")
    for pem in issued.cert_chain_pems:
        with (tmp_path / "fullchain.pem").open("ab") as chain:
            chain.write(pem.bytes())
    issued.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    file = tmp_path / "gatepost.toml"
    file.write_text(block.text.replace("/etc/gatepost", str(tmp_path)))
    load_settings(file, environ={})


@pytest.mark.parametrize("block", _blocks("try"), ids=str)
def test_what_gatepost_try_prints_is_what_is_shown(block, tmp_path, monkeypatch, capsys):
    command, _, shown = block.text.partition("\n")
    words = command.removeprefix("$ gatepost ").split()
    plugin = next(one for one in blocks(block.page, "python") if one.text.startswith(f"# {words[1]}"))
    (tmp_path / words[1]).write_text(plugin.text)
    monkeypatch.chdir(tmp_path)
    main(words)
    printed = normalised(capsys.readouterr().out)
    assert shows(printed, shown)


def test_every_page_is_looked_at():
    assert {page.name for page in PAGES} >= {
        "README.md",
        BRING.name,
        "plugin-authors.md",
        "embedders.md",
        "administrators.md",
    }
    assert len(PYTHON) > 10
    assert Path(GUIDES[-1]).parents[0] == (ROOT / "docs") or (ROOT / "docs") in GUIDES[-1].parents
