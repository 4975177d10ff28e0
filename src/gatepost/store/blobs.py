"""Content that rests in a file, as a blob."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File
from typing import BinaryIO

from gatepost.model import blob


@dataclass(frozen=True, slots=True)
class FileBlob:
    """The first `size` octets of a file nobody changes any more. Reading raises OSError when the file is gone."""

    path: File
    size: int

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        left = max(0, self.size - offset)
        with self.path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(left if length is None else min(length, left))

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            while data := stream.read(blob.CHUNK):
                yield data

    def open(self) -> BinaryIO:
        return self.path.open("rb")
