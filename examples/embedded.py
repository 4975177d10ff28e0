"""A mail server inside an application: tickets by mail, kept before the sender hears 250.

python examples/embedded.py
"""

import asyncio

from gatepost import Server, refuse

tickets: dict[str, str] = {}
server = Server(listen="127.0.0.1:0", hostname="app.example")


@server.on("recipient")
async def known(event):
    if event.recipient.domain != "app.example":
        return refuse(550, "5.7.1", "we do not relay")


@server.receive("tickets+*@app.example")
async def ticket(mail):
    tickets[mail.message_id or mail.ticket] = mail.subject  # an exception here becomes 451, and nothing is lost


async def main() -> None:
    async with server:
        print(f"send tickets to {server.host}:{server.port}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
