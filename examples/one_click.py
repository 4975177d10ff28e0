"""The web page behind one-click unsubscription (RFC 8058): what `unsubscribe_url` of a mailing list leads to.

    gatepost list set news unsubscribe_url=https://lists.example.org/leave/{token}
    GATEPOST_CONFIG=/etc/gatepost/gatepost.toml python examples/one_click.py

It listens on 127.0.0.1:8025; the web server with the certificate hands /leave/ on to it. Run it as the server's user:
the lists belong to that one. A mail reader's POST leaves the list; a GET shows a button, since programs follow links
too. Nothing is asked of who has the token, no cookie is set, and nothing is redirected (RFC 8058 §3.1).
"""

import os
import re
import subprocess
import sys
from wsgiref.simple_server import make_server

GATEPOST = [sys.executable, "-m", "gatepost", "-c", os.environ.get("GATEPOST_CONFIG", "gatepost.toml")]
TOKEN = re.compile(r"[0-9]{1,18}-[A-Za-z0-9]{10}", re.ASCII)
LEFT, UNKNOWN, LATER = "You have left the list.", "This link leads nowhere.", "That didn't work. Try again later."
BUTTON = """<form method="post"><button name="List-Unsubscribe" value="One-Click">Leave the list</button></form>"""


def application(environ, start_response):
    """WSGI, for any web server; the token is the last part of the path."""
    status, text = answer(environ["REQUEST_METHOD"], environ.get("PATH_INFO", "").rpartition("/")[2])
    page = f"<!doctype html><title>Mailing list</title><p>{text}</p>".encode()
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))]
    start_response(status, headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else page]


def answer(method, token):
    """Status and text."""
    if not TOKEN.fullmatch(token):  # what comes from outside is looked at before it becomes an argument
        return "404 Not Found", UNKNOWN
    if method in ("GET", "HEAD"):
        return "200 OK", BUTTON
    if method != "POST":
        return "405 Method Not Allowed", UNKNOWN
    # the one argument, with its option: no shell, and nothing in the token can be an option of its own
    command = [*GATEPOST, "list", "unsubscribe", f"--token={token}"]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode
    if code == 0:  # also where somebody has left before: a link may be used twice
        return "200 OK", LEFT
    if code == 65:  # sysexits' EX_DATAERR: the token isn't one of ours
        return "404 Not Found", UNKNOWN
    return "503 Service Unavailable", LATER  # 75: the lists are locked, or the disk is full; else see standard error


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8025")), application).serve_forever()
