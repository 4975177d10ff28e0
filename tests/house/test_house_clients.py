"""Mail clients that other people wrote, against a running server: swaks, curl, smtp-source, smtplib, aiosmtplib."""

from __future__ import annotations

import asyncio
import base64
import re
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest
from scramp import ScramClient

from house.premises import HOST, LOCAL, OTHER_HOST, PASSWORD, USER, Premises, fresh_mark, listener, message, run_client
from house.server_process import LOOPBACK, eventually
from programs import program

SETTINGS = (
    listener("mx"),
    listener("submission", "submission"),
    listener("smtps", "submission", tls="implicit"),
    listener("lmtp", "lmtp"),
    LOCAL,
)
FOREIGN = "dave@bobo.example"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    with Premises(tmp_path_factory.mktemp("clients"), *SETTINGS).running() as premises:
        yield premises


def trust(gate: Premises) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=gate.ca)


class Asking(ssl.SSLContext):
    """Asks by SNI for another name than the one connected to, and wants that name's certificate."""

    name = ""

    def wrap_socket(self, sock, server_hostname=None, **more):
        return super().wrap_socket(sock, server_hostname=self.name, **more)


def protocol(content: bytes) -> str:
    """How it came, as our Received says."""
    found = re.search(rb"^Received: [^;]*?\swith (\w+)(\s+\(TLS[^)]*\))?\s+id ", content, re.MULTILINE)
    assert found, content
    keyword, tls = found.groups()
    assert bool(tls) == keyword.removesuffix(b"A").endswith(b"PS")
    return keyword.decode()


def swaks(gate: Premises, to: str, *options: str | Path, mark: str, code: int = 0, at: str = "mx") -> str:
    return run_client(
        program("swaks"), "--server", LOOPBACK, "--port", str(gate.port(at)), "--helo", "client.example",
        "--from", FOREIGN, "--to", to, "--header", f"Subject: {mark}", "--body", ".\nlast line", *options, code=code,
    )  # fmt: skip


# ── what lies in the Maildir ────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_becomes_one_file_with_lf_return_path_and_delivered_to(gate: Premises) -> None:
    mark = fresh_mark()
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
        assert client.sendmail(FOREIGN, [USER, "bob@example.org"], message(mark)) == {}
    for user in USER, "bob@example.org":
        content = gate.delivered(mark, user)
        assert b"\r" not in content
        assert content.startswith(
            f"Return-Path: <{FOREIGN}>\nDelivered-To: {user}\nReceived: from client.example".encode()
        )
        assert content.endswith(b"\n\nhello\n.\n..dots\n"), "dot-stuffing has come off again"
        assert protocol(content) == "ESMTP"
    [path] = [path for path in gate.box().glob("new/*") if mark.encode() in path.read_bytes()]
    size, with_crlf = re.search(r",S=(\d+),W=(\d+)$", path.name).groups()
    content = path.read_bytes()
    assert (len(content), len(content) + content.count(b"\n")) == (int(size), int(with_crlf))
    assert path.stat().st_mode & 0o077 == 0
    assert not list(gate.box().glob("tmp/*"))


