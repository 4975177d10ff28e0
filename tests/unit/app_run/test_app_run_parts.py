"""Sockets for several workers, reasons in words, settings on their way to workers, and what shadows would have done."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from gatepost import Server
from gatepost.app.inspection import has_shadow, shadow_facts
from gatepost.app.listening import IS_SHARED_OUT, Sockets
from gatepost.app.privileges import Identity, PrivilegeError
from gatepost.app.reloading import NeedsRestart, check_reloadable
from gatepost.app.settings import Settings, SettingsError, load
from gatepost.app.settings.root import Listener
from gatepost.app.starting import REASONS, Launch, StartFailure, failure, packed, unpacked
from gatepost.net.certificates import CertificateError
from gatepost.plugins.loaded import PluginError
from gatepost.store.errors import ShardBusy
from gatepost.store.lists_facts import ListError

ANYWHERE = Listener.model_validate({"name": "mx", "address": "127.0.0.1:0"})


def at(port: int) -> Listener:
    return Listener.model_validate({"name": "taken", "address": f"127.0.0.1:{port}"})


def test_every_worker_has_a_socket_at_the_same_address() -> None:
    sockets = Sockets([ANYWHERE], 3)
    own = [sockets.of(worker)["mx"] for worker in range(3)]
    assert len({one.getsockname() for one in own}) == 1
    assert len({one.fileno() for one in own}) == (3 if IS_SHARED_OUT else 1)
    assert sockets.addresses() == {"mx": own[0].getsockname()}
    sockets.close()
    assert all(one.fileno() == -1 for one in own)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_is_never_shared_with_another_server(workers: int) -> None:
    first = Sockets([ANYWHERE], 2)
    port = first.addresses()["mx"][1]
    for worker in range(2):
        first.of(worker)["mx"].listen()
    with pytest.raises(OSError, match="the port is taken by") as told:
        Sockets([ANYWHERE, at(port)], workers)
    assert told.value.errno == errno.EADDRINUSE
    first.close()
    Sockets([at(port)], workers).close()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.EADDRINUSE, "cannot listen at x:25: the port is taken"), 75, "cannot listen at x:25"),
        (OSError(errno.EACCES, "cannot listen at x:25: permission denied"), 78, "cannot listen"),
        (PermissionError(errno.EACCES, "Permission denied", "/var/lib/x"), 78, "/var/lib/x: permission denied"),
        (ShardBusy("another process owns data/shards/0"), 75, "a server runs on this data folder already"),
        (PluginError('plugin "x" is bad'), 78, 'plugin "x" is bad'),
        (CertificateError("no.pem: No such file"), 78, "the certificate can't be used: no.pem"),
        (NeedsRestart("data changes only with a restart"), 78, "data changes only"),
        (PrivilegeError("no such user"), 78, "no such user"),
        (ListError("lists.db: it is damaged"), 75, "the data folder can't be used: lists.db: it is damaged"),
    ],
)
def test_every_reason_has_words_a_mend_and_a_code(error: Exception, code: int, said: str) -> None:
    assert isinstance(error, REASONS)
    told = failure(error)
    assert told.code == code
    assert said in str(told)
    assert told.mend
    assert "[Errno" not in str(told)
    assert failure(told) is told


def test_settings_reach_a_worker_whole_but_for_their_text(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text('hostname = "mx.example.org"\n[[user]]\nname = "ann@example.org"\npassword = "$argon2id$secret"\n')
    settings = load(file, environ={})
    there = unpacked(packed(settings))
    assert there.model_dump() == settings.model_dump()
    assert there.file == file
    assert there.user[0].password is not None and there.user[0].password.reveal() == "$argon2id$secret"
    assert settings.origins.places and not there.origins.places


def test_a_launch_reads_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text("[limits]\nrecipients = 7\n")
    file = tmp_path / "g.toml"
    file.write_text('include = ["conf.d/*.toml"]\n')
    plugin = tmp_path / "p.py"
    plugin.write_text("")
    launch = Launch(file, (str(plugin), "package.module:thing"), environ={"GATEPOST__HOSTNAME": "mx.example.org"})
    settings = launch.settings()
    assert (settings.limits.recipients, settings.hostname) == (7, "mx.example.org")
    assert [one.name for one in settings.plugin] == ["p", "thing"]
    assert launch.files(settings) == [file, tmp_path / "conf.d" / "a.toml", plugin]
    file.write_text("what = 1\n")
    with pytest.raises(SettingsError):
        launch.settings()


def test_what_needs_a_restart_is_named() -> None:
    before = Settings.in_memory(listen="127.0.0.1:25")
    check_reloadable(before, Settings.in_memory(listen="127.0.0.1:25", limits={"recipients": 5}))
    with pytest.raises(NeedsRestart, match="workers change only with a restart"):
        check_reloadable(before, Settings.in_memory(listen="127.0.0.1:25", workers=7))
    with pytest.raises(NeedsRestart, match="hostname and listeners change only"):
        check_reloadable(before, Settings.in_memory(listen="127.0.0.1:26", hostname="other.example"))


def test_shadows_are_counted_by_what_they_would_have_done() -> None:
    def asked(plugin: str, **facts: object) -> tuple[int, str, str, dict[str, object]]:
        return (1, "7K3MAB-9QXYZ0", "asked", {"plugin": plugin, "shadow": True, **facts})

    one = [asked("new", verdict={"say": "refuse"}), (1, "x", "asked", {"plugin": "old"}), asked("new")]
    two = [asked("new", each={"a": {"say": "refuse"}, "b": {"say": "proceed"}}), asked("new", why="failed: ValueError")]
    assert has_shadow(one) and not has_shadow(one[1:2])
    assert shadow_facts([one, two]) == {"new": {"asked": 4, "refuse": 2, "proceed": 2, "failed": 1}}


def test_an_identity_is_a_user_and_perhaps_a_group() -> None:
    assert Identity.of("root").uid == 0
    assert Identity.of("root:root").gid == 0
    with pytest.raises(PrivilegeError, match="there is no such user or group"):
        Identity.of("nobody-of-that-name")


def test_a_failure_is_not_made_twice() -> None:
    original = StartFailure("why", "what to do", 70)
    assert (str(original), original.mend, original.code) == ("why", "what to do", 70)


@pytest.mark.parametrize(
    ("verb", "reply", "words"),
    [
        ("RCTP", "450 4.2.0 later", 'no client says "RCTP"; did you mean "RCPT"?'),
        ("MAIL FROM", "450 4.2.0 later", 'no client says "MAIL FROM"; did you mean "MAIL"?'),
        ("RCPT", "hello", '"hello" is no reply; write "450 4.2.0 try later"'),
    ],
)
def test_a_script_that_would_never_fire_is_refused(verb, reply, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Server().script(verb, reply)
