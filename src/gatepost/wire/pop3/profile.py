"""What a listener offers and where its limits are: one immutable value shared by all sessions of a generation."""

from __future__ import annotations

from dataclasses import dataclass, field

AUTH_LINE = 12288  # octets with CRLF: rfc5034#4 bounds a response by its mechanism only; as wide as SMTP's


@dataclass(frozen=True, slots=True)
class Profile:
    """Invariant: an extension that is switched on here is honoured to the end. All lengths are octets.

    A count of N lets N pass; the one after it hears the limit's reply, and the session closes.
    """

    command_line: int = 255  # with CRLF, rfc2449#4; AUTH and the responses to its challenges may have AUTH_LINE
    errors: int = 20  # lines the machine refuses per session
    commands: int = 100  # lines before the login
    auth_attempts: int = 3  # failed logins per session
    bare_newline: bool = True  # an LF alone ends a command too
    starttls: bool = False  # a certificate is configured
    user: bool = True  # USER and PASS
    auth: tuple[str, ...] = ()  # SASL mechanisms offered, upper-case, strongest first
    auth_without_tls: bool = False  # any of USER, APOP, AUTH
    apop: bool = False  # needs passwords kept in the clear; the session's timestamp stands in the greeting
    utf8: bool = True  # UTF8, and names and passwords beyond ASCII
    languages: tuple[tuple[str, str], ...] = (("en", "English"), ("i-default", "Default language"))
    """What LANG offers: tag and name; the first is the default. Empty: no LANG."""
    response_codes: bool = True
    pipelining: bool = True
    login_delay: int = 0  # seconds between two logins of a user; 0: none
    login_delay_varies: bool = False  # with the user
    expire: int | None = None  # days a message is kept by policy; None: it never expires
    expire_varies: bool = False  # with the user
    implementation: str = "Gatepost"  # what CAPA tells; "": nothing

    longest_line: int = field(init=False, repr=False, compare=False)
    """The longest line that is read whole, whatever its verb."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest_line", max(self.command_line, AUTH_LINE if self.auth else 0))
