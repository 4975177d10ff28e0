"""What can be set about a MailEnable plugin."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

LEAST_RESPONSE = 512
MOST_RESPONSE = 256 * 1024
MOST_THREADS = 256
_PROBE = "<scriptconfig>[SMTP:a@b]; 250 OK</scriptconfig>\r\n"


@dataclass(frozen=True, slots=True)
class MailEnableOptions:
    """ValueError where they can't be kept; the text names the option."""

    charset: str = "utf-8"
    """Of what is passed and answered: "utf-8" or a code page such as "cp1252". What it doesn't have becomes "?"."""
    postoffice: str = "recipient"
    """Whose domain the element `postoffice` has: "recipient" (before there is one: as "user"), "user" (nobody
    authenticated: empty), or any other text as it is."""
    mailfrom_name: str = "MAILFROM"
    """What `smtpcommand` says at MAIL. The guide's own example says RCPTTO there, and some plugin may rely on it."""
    strip_routing_headers: bool = True
    """Whether header fields that tell MailEnable where mail goes are removed from what comes from outside."""
    response_size: int = 8192
    """Octets of the buffer a plugin answers in; the guide doesn't say how many it may use."""
    threads: int = 8
    """Calls at a time in each process. 1 for a plugin that can't bear more."""

    def __post_init__(self) -> None:
        try:
            name = codecs.lookup(self.charset).name
            fits = _PROBE.encode(name) == _PROBE.encode("ascii") and len("ä".encode(name, "replace")) <= 2
        except (LookupError, UnicodeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f'charset = "{self.charset}" is no code page with ASCII in it; "utf-8" or "cp1252" are')
        if not self.mailfrom_name.isascii() or not self.mailfrom_name.isalpha():
            raise ValueError(f'mailfrom_name = "{self.mailfrom_name}" is no word of letters, such as "MAILFROM"')
        if not LEAST_RESPONSE <= self.response_size <= MOST_RESPONSE:
            raise ValueError(f"response_size is from {LEAST_RESPONSE} to {MOST_RESPONSE} octets")
        if not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads is from 1 to {MOST_THREADS}")
        if not self.postoffice.isprintable():
            raise ValueError("postoffice has a character that can't be printed")
