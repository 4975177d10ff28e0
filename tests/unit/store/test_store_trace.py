"""The trace: written by a thread, found again by token, by time and by what matches, whatever a crash left."""

import errno
import os
import time

import pytest

from gatepost.model import TokenError, token_at
from gatepost.store.bloom import Bloom
from gatepost.store.files import RealFiles
from gatepost.store.trace import FRAME, Keeping, Trace, encode
from gatepost.store.trace_reader import TraceReader

NOW_MS = 1_790_000_000_000
TOKENS = [token_at(NOW_MS + n, 0, n) for n in range(2000)]


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(tmp_path) -> TraceReader:
    return TraceReader(tmp_path, RealFiles())


def entry(number: int, kind: str = "sender", **facts):
    return (NOW_MS + number, TOKENS[number], kind, facts)


def write(folder, clock, *entries, keeping: Keeping | None = None) -> None:
    trace = Trace(folder / "0", RealFiles(), clock, keeping)
    for one in entries:
        trace.record(one)
    trace.close()


def test_what_was_recorded_is_found_by_its_token(tmp_path, clock, reader):
    write(tmp_path, clock, *(entry(n, text=f"number {n}") for n in range(100)), entry(7, "message", size=12))
    assert reader.find(TOKENS[7]) == [entry(7, text="number 7"), entry(7, "message", size=12)]
    assert reader.find(TOKENS[7].lower().replace("-", "")) == reader.find(TOKENS[7])
    assert reader.find(TOKENS[1999]) == []
    with pytest.raises(TokenError):
        reader.find("../../etc/passwd")


def test_the_segment_being_written_can_be_read(tmp_path, clock, reader):
    trace = Trace(tmp_path / "0", RealFiles(), clock)
    trace.record(entry(1))
    trace.flush()
    assert reader.find(TOKENS[1]) == [entry(1)]
    trace.close()
    trace.close()


def test_search_by_time_and_match_gives_the_newest(tmp_path, clock, reader):
    write(tmp_path, clock, *(entry(n, to="ann" if n % 2 else "bob") for n in range(10)))
    write(tmp_path, clock, *(entry(n, to="ann") for n in range(10, 20)))

    def numbers(**more):
        return [TOKENS.index(token) for _, token, _, _ in reader.search(**more)]

    assert numbers(match=lambda e: e[3]["to"] == "ann", limit=12) == [5, 7, 9, *range(10, 19 + 1)][-12:]
    assert numbers(since=(NOW_MS + 4) / 1000, until=(NOW_MS + 6) / 1000) == [4, 5, 6]
    assert numbers(limit=0) == []


def test_a_torn_tail_ends_its_segment_and_nothing_else(tmp_path, clock, reader):
    write(tmp_path, clock, *(entry(n) for n in range(3)))
    clock.ms += 1000
    write(tmp_path, clock, *(entry(n) for n in range(3, 6)))
    first, _ = sorted((tmp_path / "0").glob("*.seg"))
    whole = first.read_bytes()
    for size in range(len(whole)):
        first.write_bytes(whole[:size])
        found = [e for n in range(6) for e in reader.find(TOKENS[n])]
        frame = len(whole) // 3
        assert found == [entry(n) for n in range(6) if n >= 3 or (n + 1) * frame <= size]
    first.write_bytes(whole[:-3] + b"\0\0\0")
    assert reader.find(TOKENS[2]) == []


def test_a_segment_that_a_crash_left_open_is_sealed_at_the_next_start(tmp_path, clock, reader):
    write(tmp_path, clock, entry(1))
    [index] = (tmp_path / "0").glob("*.idx")
    index.unlink()
    assert reader.find(TOKENS[1]) == [entry(1)]
    write(tmp_path, clock)
    assert index.exists()
    assert reader.find(TOKENS[1]) == [entry(1)]


def test_an_index_spares_reading_segments_without_the_token(tmp_path, clock):
    for n in range(5):
        clock.ms += 1
        write(tmp_path, clock, entry(n))
    opened: list[str] = []

    class Watched(RealFiles):
        def open(self, path):
            opened.append(path.suffix)
            return super().open(path)

    assert TraceReader(tmp_path, Watched()).find(TOKENS[3]) == [entry(3)]
    assert opened.count(".seg") == 1


def test_a_damaged_index_is_done_without(tmp_path, clock, reader):
    write(tmp_path, clock, entry(1))
    [index] = (tmp_path / "0").glob("*.idx")
    index.write_bytes(b"\xc1nonsense")
    assert reader.find(TOKENS[1]) == [entry(1)]


