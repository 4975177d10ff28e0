"""Asked at every stage, as `async def`; lets everything through."""

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


async def waiting(event: stages.Event) -> None:
    return None


for _stage in EVERY:
    waiting = on(_stage)(waiting)
