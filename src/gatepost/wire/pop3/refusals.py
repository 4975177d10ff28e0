"""Every refusal the machine gives of its own accord: one place for their texts and sources."""

from __future__ import annotations

from gatepost.wire.pop3.replies import Reply


def _no(text: str) -> Reply:
    return Reply(False, text)


# Lines
NOT_TEXT = _no("a command is printable text")  # rfc2449#3
TOO_LONG = _no("the line is too long")  # rfc2449#4
BARE_NEWLINE = _no("a line ends with CRLF")  # rfc1939#3
NOT_POP3 = _no("this is POP3")
NOT_HTTP = _no("this is POP3, not HTTP")
UNKNOWN = _no("unknown command")  # rfc1939#3

# Arguments
NO_ARGUMENT = _no("no argument is allowed")
NO_NUMBER = _no("a message number is needed")
NO_MESSAGE = _no("no such message")  # rfc1939#5: messages are numbered from 1
TOP_FORM = _no("the form is TOP message lines")
USER_FORM = _no("the form is USER name")
PASS_FORM = _no("the form is PASS password")
APOP_FORM = _no("the form is APOP name digest")
NOT_UTF8 = _no("names and passwords are UTF-8")  # rfc6856#2.2
ONLY_ASCII = _no("names and passwords beyond ASCII are not possible here")  # rfc6856#2.2
NO_LANGUAGE = _no("that language isn't spoken here; say LANG for a list")  # rfc6856#3

# Sequence
LOGIN_FIRST = _no("log in first")  # rfc1939#4
LOGGED_IN = _no("only before the login")  # rfc1939#5
USER_FIRST = _no("say USER first")  # rfc1939#7

# What isn't offered, or not yet
NOT_OFFERED = _no("not offered here")
TLS_TWICE = _no("TLS is active already")  # rfc2595#4
TLS_FIRST = _no("a login needs TLS; say STLS first")  # rfc2595#2.3
NEEDS_TLS = _no("a login needs TLS")

# Authentication (rfc5034#4)
NO_MECHANISM = _no("that mechanism isn't offered")
CANCELLED = _no("authentication cancelled")
NOT_BASE64 = _no("that isn't base64")

# Limits
TOO_MANY_ERRORS = _no("too many errors")
TOO_MANY_COMMANDS = _no("too many commands without a login")
TOO_MANY_FAILURES = _no("too many failed logins")
