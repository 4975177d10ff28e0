"""From a connection to an open maildrop: TLS, what the server can do, and the login.

Which way of logging in: what the account names, else what the server offers. Over TLS with a server that is known for
sure the password itself is said, which works however the server keeps it; on any other connection first what doesn't
say it: SCRAM, CRAM-MD5, APOP. An account with TLS never logs in without.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl

from gatepost.collecting.ports import Login, RemoteError, Trouble
from gatepost.collecting.remote_dialogue import Dialogue, trouble, words
from gatepost.net.certificates import client_context
from gatepost.net.errors import ConnectionLost, DeadlinePassed
from gatepost.wire.pop3.client_events import Answered, Capabilities, Challenge
from gatepost.wire.pop3.replies import Reply
from gatepost.wire.sasl_client import Exchange, Failure, Secret

_SAID = ("plain", "user", "login")  # the password as it is
_PROVED = ("scram-sha-256", "cram-md5", "apop")
_BY_TOKEN = ("oauthbearer", "xoauth2")


class Contexts:
    """TLS contexts, made when they are wanted: each reads authorities, which takes long."""

    def __init__(self) -> None:
        self._kept: dict[object, ssl.SSLContext] = {}

    def of(self, login: Login) -> ssl.SSLContext:
        """What an account trusts. Raises OSError (ssl.SSLError too) for a file of authorities that can't be read."""
        is_checked = login.verify and not login.fingerprint
        ca = login.ca if is_checked else None
        key = (is_checked, ca, None if ca is None else ca.stat().st_mtime_ns)
        if key not in self._kept:
            self._kept[key] = client_context(verify=is_checked, ca_file=ca)
        return self._kept[key]


async def greet(dialogue: Dialogue, login: Login, contexts: Contexts, token: str) -> None:
    """Everything until the maildrop is open. Raises RemoteError."""
    if login.tls == "implicit":
        await _encrypt(dialogue, login, contexts)
    reply = await _greeting(dialogue, login)
    if not reply.is_positive:
        kind = trouble(reply, Trouble.PROTOCOL if reply.code == "SYS/PERM" else Trouble.TEMPORARY)
        raise dialogue.over(f"it doesn't want to talk: {reply}", kind)
    if login.tls == "starttls":
        await _start_tls(dialogue, login, contexts)
    await dialogue.before("CAPA")
    dialogue.client.capa()
    await _all_of_capa(dialogue)
    await _log_in(dialogue, login, token)


async def _greeting(dialogue: Dialogue, login: Login) -> Reply:
    try:
        return await dialogue.answer()
    except RemoteError as error:
        if login.tls != "implicit" and isinstance(error.__cause__, DeadlinePassed):
            text = f'it takes too long to say anything; tls = "implicit" if TLS comes first on port {login.port}'
            raise dialogue.over(text, Trouble.LOST) from error
        raise


async def _all_of_capa(dialogue: Dialogue) -> None:
    """A server without CAPA says so, and is as good as any."""
    if (await dialogue.answer()).is_positive:
        await dialogue.next_event()


async def _start_tls(dialogue: Dialogue, login: Login, contexts: Contexts) -> None:
    await dialogue.before("STLS")
    dialogue.client.start_tls()
    reply = await dialogue.answer()
    if not reply.is_positive:
        raise dialogue.over(f"no TLS is to be had by STLS, and nothing is said without: {reply}", Trouble.TLS)
    if dialogue.stream.discard():  # before the handshake nobody but an attacker says anything
        raise dialogue.over("octets in the clear after STLS", Trouble.TLS)
    await _encrypt(dialogue, login, contexts)
    dialogue.client.tls_started()


async def _encrypt(dialogue: Dialogue, login: Login, contexts: Contexts) -> None:
    stream = dialogue.stream
    try:
        context = contexts.of(login)
        dialogue.move_deadline()
        await stream.start_tls(context, server_side=False, server_hostname=login.host)
    except (OSError, ValueError) as error:  # ValueError: a host that can't be one in a certificate
        text = words(error) if isinstance(error, OSError) else str(error)
        is_lost = isinstance(error, DeadlinePassed | ConnectionLost)
        raise dialogue.over(
            f"no TLS: {text}{_advice(text, login)}", Trouble.LOST if is_lost else Trouble.TLS
        ) from error
    dialogue.move_deadline()
    if login.fingerprint:
        found = hashlib.sha256(stream.shown().certificate).hexdigest()
        if found != login.fingerprint.replace(":", "").lower():
            raise dialogue.over(f"its certificate has another fingerprint: {found}", Trouble.TLS)


