"""The example plugin does what its first lines promise, built by the lines that stand there, as .so and as .dll."""

import ctypes
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from gatepost.testing import try_plugin
from native.mailenable.conftest import KINDS
from programs import program

EXAMPLE = Path(__file__).parents[3] / "examples" / "mailenable_keywords.c"
pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]
SPAM = "From: a@b.example\nSubject: win\n\n" + ("x" * 69 + "\n") * 1000 + "You have won the {}.\n"


@pytest.fixture(params=KINDS)
def built(request, tmp_path):
    """The library, by the build line for it in the example's first comment."""
    shutil.copy(EXAMPLE, tmp_path)
    lines = re.findall(r"^ \* +((?:cc|x86_64-w64-mingw32-gcc) .*)$", EXAMPLE.read_text(), re.MULTILINE)
    (line,) = [line for line in lines if f".{request.param} " in line]
    compiler, *words = shlex.split(line)
    subprocess.run([program(compiler), "-Wall", "-Wextra", "-Werror", *words], cwd=tmp_path, check=True, timeout=60)
    return request.param, tmp_path / f"mailenable_keywords.{request.param}"


async def test_mail_with_a_keyword_is_refused_at_end_of_data(built, load):
    kind, library = built
    story = await try_plugin(await load(kind, library), message=SPAM.format("LOTTERY"))
    assert story.replies[5][1].startswith("550 5.7.1 no mail about lottery, please (")
    assert (await try_plugin(await load(kind, library), message=SPAM.format("casino"))).accepted()
    story = await try_plugin(
        await load(kind, library, env={"KEYWORDS": "viagra,casino"}), message=SPAM.format("casino")
    )
    assert story.reply.startswith("550 5.7.1 no mail about casino, please (")


def test_a_word_is_found_wherever_a_piece_of_the_file_ends(compiled, tmp_path):
    library = ctypes.CDLL(str(compiled(EXAMPLE, "so")))
    library.Execute.restype = ctypes.c_long
    response = ctypes.create_string_buffer(8192)
    file = tmp_path / "message.MAI"
    configuration = f"<smtpcommand>DATAEND</smtpcommand><messagepath>{file}</messagepath>".encode()
    for at in range(65536 - 10, 65536 + 5):
        file.write_bytes(b"y" * at + b"Lottery" + b"z" * 70_000)
        assert library.Execute(configuration, response) == 0, at
        assert response.value == b"550 5.7.1 no mail about lottery, please"
    file.write_bytes(b"y" * 200_000)
    assert library.Execute(configuration, response) == 1
