"""Asked at every stage, as a plain `def`, which runs in a thread; lets everything through."""

from gatepost import on, stages

EVERY = (
    stages.Connect,
    stages.Hello,
    stages.Sender,
    stages.Recipient,
    stages.Data,
    stages.Headers,
    stages.Message,
)


def plain(event: stages.Event) -> None:
    return None


for _stage in EVERY:
    plain = on(_stage)(plain)
