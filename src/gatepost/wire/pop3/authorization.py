"""Who is talking, and how safely: greeting, STLS, USER and PASS, APOP, AUTH; until the maildrop is open.

Strategy: two facts about the client (`tls`, and the name USER gave) and the questions that change them. STLS forgets
what was said before it, and discards what came with it. Nothing else discards: RFC 2449 §6.6 lets a client send every
command ahead, the greeting and logins included, and no reply to any of them changes what the next octets mean but an
AUTH's, whose responses stand in the same order.
"""

from __future__ import annotations

import re
from base64 import b64encode

from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3 import grammar, offers
from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.conversation import Conversation, Shape
from gatepost.wire.pop3.events import Event, NeedData
from gatepost.wire.pop3.profile import AUTH_LINE, Profile
from gatepost.wire.pop3.replies import MAX_LINE, Reply, encode_challenge, encode_lines
from gatepost.wire.pop3.states import State, Verb

_TIMESTAMP = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")  # rfc1939#7: the form of a Message-ID
_NO_ATTEMPT = frozenset({"IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM"})  # rfc2449#8.1, rfc3206#4: not the password


class Authorization(Conversation):
    """Invariant: a name is kept until its PASS, a secret never; the name and `utf8` were given under this `tls`."""

    __slots__ = ("_failures", "_name", "timestamp", "tls")

    def __init__(self, profile: Profile, *, tls: bool = False, timestamp: str = "") -> None:
        """`timestamp`: needed for APOP, never used before: "<process.clock@host>", with the brackets (RFC 1939 §7)."""
        super().__init__(profile)
        if profile.apop and not (_TIMESTAMP.fullmatch(timestamp) and len(timestamp) <= MAX_LINE // 2):
            raise ValueError(f"APOP needs a timestamp like <1896.697170952@host>, not {timestamp!r}")
        self.tls = tls
        self.timestamp = timestamp if profile.apop else ""
        self._name = ""
        self._failures = 0

    def capabilities(self) -> list[str]:
        """The lines that CAPA would give at this moment."""
        return offers.capabilities(self.profile, self.state, tls=self.tls)

    def challenge(self, data: bytes) -> None:
        """Answer Auth or AuthResponse: one more challenge for the client, not yet encoded."""
        if not isinstance(self._question, ev.Auth | ev.AuthResponse):
            raise RuntimeError("no authentication exchange asks")
        self._question = self._settle = None
        self.state = State.SASL
        self._output.append(encode_challenge(b64encode(data).decode("ascii")))

    def logged_in(self, text: str = "") -> None:
        """Answer Login, Auth or AuthResponse: the client is known, and the maildrop is open and locked."""
        self._answer(Reply(True, text), Shape.LOGIN)

    def tls_started(self) -> None:
        """The handshake is through: everything said before is forgotten (rfc2595#4), only the counts are kept."""
        if self.state is not State.TLS:
            raise RuntimeError("no handshake is due")
        self.tls = True
        self.state = State.AUTHORIZATION

    # Steps

    def _connect(self) -> Event:
        return self._ask(ev.Connect(), self._connect_answered)

    def _read_response(self) -> Event | NeedData | None:
        line = self._line(AUTH_LINE)
        if isinstance(line, ev.Refused):
            self._login_failed()
            return line
        if not isinstance(line, bytes):
            return line
        data = no.CANCELLED if line == b"*" else grammar.base64(line)  # rfc5034#4
        if isinstance(data, Reply):
            self._login_failed()
            return self._refuse(b"", data)
        return self._ask(ev.AuthResponse(data), self._login_answered, Shape.LOGIN)

    # Commands: what each asks, or why it is refused after all

    def _user(self, argument: str) -> Event | Reply:
        if refusal := self._letters(argument) if argument else no.USER_FORM:
            return refusal
        self._name = argument
        return self._ask(ev.User(argument), self._user_answered)

    def _pass(self, argument: str) -> Event | Reply:
        """What follows the one blank is the password, blanks included (rfc1939#7)."""
        if refusal := self._letters(argument) if argument else no.PASS_FORM:
            return refusal
        return self._tried(b"PASS") or self._ask(ev.Login(self._name, argument), self._login_answered, Shape.LOGIN)

    def _apop(self, argument: str) -> Event | Reply:
        given = grammar.apop(argument)
        if isinstance(given, Reply):
            return given
        name, digest = given
        login = ev.Login(name, digest=digest, mechanism="APOP")
        return self._letters(name) or self._tried(b"APOP") or self._ask(login, self._login_answered, Shape.LOGIN)

    def _auth(self, argument: str) -> Event | Reply:
        mechanism, _, written = argument.partition(" ")
        mechanism, written = mechanism.upper(), written.lstrip(" ")
        if not mechanism:  # before CAPA there was no other way to learn them, and some clients still ask so
            self._say(Reply(True, "mechanisms"))
            self._output.append(encode_lines(self.profile.auth))
            return ev.Capa()
        if mechanism not in self.profile.auth:
            return no.NO_MECHANISM
        if refusal := self._tried(b"AUTH"):
            return refusal
        initial: bytes | Reply | None = None
        if written:
            initial = b"" if written == "=" else grammar.base64(written.encode())  # rfc5034#4
        if isinstance(initial, Reply):
            self._login_failed()
            return initial
        return self._ask(ev.Auth(mechanism, initial), self._login_answered, Shape.LOGIN)

    def _start_tls(self, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.StartTls(), self._start_tls_answered)

    def _utf8(self, argument: str) -> Event | Reply:
        return no.NO_ARGUMENT if argument else self._ask(ev.Utf8(), self._utf8_answered)

    def _lang(self, argument: str) -> Event | Reply:
        languages = self.profile.languages
        if not argument:
            self._say(Reply(True, "languages"))
            self._output.append(encode_lines([f"{tag} {name}" for tag, name in languages], utf8=self.utf8))
            return ev.Lang()
        tag = offers.language(self.profile, argument)
        if tag is None:
            return no.NO_LANGUAGE
        self.language = tag
        self._say(Reply(True, f"{tag} {dict(languages)[tag]}"))  # rfc6856#3: the tag comes first
        return ev.Lang(tag)

    def _capa(self, argument: str) -> Event | Reply:
        if argument:
            return no.NO_ARGUMENT  # rfc2449#5
        self._say(Reply(True, "capabilities"))
        self._output.append(encode_lines(self.capabilities()))
        return ev.Capa()

    def _guard(self, verb: Verb) -> Reply | None:
        return offers.guard(self.profile, verb, tls=self.tls, timestamp=self.timestamp)

    def _letters(self, text: str) -> Reply | None:
        """rfc6856#2.2: without UTF8 USER among the capabilities names and passwords are ASCII. SASLprep is for who
        looks them up."""
        return None if self.profile.utf8 or text.isascii() else no.ONLY_ASCII

    def _tried(self, verb: bytes) -> ev.Refused | None:
        """The end of a client that has tried too often."""
        if self._failures < self.profile.auth_attempts:
            return None
        return self._turn_away(verb, no.TOO_MANY_FAILURES)

    # Answers: the only place where the state moves on

    def _connect_answered(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._say(reply)
            self._close(clean=False)
            return
        self.state = State.AUTHORIZATION
        if self.timestamp:  # rfc1939#7: the client looks for the only word in angle brackets
            room = MAX_LINE - len("+OK ") - len(self.timestamp) - 1
            text = reply.text.replace("<", "(").replace(">", ")")[:room]
            reply = Reply(True, f"{text} {self.timestamp}", reply.code)
        self._say(reply)

    def _user_answered(self, reply: Reply) -> None:
        if reply.is_positive:
            self.state = State.NAMED
        else:
            self._forget_name()
        self._say(reply)

    def _login_answered(self, reply: Reply) -> None:
        if reply.is_positive:
            self._name, self._hides = "", False
            self.state = State.TRANSACTION
        elif reply.code in _NO_ATTEMPT:
            self._forget_name()
        else:
            self._login_failed()
        self._say(reply)

    def _start_tls_answered(self, reply: Reply) -> None:
        if reply.is_positive:
            self.discarded += self._input.discard()  # before the +OK is written: it can't have been meant for TLS
            self.state = State.TLS
            self._name, self._hides = "", False
            self.utf8 = False
            self.language = self.profile.languages[0][0] if self.profile.languages else ""
        self._say(reply)

    def _utf8_answered(self, reply: Reply) -> None:
        self.utf8 = self.utf8 or reply.is_positive
        self._say(reply)

    def _login_failed(self) -> None:
        self._failures += 1
        self._forget_name()

    def _forget_name(self) -> None:
        """rfc1939#7: after a PASS that failed USER comes again."""
        self._name = ""
        if self.state is not State.CLOSED:
            self.state = State.AUTHORIZATION