# ── swaks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.needs("swaks")
@pytest.mark.parametrize(
    ("at", "options", "with_"),
    [
        ("mx", [], "ESMTP"),
        ("mx", ["--pipeline"], "ESMTP"),
        ("mx", ["--prdr", "--pipeline"], "ESMTP"),
        ("mx", ["--protocol", "SMTP"], "SMTP"),
        ("mx", ["--tls", "--tls-verify", "--tls-sni", HOST], "ESMTPS"),
        ("mx", ["--tls", "--tls-verify", "--pipeline", "--tls-sni", OTHER_HOST], "ESMTPS"),
        ("lmtp", ["--protocol", "LMTP"], "LMTP"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_swaks_delivers(gate: Premises, at: str, options: list[str], with_: str) -> None:
    mark = fresh_mark()
    more = ["--tls-ca-path", gate.ca] if "--tls" in options else []
    said = swaks(gate, f"{USER},bob@example.org", *options, *more, mark=mark, at=at)
    assert said.count("2.0.0") >= (2 if at == "lmtp" else 1)
    if "--tls-sni" in options:
        assert f"CN={options[-1]}" in said
    for user in USER, "bob@example.org":
        content = gate.delivered(mark, user)
        assert protocol(content) == with_
        assert content.endswith(b"\n.\nlast line\n") or content.rstrip().endswith(b"\n.\nlast line")


@pytest.mark.needs("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("at", ["submission", "smtps"])
def test_swaks_submits_with_a_password(gate: Premises, mechanism: str, at: str) -> None:
    mark = fresh_mark()
    tls = "--tls" if at == "submission" else "--tls-on-connect"
    password = ["--auth", mechanism, "-au", USER, "-ap", PASSWORD]
    swaks(gate, "bob@example.org", tls, *password, "--from", USER, mark=mark, at=at)
    assert protocol(gate.delivered(mark, "bob@example.org")) == "ESMTPSA"
    password[-1] += "!"
    said = swaks(gate, "bob@example.org", tls, *password, "--from", USER, mark=mark, at=at, code=28)
    assert "535 5.7.8 " in said


@pytest.mark.needs("swaks")
def test_swaks_hears_who_is_unknown_and_who_has_no_route(gate: Premises) -> None:
    assert "550 5.1.1 " in swaks(gate, "nobody@example.org", mark="x", code=24)
    assert "550 5.7.1 " in swaks(gate, "ann@elsewhere.example", mark="x", code=24)
    mark = fresh_mark()
    said = swaks(gate, f"nobody@example.org,{USER}", "--protocol", "LMTP", mark=mark, at="lmtp")
    assert "550 5.1.1 " in said
    assert "250 2.0.0 " in said
    gate.delivered(mark)


# ── curl ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.needs("curl")
@pytest.mark.parametrize("octets", [200, 70_000, 2_000_000])
def test_curl_uploads_over_starttls(gate: Premises, tmp_path: Path, octets: int) -> None:
    mark = fresh_mark()
    file = tmp_path / "message.eml"
    line = ".dotted, and seventy-eight characters long, as lines of mail should be; no more\r\n"
    file.write_bytes(message(mark, body=line * (octets // len(line) + 1)).encode())
    said = run_client(
        program("curl"), "-sSv", "--ssl-reqd", "--cacert", gate.ca, "--resolve", f"{HOST}:{gate.port('mx')}:{LOOPBACK}",
        f"smtp://{HOST}:{gate.port('mx')}/client.example",
        "--mail-from", FOREIGN, "--mail-rcpt", USER, "--upload-file", file,
    )  # fmt: skip
    assert "250 2.0.0 " in said
    content = gate.delivered(mark)
    assert content.endswith(file.read_bytes().replace(b"\r\n", b"\n"))
    assert protocol(content) == "ESMTPS"


@pytest.mark.needs("curl")
def test_curl_submits_over_implicit_tls(gate: Premises, tmp_path: Path) -> None:
    mark = fresh_mark()
    file = tmp_path / "message.eml"
    file.write_text(message(mark, sender=USER).replace("\r\n", "\n"))
    run_client(
        program("curl"), "-sS", "--cacert", gate.ca, "--resolve", f"{HOST}:{gate.port('smtps')}:{LOOPBACK}",
        "--user", f"{USER}:{PASSWORD}", f"smtps://{HOST}:{gate.port('smtps')}/client.example",
        "--mail-from", USER, "--mail-rcpt", "bob@example.org", "--crlf", "--upload-file", file,
    )  # fmt: skip
    assert protocol(gate.delivered(mark, "bob@example.org")) == "ESMTPSA"


# ── smtp-source ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.needs("smtp-source")
@pytest.mark.parametrize(
    ("at", "user", "options"),
    [("mx", "bob", ["-d"]), ("mx", "eve", []), ("lmtp", "ann", ["-L", "-d"])],
    ids=["kept", "one-each", "lmtp"],
)
def test_smtp_source_with_twenty_sessions_loses_and_doubles_nothing(
    gate: Premises, at: str, user: str, options: list[str]
) -> None:
    count = 200
    mark = fresh_mark()
    run_client(
        program("smtp-source"), *options, "-s", "20", "-m", str(count), "-l", "4096", "-S", mark,
        "-f", FOREIGN, "-t", f"{user}@example.org", f"{LOOPBACK}:{gate.port(at)}",
    )  # fmt: skip
    eventually(lambda: len(gate.mail(mark, user)) >= count)
    assert len(gate.mail(mark, user)) == count
    assert len(set(gate.mail(mark, user))) == count, "each has a ticket of its own"


# ── Python's own ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [HOST, OTHER_HOST])
def test_smtplib_starttls_gets_the_certificate_it_asks_for(gate: Premises, name: str) -> None:
    mark = fresh_mark()
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
        client.ehlo()
        assert client.has_extn("starttls")
        context = Asking(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(gate.ca)
        context.name = name
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail(FOREIGN, [USER], message(mark))
    gate.delivered(mark)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_smtplib_submits(gate: Premises, mechanism: str) -> None:
    mark = fresh_mark()
    with smtplib.SMTP_SSL(LOOPBACK, gate.port("smtps"), "client.example", context=trust(gate)) as client:
        client.ehlo()
        client.user, client.password = USER, PASSWORD
        assert mechanism in client.esmtp_features["auth"].split()
        code, _ = client.auth(
            mechanism, getattr(client, f"auth_{mechanism.lower()}"), initial_response_ok=mechanism == "PLAIN"
        )
        assert code == 235
        client.sendmail(USER, ["bob@example.org"], f"From: <{USER}>\r\nSubject: {mark}\r\n\r\nhello\r\n")
    content = gate.delivered(mark, "bob@example.org")
    headers = content.partition(b"\n\n")[0]
    assert re.search(rb"^Date: \w{3}, \d{1,2} \w{3} \d{4} ", headers, re.MULTILINE)
    assert re.search(rb"^Message-ID: <\S+@mx\.example\.org>$", headers, re.MULTILINE | re.IGNORECASE)
    assert protocol(headers) == "ESMTPSA"


def test_submission_asks_for_a_password_and_for_the_users_own_addresses(gate: Premises) -> None:
    with smtplib.SMTP(LOOPBACK, gate.port("submission"), "client.example") as client:
        client.ehlo()
        assert not client.has_extn("auth"), "a password never goes over a plain connection"
        assert client.mail(USER)[0] == 530
        client.starttls(context=trust(gate))
        client.ehlo()
        assert client.mail(USER)[0] == 530
        client.login(USER, PASSWORD)
        assert client.mail(FOREIGN)[0] == 553
        client.rset()
        for own in USER, "anne@example.org", "shop@sales.example.org", "":
            assert client.mail(own)[0] == 250, own
            client.rset()
        assert client.mail("bob@example.org")[0] == 553


def test_scram_sha_256(gate: Premises) -> None:
    with smtplib.SMTP_SSL(LOOPBACK, gate.port("smtps"), "client.example", context=trust(gate)) as client:
        client.ehlo()
        assert "SCRAM-SHA-256" in client.esmtp_features["auth"].split()
        for password, expected in ("wrong", 535), (PASSWORD, 235):
            scram = ScramClient(["SCRAM-SHA-256"], USER, password)
            code, said = client.docmd("AUTH", f"SCRAM-SHA-256 {encoded(scram.get_client_first())}")
            assert code == 334
            scram.set_server_first(decoded(said))
            code, said = client.docmd(encoded(scram.get_client_final()))
            if code == 334:
                scram.set_server_final(decoded(said))  # the server has proven that it knows the password too
                code, said = client.docmd("")
            assert code == expected, said
        assert client.mail(USER)[0] == 250


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(text: bytes) -> str:
    return base64.b64decode(text).decode()


def test_smtputf8_end_to_end(gate: Premises) -> None:
    mark = fresh_mark()
    written = EmailMessage()
    written["From"] = "jürgen@bücher.example"
    written["To"] = USER
    written["Subject"] = f"{mark} grüße"
    written.set_content("grüße\n", cte="8bit")
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
        client.ehlo()
        assert client.has_extn("smtputf8")
        client.send_message(written)
    content = gate.delivered(mark).decode()
    assert (
        "Return-Path: <jürgen@bücher.example>\n" in content
        or "Return-Path: <jürgen@xn--bcher-kva.example>\n" in content
    )
    assert f"Subject: {mark} grüße" in content
    assert protocol(content.encode()) == "UTF8SMTP"


async def test_aiosmtplib_in_many_sessions_at_once(gate: Premises) -> None:
    mark = fresh_mark()

    async def session(_: int) -> None:
        client = aiosmtplib.SMTP(
            hostname=LOOPBACK, port=gate.port("submission"), local_hostname="client.example", start_tls=True,
            tls_context=trust(gate), timeout=30,
        )  # fmt: skip
        async with client:
            await client.login(USER, PASSWORD)
            for _ in range(3):
                await client.sendmail(USER, ["bob@example.org"], message(mark, sender=USER))

    await asyncio.gather(*map(session, range(10)))
    eventually(lambda: len(gate.mail(mark, "bob")) >= 30)
    assert len(gate.mail(mark, "bob")) == 30
