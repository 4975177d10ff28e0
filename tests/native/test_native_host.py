"""The host program itself: how it is built, greets, gives up what it has, reads whatever comes, and ends."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path

import pytest

from gatepost.plugins.host import native
from gatepost.plugins.loaded import PluginError
from gatepost.wire.host import Ask, Frame, FrameError, Hello, Load, SessionEnded, Stop, Told, encode, frames_to_host
from native.talking import Talk
from programs import program

pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a host for Windows takes its time to compile
HELLO = encode(Hello(1, "mailenable"))
PROTOCOL = 76


@pytest.fixture
def talk(built):
    talks = []

    def start(*arguments: str, **options) -> Talk:
        talks.append(Talk([str(built("linux")), *(arguments or ("mailenable",))], **options))
        return talks[-1]

    yield start
    for each in talks:
        each.close()


# ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "begins", "machine"),
    [
        ("linux", b"\x7fELF", None),
        pytest.param("win64", b"MZ", 0x8664, marks=pytest.mark.needs("x86_64-w64-mingw32-gcc")),
        pytest.param("win32", b"MZ", 0x014C, marks=pytest.mark.needs("i686-w64-mingw32-gcc")),
    ],
)
def test_builds_without_a_warning(built, target, begins, machine):
    octets = built(target).read_bytes()
    assert octets.startswith(begins)
    assert os.access(built(target), os.X_OK)
    if machine is not None:
        header = struct.unpack_from("<I", octets, 0x3C)[0]
        assert octets[header : header + 6] == b"PE\0\0" + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("target", "compiler"),
    [
        pytest.param("win64", "x86_64-w64-mingw32", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc")),
        pytest.param("win32", "i686-w64-mingw32", marks=pytest.mark.needs("i686-w64-mingw32-gcc")),
    ],
)
def test_windows_hosts_need_nothing_but_windows(built, target, compiler):
    command = [program(f"{compiler}-objdump"), "-p", str(built(target))]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = {line.split()[-1].lower() for line in listed.splitlines() if "DLL Name" in line}
    assert needed == {"kernel32.dll", "msvcrt.dll"}


def test_is_built_again_only_when_a_source_is_newer(building, tmp_path):
    target = building.TARGETS[0]
    assert building.build(target, tmp_path).endswith(": built")
    assert building.build(target, tmp_path).endswith("as new as its sources")
    long_ago = 1_000_000_000
    os.utime(tmp_path / target.output, (long_ago, long_ago))
    assert building.build(target, tmp_path).endswith(": built")


def test_without_a_compiler_says_what_to_install(building, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    said = building.build(building.TARGETS[0], tmp_path)
    assert "not built" in said
    assert "apt-get install gcc" in said
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_refuses_leaves_what_there_was(building, tmp_path):
    target = building.TARGETS[0]
    (tmp_path / target.output).write_bytes(b"the old one")
    with pytest.raises(building.BuildFailed, match="no-such-option"):
        building.build(target, tmp_path, anew=True, flags=("--no-such-option",))
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the old one"]


def test_a_missing_host_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "BUILT", tmp_path)
    (tmp_path / "gatepost-host").write_bytes(b"x")
    assert native.host_path("linux") == tmp_path / "gatepost-host"
    with pytest.raises(PluginError, match=r"gatepost-host-win64\.exe.*gcc-mingw-w64-x86-64.*make native") as missing:
        native.host_path("win64")
    assert type(missing.value) is native.HostMissing


# ── greeting and ending ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", ["mailenable", "indimail", "sink"])
def test_greets_in_its_dialect_and_leaves_with_the_house(talk, dialect):
    host = talk(dialect)
    host.send(Hello(1, dialect))
    assert host.hear() == Hello(1, dialect)
    host.shut()
    assert host.end() == (0, "")


@pytest.mark.parametrize("hello", [Hello(2, "mailenable"), Hello(1, "indimail")])
def test_says_what_it_speaks_to_who_speaks_something_else(talk, hello):
    host = talk()
    host.send(hello)
    assert host.hear() == Hello(1, "mailenable")
    assert host.hear() is None
    assert host.end() == (PROTOCOL, "")


@pytest.mark.parametrize("arguments", [[], ["cobol"], ["mailenable", "indimail"]])
def test_says_how_it_is_used(built, arguments):
    done = subprocess.run([str(built("linux")), *arguments], capture_output=True, text=True)
    assert done.returncode == 64
    assert "mailenable indimail" in done.stderr


@pytest.mark.parametrize("pipes", [False, True])
def test_stop_before_loading_is_a_plain_end(talk, pipes):
    host = talk(pipes=pipes)
    host.send(Hello(1, "mailenable"), Stop())
    assert host.hear() == Hello(1, "mailenable")
    assert host.hear() is None
    assert host.end() == (0, "")


@pytest.mark.parametrize(
    "frame", [Hello(1, "mailenable"), Ask(1, "S", 0, "sender", {}, 1.0)], ids=["a second hello", "asked too early"]
)
def test_what_is_out_of_turn_ends_it(talk, frame):
    host = talk()
    host.send(Hello(1, "mailenable"), frame)
    assert host.hear() == Hello(1, "mailenable")
    assert host.end()[0] == PROTOCOL


# ── what it gives up ───────────────────────────────────────────────────────────────────────────────────────────────


def test_keeps_nothing_it_was_not_given(talk):
    reading, writing = os.pipe()
    try:
        host = talk(inherited=[reading, writing])
    finally:
        os.close(reading)
        os.close(writing)
    host.send(Hello(1, "mailenable"))
    assert host.hear() == Hello(1, "mailenable")
    process = Path(f"/proc/{host.process.pid}")
    held = {int(each.name): str(each.readlink()) for each in (process / "fd").iterdir()}
    assert held[0] == "/dev/null"
    assert held[1] == held[2]
    assert sorted(held) == [0, 1, 2, 3, 4]
    assert held[3] == held[4]
    assert held[3].startswith("socket:")
    assert "NoNewPrivs:\t1" in (process / "status").read_text()
    assert (process / "oom_score_adj").read_text().strip() == "500"


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

LOAD = Load("p", "/x.so", {"threads": 8, "folder": None, "deep": [[[{"a": [1, -1, 2.5, True, b"\0" * 300]}]]]})
ASK = Ask(2**63 - 1, "S" * 40, 3, "message", {"configuration": b"<x>", "response": b"", "n": [None, {}]}, 5.25, "/m")
WHOLE: list[tuple[Frame, str]] = [
    (Hello(1, "mailenable"), "hello"),
    (LOAD, "load {3}"),
    (ASK, f"ask {2**63 - 1} 40 5.25 path {{3}}"),
    (Ask(1, "", 0, "sender", {str(n): n for n in range(20)}, 0.0), "ask 1 0 0 {20}"),
    (Ask(1, "", 0, "sender", {str(n): "x" for n in range(70_000)}, 1e9, None), "ask 1 0 1e+09 {70000}"),
    (Told("", "open", {"files": "/f"}), "told {1}"),
    (SessionEnded("ü" * 40_000), "ended"),
    (Stop(), "stop"),
]


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory):
    """Streams through the host's own reader, with every access of memory watched."""
    program_path = tmp_path_factory.mktemp("reading") / "reading"
    here = Path(__file__).parent
    sources = [here / "reading.c", *(here.parent.parent / "native" / name for name in ("frames.c", "values.c"))]
    sources += [here.parent.parent / "native" / "threads.c"]
    watched = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    command = [program("cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror", *watched, f"-I{sources[1].parent}"]
    subprocess.run([*command, *map(str, sources), "-o", str(program_path), "-pthread"], check=True)

    def through(streams: list[bytes]) -> list[str]:
        octets = b"".join(len(stream).to_bytes(4, "big") + stream for stream in streams)
        done = subprocess.run([str(program_path)], input=octets, capture_output=True, timeout=50)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return [line.strip() for line in done.stdout.decode().splitlines()]

    return through


def test_reads_every_frame_of_the_house(read):
    streams = [encode(frame) for frame, _ in WHOLE]
    assert read(streams) == [f"{said} wait" for _, said in WHOLE]
    assert read([b"".join(streams)]) == [" ".join(said for _, said in WHOLE) + " wait"]


def test_waits_for_the_rest_of_a_frame_cut_anywhere(read):
    stream = encode(ASK)
    assert read([stream[:cut] for cut in range(len(stream))]) == ["wait"] * len(stream)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x90", b"\xc0", b"\x91\xc0", b"\x91\xa5wrong", b"\x92\xa4stop\x01", b"\x91\xa4stop\xc0", b"\x92\xa4stop",
        b"\x93\xa5hello\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1x",  # no int64
        b"\x92\xa5ended\xdb\xff\xff\xff\xffx", b"\x92\xa5ended\xc1", b"\xdd\xff\xff\xff\xff", b"\xdc\x00\x01",
        b"\x94\xa4told\xa0\xa0\xdf\xff\xff\xff\xff", b"\x94\xa4told\xa0\xa0\x81\xa1a",
        b"\x94\xa4told\xa0\xa0\x81\xa1a" + b"\x91" * 100 + b"\xc0",  # too deep
        b"\x94\xa4told\xa0\xa0\x81\xa1a\xc7\x01\x05x",  # an extension
        b"\x97\xa3ask\x00\xa1S\x00\xa1s\x80\x01",  # question 0
        b"\x97\xa3ask\x01\xa1S\xff\xa1s\x80\x01",  # transaction -1
        b"\x97\xa3ask\x01\xa1S\x00\xa1s\x80\xca\x7f\xc0\x00\x00",  # not a number of seconds
        b"\x97\xa3ask\x01\xa1S\x00\xa1s\x80\xff",  # -1 seconds
        b"\x97\xa3ask\x01\xa1S\x00\xa1s\x81\x01\x01\x01",  # a key that isn't a text
    ],
)  # fmt: skip
def test_refuses_what_is_no_frame(read, payload):
    assert read([len(payload).to_bytes(4, "big") + payload]) == ["broken"]


