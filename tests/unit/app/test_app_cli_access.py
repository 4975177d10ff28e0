"""`run_as` before a server is it: what `check` finds closed to it, and what root's commands leave behind: nothing."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trustme

from programs import as_root

pytestmark = as_root


@pytest.fixture
def here(monkeypatch):
    """A folder that anybody can enter, as one for a server is."""
    folder = Path(tempfile.mkdtemp(prefix="gatepost-access-")).resolve()
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    made = trustme.CA().issue_cert("mx.example.org")
    made.private_key_pem.write_to_path("key.pem")
    made.cert_chain_pems[0].write_to_path("chain.pem")
    Path("gatepost.toml").write_text(
        'hostname = "mx.example.org"\ndata = "data"\nrun_as = "nobody"\n'
        '[[listen]]\naddress = "127.0.0.1:0"\n[[tls.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n'
        '[[route]]\nmatch = "*@example.org"\ndeliver = "maildir"\n'
    )
    Path("chain.pem").chmod(0o644)
    Path("gatepost.toml").chmod(0o644)
    yield folder
    shutil.rmtree(folder)


def gatepost(*arguments):
    """In a process of its own: it becomes somebody else."""
    return subprocess.run(
        [sys.executable, "-m", "gatepost", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_check_finds_what_the_server_could_not_open(here):
    Path("key.pem").chmod(0o600)
    assert f"nobody can't use {here}/key.pem; chgrp " in gatepost("check").stdout
    Path("key.pem").chmod(0o644)
    told = gatepost("check").stdout
    assert f"can't use {here}/key.pem" not in told
    assert f"{here}/key.pem can be read by everybody" in told
    here.chmod(0o700)
    assert f"nobody can't use {here}/key.pem; {here} is closed to it" in gatepost("check").stdout


def test_what_root_adds_is_the_servers(here):
    done = gatepost("user", "add", "ann@example.org", "--no-password")
    assert (done.returncode, done.stdout) == (0, "ann@example.org added\n"), done.stderr
    nobody = pwd.getpwnam("nobody").pw_uid
    assert {path.stat().st_uid for path in (here / "data", *(here / "data").iterdir())} == {nobody}
    assert "isn't nobody's" not in gatepost("check").stdout


def test_check_finds_what_root_left_in_the_data_folder(here):
    assert gatepost("user", "add", "ann@example.org", "--no-password").returncode == 0
    os.chown(here / "data" / "users.db", 0, 0)
    done = gatepost("check")
    assert done.returncode == 78
    assert f"{here}/data/users.db isn't nobody's; chown -R nobody {here}/data" in done.stdout


def test_plugins_with_users_are_tried_as_a_server_would(here):
    with Path("gatepost.toml").open("a") as file:
        file.write('[[plugin]]\nsource = "cat"\ndialect = "program"\nuser = "nobody"\n')
    assert "plugins      cat\n" in gatepost("check").stdout
    assert gatepost("plugin", "list").stdout.startswith("cat  program  cat  gatepost.toml:")
    Path("gatepost.toml").write_text(Path("gatepost.toml").read_text().replace('user = "nobody"', 'user = "no-such"'))
    assert 'plugins      FAILED: plugin "cat": there is no user "no-such"' in gatepost("check").stdout
