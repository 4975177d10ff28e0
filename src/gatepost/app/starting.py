"""How a server was asked to start, so that a reload can read the same again; and why a start can fail, in words."""

from __future__ import annotations

import base64
import errno
import os
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from gatepost.admin.queue import EX_TEMPFAIL, ActionError
from gatepost.app.gates import RouteError
from gatepost.app.privileges import PrivilegeError
from gatepost.app.reloading import NeedsRestart
from gatepost.app.settings import Settings, SettingsError, load
from gatepost.app.settings.bindings_rows import ROWS
from gatepost.net.certificates import CertificateError
from gatepost.plugins.loaded import PluginError
from gatepost.store.errors import ShardBusy, SpoolError
from gatepost.store.ledger import LedgerError
from gatepost.store.lists_facts import ListError
from gatepost.store.registry import RegistryError
from gatepost.store.users import UsersFileError

EX_CONFIG = 78


@dataclass(frozen=True, slots=True)
class Launch:
    """What the command line said."""

    file: Path | None = None
    """The settings file; None for the defaults."""
    plugins: tuple[str, ...] = ()
    """Further plugins, behind those of the settings."""
    verbosity: int = 0
    named: Path | None = None
    """The file, if it was asked for by option and not found where it usually is."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def settings(self) -> Settings:
        """Read the settings, now. SettingsError with all that is wrong."""
        sources = [Path(one) if one.endswith(".py") else one for one in self.plugins]
        return load(self.file, environ=self.environ).with_plugins(*sources)

    def files(self, settings: Settings) -> list[Path]:
        """Every file that the settings come from, plugins included; those that exist now."""
        found: list[Path] = []
        if self.file is not None:
            found.append(self.file)
            for pattern in settings.include:
                found += map(Path, sorted(glob(str(self.file.parent / pattern))))  # noqa: PTH207  may be absolute
        if settings.data is not None and (rows := settings.data / ROWS).exists():
            found.append(rows)
        found += [plugin.file for plugin in settings.plugin if plugin.enabled and plugin.file is not None]
        return found


class StartFailure(Exception):
    """The server can't start, or can't take other settings. `code` is the exit code, `mend` what to do."""

    def __init__(self, text: str, mend: str = "", code: int = EX_CONFIG) -> None:
        super().__init__(text)
        self.mend = mend
        self.code = code


REASONS = (
    OSError,
    SettingsError,
    PluginError,
    RouteError,
    CertificateError,
    PrivilegeError,
    NeedsRestart,
    SpoolError,
    LedgerError,
    RegistryError,
    ListError,
    UsersFileError,
)
"""What a start or a reload may fail by; anything else is a bug of ours, and has a traceback."""


def failure(error: BaseException) -> StartFailure:
    """The error in words, with what to do about it."""
    text = str(error)
    match error:
        case StartFailure():
            return error
        case SettingsError():
            return StartFailure(text)
        case PluginError():
            return StartFailure(text, "mend the plugin, or set enabled = false; try it: gatepost try PLUGIN")
        case RouteError():
            return StartFailure(text, "gatepost check")
        case CertificateError():
            return StartFailure(
                f"the certificate can't be used: {text}",
                "[[tls.certificate]] names a chain and its key, both PEM and readable by the server's user",
            )
        case PrivilegeError():
            return StartFailure(text, 'make the user, or change run_as; "user" or "user:group"')
        case NeedsRestart():
            return StartFailure(text, "restart the server, or put the old value back")
        case ShardBusy():
            return StartFailure(
                f"{text}: a server runs on this data folder already",
                "stop it, or give this one a folder of its own: data = …",
                EX_TEMPFAIL,
            )
        case UsersFileError():
            return StartFailure(text, "gatepost check")
        case SpoolError() | LedgerError() | RegistryError() | ListError():
            return StartFailure(f"the data folder can't be used: {text}", "gatepost check", EX_TEMPFAIL)
        case OSError() if error.errno == errno.EADDRINUSE:
            return StartFailure(
                error.strerror or text, "stop who holds the port, or change address = … in [[listen]]", EX_TEMPFAIL
            )
        case OSError() if error.filename is not None:
            words = (error.strerror or text).lower()
            return StartFailure(f"{error.filename}: {words}", "give it to the server's user, or change data = …")
        case OSError():
            return StartFailure(error.strerror or text, "gatepost check")
        case _:
            return StartFailure(text, "gatepost check")


def refused(error: BaseException) -> ActionError:
    """The same for whoever asked over the control socket."""
    why = failure(error)
    return ActionError(str(why), why.mend, why.code)


def packed(settings: Settings) -> str:
    """Settings for another process of ours, as text; without the places they were written at."""
    return base64.b64encode(zlib.compress(pickle.dumps(settings.without_origins()), 1)).decode("ascii")


def unpacked(text: str) -> Settings:
    """What `packed` made. Only for what our own supervisor says: a pickle can do anything."""
    settings: Any = pickle.loads(zlib.decompress(base64.b64decode(text)))  # noqa: S301  comes from our parent process
    assert isinstance(settings, Settings)
    return settings
