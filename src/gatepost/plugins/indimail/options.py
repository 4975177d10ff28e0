"""What the settings' table `indimail` may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class IndimailOptions:
    """The defaults are what IndiMail's own qmail-smtpd does."""

    abi: Literal["smtp", "queue"] = "smtp"
    """`smtp`: `plugin_init` and its three functions; `queue`: `int virusscan(char *file)`, asked about each message."""
    null_remoteinfo: Literal["null", "empty"] = "null"
    """What `data_func` gets as remoteinfo of a client that nothing is known of: NULL, or an empty text."""
    drop_on_reject: bool = False
    """After a refusal the session is ended, at the client's next command, so that it has heard the refusal itself."""