@pytest.mark.parametrize("length", [0, 1024 * 1024 + 1, 2**32 - 1])
def test_refuses_a_length_out_of_bounds_before_its_octets_come(read, length):
    assert read([length.to_bytes(4, "big")]) == ["broken"]
    assert read([(1024 * 1024).to_bytes(4, "big")]) == ["wait"]


def damaged(chance: random.Random, stream: bytes) -> bytes:
    """The stream with a few octets changed, gone or doubled, its length put right more often than not."""
    payload = bytearray(stream[4:])
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(payload) + 1)
        match chance.randrange(4):
            case 0:
                payload[place : place + 1] = chance.randbytes(1)
            case 1:
                del payload[place : place + chance.randint(1, 9)]
            case 2:
                payload[place:place] = chance.randbytes(chance.randint(1, 9))
            case _:
                payload[place : place + 1] = bytes([chance.choice(b"\x80\x90\xa0\xc0\xc6\xcb\xcf\xd3\xdb\xdd\xdf\xff")])
    length = len(payload) if chance.random() < 0.9 else chance.getrandbits(32)
    return length.to_bytes(4, "big") + bytes(payload)


def test_any_octets_are_read_without_harm(read):
    chance = random.Random(25)
    small = [encode(frame) for frame, _ in WHOLE if len(encode(frame)) < 1000]
    streams = [chance.randbytes(chance.randrange(60)) for _ in range(2000)]
    streams += [damaged(chance, chance.choice(small)) for _ in range(10_000)]
    said = read(streams)
    assert len(said) == len(streams)
    for stream, line in zip(streams, said, strict=True):
        assert line.split()[-1] in {"wait", "broken"}
        assert "{broken}" not in line  # a map that was let in can be read to its end
        decoder = frames_to_host()
        decoder.feed(HELLO)
        frames = decoder.feed(stream)
        if frames and not any(isinstance(frame, FrameError | Hello) for frame in frames):
            assert not line.startswith("broken"), stream  # what the house could say is understood


def test_any_octets_end_the_host_in_order(talk):
    chance = random.Random(52)
    for _ in range(60):
        host = talk()
        host.send_octets(HELLO + damaged(chance, encode(ASK)) + b"\xff" * 4)
        assert host.hear() == Hello(1, "mailenable")
        assert host.hear() is None
        assert host.end() == (PROTOCOL, "")
        host.close()
