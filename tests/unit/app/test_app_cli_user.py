"""`gatepost user`: the registry from the command line, and what a server then believes."""

import json
import os

from gatepost.app.cli import main
from gatepost.app.settings import load
from gatepost.app.users import open_users
from gatepost.model import Path
from gatepost.store.registry import Registry


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
    facts = {"name": "ann@example.org", "aliases": ["info@example.org"], "send_as": [], "login": True, "quota": None}
    assert json.loads(out) == [{**facts, "from": "registry"}]
    code, _, err = run("add", "INFO@example.org", "--no-password")
    assert code == 64 and "INFO@example.org belongs to ann@example.org already" in err
    code, _, err = run("add", "ann", "--no-password")
    assert code == 64 and "ann@example.org" in err
    assert run("add", "bob@example.org", "--password-stdin", said="\n")[0] == 64
    assert run("remove", "ann@example.org")[:2] == (0, "ann@example.org removed; there was no mail\n")
    code, _, err = run("remove", "ann@example.org")
    assert code == 64 and "there is no user ann@example.org" in err


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


def test_users_of_a_file_are_listed_and_left_alone(tmp_path, monkeypatch, capsys):
    file = made(tmp_path)
    passwd = tmp_path / "users.passwd"
    passwd.write_text("eve:{PLAIN}s3cret\ndan@example.net:!\n")
    file.write_text(file.read_text() + '[users]\nfiles = "users.passwd"\ndefault_domain = "example.org"\n')

    def run(*arguments, said=""):
        return gatepost(file, *arguments, said=said, monkeypatch=monkeypatch, capsys=capsys)

    assert run("list")[1].splitlines() == [
        f"eve@example.org  ({passwd})",
        f"dan@example.net  ({passwd})  no login",
    ]
    for arguments in (("add", "EVE@example.org", "--no-password"), ("passwd", "eve@example.org", "--password-stdin"),
                      ("remove", "dan@example.net")):  # fmt: skip
        code, _, err = run(*arguments, said="other\n")
        assert code == 64 and f"is a user of {passwd}" in err and "edit it" in err
    passwd.write_text("eve:{PLAIN}s3cret\nann:sesame\n")
    code, _, err = run("list")
    assert code == 78 and f"{passwd}:2: ann: this is neither" in err and "sesame" not in err


def test_a_password_is_kept_in_the_clear_only_if_somebody_says_so(tmp_path, monkeypatch, capsys):
    file = made(tmp_path)

    def run(*arguments, said=""):
        return gatepost(file, *arguments, said=said, monkeypatch=monkeypatch, capsys=capsys)

    database = tmp_path / "data" / "users.db"
    run("add", "ann@example.org", "--password-stdin", said="s3cret-one\n")
    assert b"s3cret-one" not in database.read_bytes()
    code, out, _ = run("passwd", "ann@example.org", "--password-stdin", "--keep-plain", said="s3cret-two\n")
    assert code == 0 and "kept in the clear" in out and str(database) in out
    assert "Nothing uses it yet" in out and "cram_md5" in out
    kept = Registry(database, os.urandom)
    assert kept.find("ann@example.org").plain == "s3cret-two"
    run("passwd", "ann@example.org", "--password-stdin", said="s3cret-three\n")
    assert kept.find("ann@example.org").plain is None
    kept.close()
