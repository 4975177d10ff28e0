"""Every reply the server machine gives of its own accord: one place for their codes, texts and sources."""

from __future__ import annotations

from gatepost.model import Reply

# Lines
NOT_TEXT = Reply(500, "5.5.2", "a command is printable text")
TOO_LONG = Reply(500, "5.5.2", "the line is too long")  # rfc5321#4.5.3.1.9
BARE_NEWLINE = Reply(500, "5.5.2", "a line ends with CRLF")  # rfc5321#2.3.8
NOT_SMTP = Reply(500, "5.5.2", "this is SMTP")
NOT_HTTP = Reply(502, "5.5.1", "this is SMTP, not HTTP")
NO_ARGUMENT = Reply(501, "5.5.4", "no argument is allowed")
NO_NAME = Reply(501, "5.5.4", "an address or name is needed")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")  # rfc6531#3.5

# Sequence (rfc5321#4.1.4)
HELLO_FIRST = Reply(503, "5.5.1", "say EHLO first")
LHLO_FIRST = Reply(503, "5.5.1", "say LHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "say MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "say RCPT first")
NOBODY = Reply(554, "5.5.1", "no valid recipients")  # rfc5321#3.3
NOBODY_LMTP = Reply(503, "5.5.1", "no valid recipients")  # rfc2033#4.2
NESTED = Reply(503, "5.5.1", "a transaction is open already")
IN_TRANSACTION = Reply(503, "5.5.1", "not within a transaction")
CHUNKS = Reply(503, "5.5.1", "the content has begun by BDAT")  # rfc3030#2: DATA and BDAT don't mix
ONLY_BDAT = Reply(503, "5.5.1", "a BINARYMIME message comes by BDAT")  # rfc3030#3
NO_SERVICE = Reply(503, "5.5.1", "no service here; say QUIT")  # rfc5321#3.1
NOT_LMTP = Reply(500, "5.5.1", "say LHLO; this is LMTP")  # rfc2033#4.1
ONLY_LMTP = Reply(500, "5.5.1", "say EHLO; this is not LMTP")
EARLY_TALKER = Reply(554, "5.5.1", "the greeting wasn't waited for")
NOT_SYNCHRONISED = Reply(503, "5.5.0", "input came before the reply; closing")  # rfc2920#3.1

# What isn't offered, or not yet
NOT_OFFERED = Reply(502, "5.5.1", "not offered here")
NO_PARAMETERS = Reply(555, "5.5.4", "parameters need EHLO")
TLS_TWICE = Reply(503, "5.5.1", "TLS is active already")
TLS_FIRST = Reply(530, "5.7.0", "say STARTTLS first")  # rfc3207#4
NEEDS_TLS = Reply(530, "5.7.10", "REQUIRETLS needs TLS; say STARTTLS first")  # rfc8689#4.1
AUTH_FIRST = Reply(530, "5.7.0", "authentication is required")  # rfc4954#6
AUTH_TWICE = Reply(503, "5.5.1", "authenticated already")  # rfc4954#4
NOT_TRUSTED = Reply(550, "5.7.1", "you may not speak for others here")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "authentication needs TLS; say STARTTLS first")  # rfc4954#6

# Authentication (rfc4954#4)
AUTH_FORM = Reply(501, "5.5.4", "the form is AUTH mechanism [initial response]")
AUTH_TOO_LONG = Reply(500, "5.5.6", "the line is too long")  # rfc4954#6
NO_MECHANISM = Reply(504, "5.5.4", "that mechanism isn't offered")
CANCELLED = Reply(501, "5.7.0", "authentication cancelled")
NOT_BASE64 = Reply(501, "5.5.2", "that isn't base64")

# Limits
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors")
TOO_MUCH_JUNK = Reply(421, "4.7.0", "too many commands without a message")
TOO_MANY_TRANSACTIONS = Reply(421, "4.7.0", "too many messages in one session")
TOO_MANY_FAILURES = Reply(421, "4.7.0", "too many failed authentications")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients")  # rfc5321#4.5.3.1.10
TOO_BIG = Reply(552, "5.3.4", "the message is too big")  # rfc1870#6.1
OVERDRAWN = Reply(451, "4.3.0", "the conversation went on too long")

# Content
BARE_IN_CONTENT = Reply(550, "5.6.11", "a CR or LF stands alone in the message")
LONG_LINE = Reply(554, "5.6.0", "a line of the message is too long")

# Not refusals, but ours as well
PRDR = Reply(353, "", "the content is judged for each recipient")

UNCOUNTED = frozenset({TOO_MANY_RECIPIENTS, TOO_BIG})
"""What well-meaning clients hear too: no protocol error."""