def _advice(text: str, login: Login) -> str:
    """What may be wrong in the settings where TLS fails so."""
    if login.tls == "implicit" and "wrong version number" in text:
        return f'; port {login.port} speaks in the clear first: tls = "starttls"'
    if "not trusted" in text:
        return "; ca or fingerprint names what to trust, where it is the right server"
    return ""


# Logging in


def ways(login: Login, offered: Capabilities, timestamp: str) -> list[str]:
    """How an account may log in on this server, best first."""
    if login.mechanisms:
        wanted = login.mechanisms
    elif login.token is not None:
        wanted = _BY_TOKEN
    elif login.tls != "none" and (login.verify or login.fingerprint):
        wanted = _SAID + _PROVED
    else:
        wanted = _PROVED + _SAID
    possible = [way for way in wanted if way != "apop" or timestamp]
    good = [way for way in possible if _is_offered(way, offered)]
    if not good and not login.mechanisms and login.token is None:
        return ["user"]  # which every server has that says nothing of itself
    return good or possible


def _is_offered(way: str, offered: Capabilities) -> bool:
    match way:
        case "apop":
            return True
        case "user":
            return not offered.are_known or "USER" in offered
        case _:
            return way.upper() in offered.mechanisms


async def _log_in(dialogue: Dialogue, login: Login, token: str) -> None:
    client = dialogue.client
    possible = ways(login, client.capabilities, client.timestamp)
    if not possible:
        raise dialogue.over("APOP needs a timestamp, and its greeting has none", Trouble.LOGIN)
    way = possible[0]
    try:
        match way:
            case "user":
                reply = await _by_password(dialogue, login)
            case "apop":
                await dialogue.before(f"APOP {login.user} ***")
                client.apop(login.user, login.password)
                reply = await dialogue.answer()
            case _:
                word = token if way in _BY_TOKEN else login.password
                secret = Secret(login.user, word, login.host, login.port)
                reply = await _by_sasl(dialogue, Exchange(way.upper(), secret, nonce=secrets.token_urlsafe(18)))
    except ValueError as error:
        raise dialogue.over(str(error), Trouble.LOGIN) from error
    if not reply.is_positive:
        text = f"it doesn't let {login.user} in by {way.upper()}: {reply}"
        raise dialogue.over(text, trouble(reply, Trouble.LOGIN))


async def _by_password(dialogue: Dialogue, login: Login) -> Reply:
    await dialogue.before(f"USER {login.user}")
    dialogue.client.user(login.user)
    reply = await dialogue.answer()
    if not reply.is_positive:
        return reply
    await dialogue.before("PASS ***")
    dialogue.client.password(login.password)
    return await dialogue.answer()


async def _by_sasl(dialogue: Dialogue, exchange: Exchange) -> Reply:
    client = dialogue.client
    await dialogue.before(f"AUTH {exchange.mechanism}")
    client.auth(exchange.mechanism, exchange.initial)
    failure: Failure | None = None
    while True:
        event = await dialogue.next_event()
        if isinstance(event, Challenge):
            if failure is not None:
                break  # it was cancelled, and is asked on
            dialogue.move_deadline()
            # in a thread: the server says how long a hash takes
            answer = await asyncio.to_thread(exchange.respond, event.data)
            if isinstance(answer, Failure):
                failure = answer
                client.cancel()
            else:
                client.respond(answer)
            continue
        assert isinstance(event, Answered)
        if failure is not None:
            break
        if event.reply.is_positive and not exchange.is_satisfied:
            raise dialogue.over(f"{exchange.mechanism}: it hasn't shown that it knows the password", Trouble.PROTOCOL)
        return event.reply
    raise dialogue.over(f"{exchange.mechanism}: {failure.reason}", Trouble.PROTOCOL)
