"""`gatepost user`: the registry from the command line, and what a server then believes."""

import json

from gatepost.app.cli import main
from gatepost.app.settings import load
from gatepost.app.users import open_users
from gatepost.model import Path


def gatepost(settings, *arguments, said="", monkeypatch=None, capsys=None):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    code = main(["-c", str(settings), "user", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def made(tmp_path):
    file = tmp_path / "gatepost.toml"
    route = '[[route]]\nmatch = "*@example.org"\ndeliver = "maildir"\n'
    file.write_text(f'hostname = "mx.example.org"\ndata = "{tmp_path}/data"\n{route}')
    return file


def test_a_user_is_added_listed_and_removed(tmp_path, monkeypatch, capsys):
    file = made(tmp_path)

    def run(*arguments, said=""):
        return gatepost(file, *arguments, said=said, monkeypatch=monkeypatch, capsys=capsys)

    assert run("list")[1] == "no users; add one:  gatepost user add ann@example.org\n"
    added = run("add", "ann@example.org", "--alias", "info@example.org", "--password-stdin", said="s3cret\n")
    assert added[:2] == (0, "ann@example.org added\n")
    code, out, _ = run("list", "--json")
    assert json.loads(out) == [
        {"name": "ann@example.org", "aliases": ["info@example.org"], "send_as": [], "login": True, "from": "registry"}
    ]
    code, _, err = run("add", "INFO@example.org", "--no-password")
    assert code == 64 and "INFO@example.org belongs to ann@example.org already" in err
    code, _, err = run("add", "ann", "--no-password")
    assert code == 64 and "ann@example.org" in err
    assert run("add", "bob@example.org", "--password-stdin", said="\n")[0] == 64
    assert run("remove", "ann@example.org")[0] == 0
    assert run("remove", "ann@example.org")[0] == 64


async def test_a_server_believes_the_registry(tmp_path, monkeypatch, capsys):
    file = made(tmp_path)
    settings = load(file, environ={})
    settings.data.mkdir()
    users = await open_users(settings, settings.data / "users.db")
    try:
        assert await users.verify("ann@example.org", "s3cret") is None
        import asyncio

        def run(*arguments, said):
            return gatepost(file, *arguments, said=said, monkeypatch=monkeypatch, capsys=capsys)

        add = ("add", "ann@example.org", "--password-stdin")
        assert (await asyncio.to_thread(run, *add, said="s3cret\n"))[0] == 0
        assert await users.verify("Ann@Example.org", "s3cret") == "ann@example.org"
        assert await users.exists(Path.parse("ann@example.org"))
        assert (await asyncio.to_thread(run, "passwd", "ann@example.org", "--password-stdin", said="other\n"))[0] == 0
        assert await users.verify("ann@example.org", "other") == "ann@example.org"
    finally:
        await users.close()
