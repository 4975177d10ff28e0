"""What is kept with a message that is handed over: plugins on its way out see it."""

import asyncio
import smtplib

from gatepost import Server


async def test_texts_kept_with_a_message_are_seen_while_it_is_handed_over():
    async with Server(listen="127.0.0.1:0") as inner:
        over = {"by": "relay", "hosts": [f"127.0.0.1:{inner.port}"], "tls": "none"}
        route = {"match": "*@example.org", "deliver": over, "handover": "before-reply", "recipients": "any"}
        outer = Server(listen="127.0.0.1:0", route=[route])

        @outer.on("message")
        async def keeps(event):
            event.keep("score", "5")

        @outer.on("out-message")
        async def shows(event):
            event.add_header("X-Kept", event.kept.get("score", "nothing"))

        async with outer:
            await asyncio.to_thread(send, outer.port)
            mail = await inner.wait_for_message()
            assert b"X-Kept: 5\r\n" in mail.content


def send(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("a@b.example", ["c@example.org"], b"Subject: x\r\n\r\nhello\r\n")
