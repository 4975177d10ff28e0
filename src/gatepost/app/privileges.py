"""Leaves root behind once the sockets are bound: user, group and supplementary groups of `run_as`.

Where plugins run as users of their own, one small process stays root, which starts them; the server then belongs to
their groups too, to share files with them.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gatepost.app.settings import Settings
from gatepost.plugins.host.launched import Launcher, accounts

log = logging.getLogger("gatepost")


class PrivilegeError(ValueError):
    """`run_as` can't be kept; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server is to be."""

    user: str
    uid: int
    gid: int
    home: str = "/"

    @classmethod
    def of(cls, run_as: str) -> Identity:
        """ "user" or "user:group"; PrivilegeError if there is none of that name."""
        user, _, group = run_as.partition(":")
        try:
            entry = pwd.getpwnam(user)
            gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
        except KeyError as error:
            raise PrivilegeError(f'run_as = "{run_as}": there is no such user or group') from error
        return cls(user, entry.pw_uid, gid, entry.pw_dir)


def begin_launcher(settings: Settings, workers: int) -> Launcher | None:
    """What starts plugins as the users of the settings, once we aren't root any more; with a door for each worker.

    None where nobody needs it: root that stays root begins one for itself. OSError.
    """
    if os.geteuid() != 0 or settings.run_as is None:
        return None
    users = accounts(plugin.user for plugin in settings.plugin if plugin.user is not None)
    return Launcher(users, workers) if users else None


def drop(run_as: str | None, data: Path | None, groups: Iterable[int] = ()) -> None:
    """Become `run_as`, for good, and a member of these groups too; the data folder is made for it first, if there is
    none.

    Who isn't root can't, and is told so; root without `run_as` stays root, and is warned.
    """
    if os.geteuid() != 0:
        if run_as is not None and Identity.of(run_as).uid != os.geteuid():
            log.warning("run_as = %s has no effect: only root can become another user", run_as)
        return
    if run_as is None:
        log.warning('the server runs as root; give it a user of its own: run_as = "gatepost"')
        return
    identity = Identity.of(run_as)
    if data is not None and not data.exists():
        data.mkdir(mode=0o700, parents=True)
        os.chown(data, identity.uid, identity.gid)
    os.initgroups(identity.user, identity.gid)
    os.setgroups(sorted({*os.getgroups(), *groups}))
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    os.environ.update(HOME=identity.home, USER=identity.user, LOGNAME=identity.user)  # plugins get it from us
    os.environ.pop("XDG_CACHE_HOME", None)
    if os.geteuid() != identity.uid or os.getegid() != identity.gid:
        raise PrivilegeError(f"the system doesn't let us become {run_as}")