def test_segments_are_sealed_by_size_and_by_age(tmp_path, clock):
    trace = Trace(tmp_path / "0", RealFiles(), clock, Keeping(segment_size=500, segment_age_s=60))
    for n in range(3):
        trace.record(entry(n, text="x" * 600))
        trace.flush()
    assert len(list((tmp_path / "0").glob("*.idx"))) == 3
    trace.record(entry(4))
    trace.flush()
    assert len(list((tmp_path / "0").glob("*.idx"))) == 3
    clock.ms += 61_000
    trace.flush()
    assert len(list((tmp_path / "0").glob("*.idx"))) == 4
    trace.close()


def test_old_segments_go_by_days_and_by_size(tmp_path, clock, reader):
    keeping = Keeping(days=10, total_size=3000)
    write(tmp_path, clock, entry(0), keeping=keeping)
    clock.ms += 11 * 86_400_000
    write(tmp_path, clock, (clock.ms, TOKENS[1], "sender", {}), keeping=keeping)
    write(tmp_path, clock, (clock.ms, TOKENS[2], "sender", {}), keeping=keeping)
    assert [bool(reader.find(TOKENS[n])) for n in range(3)] == [False, True, True]
    for n in range(3, 9):
        write(tmp_path, clock, (clock.ms + n, TOKENS[n], "sender", {"text": "x" * 990}), keeping=keeping)
    assert sum(path.stat().st_size for path in tmp_path.glob("0/*.seg")) <= 3000
    assert [bool(reader.find(TOKENS[n])) for n in (1, 8)] == [False, True]


def test_a_full_ring_drops_and_says_how_many(tmp_path, clock, reader):
    trace = Trace(tmp_path / "0", RealFiles(), clock, Keeping(ring=0))
    for n in range(5):
        trace.record(entry(n))
    trace.close()
    assert sum(facts["entries"] for _, _, kind, facts in reader.search() if kind == "lost") == 5


def test_R4_one_session_cant_fill_the_trace(tmp_path, clock, reader):
    write(tmp_path, clock, *(entry(1, n=n) for n in range(50)), entry(2), keeping=Keeping(entries_per_session=10))
    found = reader.find(TOKENS[1])
    assert [kind for _, _, kind, _ in found] == ["sender"] * 10 + ["cut"]
    assert reader.find(TOKENS[2]) == [entry(2)]


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 100_000,
        "\udcff",
        1 << 80,
        float("nan"),
        b"\0" * 100_000,
        [["deep"] * 1000] * 1000,
        {n: "wide" for n in range(100_000)},
        object(),
        Broken(),
        {"set"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_R9_whatever_is_noted_is_bounded_and_readable(tmp_path, clock, reader, value):
    assert len(encode(entry(1, value=value))) < 200_000
    write(tmp_path, clock, entry(1, value=value), entry(2))
    assert len(reader.find(TOKENS[1])) == 1
    assert reader.find(TOKENS[2]) == [entry(2)]


def test_recursive_facts_are_bounded(tmp_path, clock, reader):
    endless: list[object] = []
    endless.append(endless)
    write(tmp_path, clock, entry(1, value=endless))
    assert len(reader.find(TOKENS[1])) == 1


def test_texts_are_cut_to_a_thousand_characters(tmp_path, clock, reader):
    write(tmp_path, clock, entry(1, text="é" * 5000))
    [(_, _, _, facts)] = reader.find(TOKENS[1])
    assert facts["text"] == "é" * 1023 + "…"


def test_R15_a_full_disk_costs_entries_and_says_so_when_there_is_room_again(tmp_path, clock, reader):
    full = True

    class Full(RealFiles):
        def create(self, path):
            file = super().create(path)
            write = file.write

            def maybe(data: bytes) -> None:
                if full:
                    write(data[: len(data) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                write(data)

            file.write = maybe
            return file

    trace = Trace(tmp_path / "0", Full(), clock)
    trace.record(entry(1))
    trace.record(entry(2))
    trace.flush()
    full = False
    trace.record(entry(3))
    trace.close()
    kinds = [(kind, facts) for _, _, kind, facts in reader.search()]
    assert sorted(kinds) == [("lost", {"entries": 2}), ("sender", {})]


def test_recording_costs_less_than_a_microsecond(tmp_path, clock):
    trace = Trace(tmp_path / "0", RealFiles(), clock, Keeping(ring=1_000_000))
    one, record = entry(1), trace.record
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10_000):
            record(one)
        best = min(best, (time.perf_counter() - began) / 10_000)
    trace.close()
    assert best < 1e-6


def test_bloom_never_denies_what_it_was_given():
    bloom = Bloom.of(TOKENS[:1000])
    assert all(bloom.may_have(token) for token in TOKENS[:1000])
    assert sum(bloom.may_have(token) for token in TOKENS[1000:]) < 20
    assert not Bloom.of([]).may_have("x")


def test_frames_have_a_length_and_a_checksum():
    assert FRAME.size == 8
