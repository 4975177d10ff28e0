"""[[collect]]: what is filled in, what is wrong with its place and mend, and what accounts come of it."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from gatepost.app.collecting import accounts
from gatepost.app.settings import SettingsError, load
from gatepost.collecting.accounts import Believed, MultiDrop
from gatepost.collecting.ports import RemoteError, Trouble

TOP = '[[route]]\nmatch = "*@example.org"\ndeliver = "maildir"\n[[collect]]\n'
USUAL = 'server = "pop.example.net"\nuser = "ann"\npassword = "geheim"\nto = "ann@example.org"\n'


def settings(folder: Path, text: str, before: str = ""):
    file = folder / "gatepost.toml"
    file.write_text(before + TOP + text)
    return load(file, environ={})


def one(folder: Path, text: str):
    (found,) = accounts(settings(folder, text))
    return found


def test_what_nobody_says_is_filled_in(tmp_path):
    found = one(tmp_path, USUAL)
    assert (found.name, found.login.host, found.login.port, found.login.tls) == (
        "ann@pop.example.net", "pop.example.net", 995, "implicit",
    )  # fmt: skip
    assert (found.every_s, found.keep_s, found.size_limit, found.on_refusal) == (
        300,
        7 * 86400,
        50 * 2**20,
        "quarantine",
    )
    assert (found.login.password, found.login.mechanisms, found.envelope) == ("geheim", (), None)


def test_what_is_said_counts(tmp_path):
    (tmp_path / "ca.pem").write_text("x")
    text = USUAL.replace("pop.example.net", "pop.example.net:110") + (
        'name = "isp"\nkeep = "forever"\nevery = "0s"\nsize_limit = "1MiB"\nat_most = 5\nrefused = "discard"\n'
        'auth = ["scram-sha-256", "apop"]\nca = "ca.pem"\nenabled = false\n'
        'envelope = "Delivered-To"\nprefix = "box-"\ndomains = ["Example.ORG"]\n'
        'trusted = ["192.0.2.0/24", "2001:db8::1", "*.Example.net"]\n'
    )
    found = one(tmp_path, text)
    assert (found.login.tls, found.keep_s, found.every_s, found.size_limit) == ("starttls", None, 0, 2**20)
    assert found.login.mechanisms == ("scram-sha-256", "apop")
    assert found.login.ca == tmp_path / "ca.pem"
    assert found.envelope == MultiDrop("Delivered-To", "box-", ("example.org",))
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::1"))
    assert found.believed == Believed(networks, ("*.example.net",))
    assert (found.most, found.on_refusal, found.enabled) == (5, "discard", False)


WRONG = [
    ("pop.example.net", 'pop.example.net:995"\ntls = "none', 'tls = "none" can\'t be: on port 995'),
    ("pop.example.net", 'pop.example.net:110"\ntls = "implicit', "on port 110 TLS doesn't come first"),
    ("pop.example.net", "pop.example.net:0", "port 0 can't be called"),
    ('password = "geheim"', "", "there is neither a password nor a token"),
    ('password = "geheim"', 'password = "x"\ntoken_command = "token"', "are two ways to log in"),
    ('password = "geheim"', 'token_file = "nowhere"', "there is no file"),
    ('password = "geheim"', "token_command = 'a \"b'", "a quote isn't closed"),
    ('password = "geheim"', 'password = "x"\nauth = "xoauth2"', '"xoauth2" logs in with a token'),
    ('password = "geheim"', 'token_command = "token"\nauth = "plain"', '"plain" logs in with a password'),
    ('password = "geheim"', 'password = "x"\nauth = ["auto", "plain"]', '"auto" is every way already'),
    ('password = "geheim"', 'password = "x"\nauth = []', "no way to log in is left"),
    ('password = "geheim"', 'password = "x"\nauth = "scram"', 'auth can\'t be "scram"'),
    ('password = "geheim"', 'password = "x"\nca = "nowhere.pem"', "there is no file"),
    ('password = "geheim"', 'password = "x"\nfingerprint = "ab:cd"', "isn't the SHA-256 of a certificate"),
    ('password = "geheim"', 'password = "x"\nname = "a/b"', "can't be a name"),
    ('password = "geheim"', 'password = "x"\nevery = "2s"', "more than a server will bear"),
    ('password = "geheim"', 'password = "x"\nkeep = "for ever"', "isn't a duration"),
    ('password = "geheim"', 'password = "x"\nsize_limit = "1GiB"', "can't be more than limits.message_size"),
    ('password = "geheim"', 'password = "x"\nprefix = "box-"', "none is named"),
    ('password = "geheim"', 'password = "x"\nenvelope = "To"', "is what the author wrote"),
    ('password = "geheim"', 'password = "x"\nenvelope = "a b"', "a b"),
    ('password = "geheim"', 'password = "x"\nenvelope = "X-To"\ndomains = "a@b.example"', "here domains are meant"),
    ('password = "geheim"', 'password = "x"\ntrusted = "0.0.0.0/0"', "is nearly everybody"),
    ('password = "geheim"', 'password = "x"\ntrusted = "*"', "isn't a server's name"),
    ('password = "geheim"', 'password = "x"\nkept = "7d"', 'there is no key "kept"'),
    ("ann@example.org", "ann", "isn't an address"),
    ("ann@example.org", "", "somebody must get the mail"),
    ("ann@example.org", "ann@elsewhere.example", "no route takes mail for ann@elsewhere.example"),
]


@pytest.mark.parametrize(("before", "after", "told"), WRONG, ids=[row[2] for row in WRONG])
def test_what_is_wrong_is_told_with_its_line_and_a_mend(tmp_path, before, after, told):
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, USUAL.replace(before, after))
    (found,) = caught.value.findings
    assert told in found.what
    assert found.mend
    assert re.search(r"gatepost\.toml:\d+", found.where)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("promise", ["quarantine", "discard"])
def test_a_promise_that_a_refusal_would_break(tmp_path, promise):
    with pytest.raises(SettingsError, match="what is refused here can't be sent back"):
        settings(tmp_path, USUAL + f'refused = "{promise}"\n', before=f'never = ["{promise}"]\n')


def test_two_of_one_name(tmp_path):
    with pytest.raises(SettingsError, match="is taken by an earlier"):
        settings(tmp_path, USUAL + "[[collect]]\n" + USUAL)


def test_two_of_one_maildrop(tmp_path):
    with pytest.raises(SettingsError, match='the maildrop of "ann" there is that of') as caught:
        settings(tmp_path, USUAL + '[[collect]]\nname = "other"\n' + USUAL.replace("pop.example", "POP.Example"))
    (found,) = caught.value.findings
    assert "one table for it" in found.mend


@pytest.mark.parametrize(
    ("text", "before", "expire_s"),
    [
        ("", "", 5 * 86400),
        ('expire = "1h"', "", 3600),
        ('expire = "forever"', "", None),
        ('refused = "discard"', 'never = ["quarantine"]\n', None),
    ],
)
def test_how_long_one_is_refused_for_now(tmp_path, text, before, expire_s):
    (found,) = accounts(settings(tmp_path, USUAL + text + "\n", before))
    assert found.expire_s == expire_s


async def test_a_token_of_a_file_is_read_anew_each_time(tmp_path):
    (tmp_path / "token").write_text("first\n")
    found = one(tmp_path, USUAL.replace('password = "geheim"', 'token_file = "token"'))
    assert found.login.token is not None
    assert await found.login.token() == "first"
    (tmp_path / "token").write_text("second\nrest\n")
    assert await found.login.token() == "second"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(RemoteError, match="no token"):
        await found.login.token()
    (tmp_path / "token").unlink()
    with pytest.raises(RemoteError, match="can't be read"):
        await found.login.token()


@pytest.mark.parametrize(
    ("command", "told"),
    [("printf 'abc\\ndef'", "abc"), ("false", "exit code 1"), ("/nowhere/token", "can't be run"), ("true", "no token")],
)
async def test_a_token_that_a_program_prints(tmp_path, command, told):
    found = one(tmp_path, USUAL.replace('password = "geheim"', f'token_command = "{command}"'.replace("\\", "\\\\")))
    assert found.login.token is not None
    if told == "abc":
        assert await found.login.token() == told
        return
    with pytest.raises(RemoteError, match=told) as caught:
        await found.login.token()
    assert caught.value.kind in (Trouble.LOGIN, Trouble.TEMPORARY)
