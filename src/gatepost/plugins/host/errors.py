"""Why a question to a host has no answer."""

from __future__ import annotations

from typing import Final


class HostError(RuntimeError):
    """No answer came from the plugin's process; the text says why, for log and trace."""

    says_all: Final = True
    """Where in our code it was raised tells nobody more."""


class HostDown(HostError):
    """The process ended with the question in it, twice or by its fault; or it can't be started."""


class HostHung(HostError):
    """The process didn't answer in time and was killed."""


class HostBusy(HostError):
    """As many questions as allowed are open already."""


class HookFailed(HostError):
    """The process is well, but the plugin's own code failed: its error, by name and text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
