"""The examples run: what their first lines promise is what happens."""

from pathlib import Path

from unit.plugins_program.program_scripts import MESSAGE, asked, body

EXAMPLES = Path(__file__).parents[3] / "examples"
LOTTERY = MESSAGE.replace(b"hello", b"You won the Lottery")


async def test_filter():
    source, options = f"{EXAMPLES}/filter.sh {{EMAILFILESPEC}}", {"mode": "filter", "discard": "99"}
    assert (await asked(source, options=options)).content.startswith(b"X-Filtered: yes\r\n")
    story = await asked(source, options=options, message=LOTTERY)
    assert story.reply.startswith("554 5.7.1 you can keep the prize (")


async def test_pickup():
    source, options = f"{EXAMPLES}/pickup.sh", {"mode": "pickup"}
    story = await asked(source, options=options)
    assert story.content.startswith(b"X-Picked-Up: yes\r\nReceived: ")
    assert story.content.endswith(MESSAGE)
    assert story.asked[0]["edits"] == ["+ X-Picked-Up: yes"]
    story = await asked(source, options=options, message=LOTTERY)
    assert story.accepted()
    assert story.content is None
    assert body(await asked("true", options=options)) == MESSAGE
