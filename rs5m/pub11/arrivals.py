"""Results of one shard as they come, in a file that only grows. Chapter: pub11."""

import json
import zlib
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from rs5m import web
from rs5m.pub11.stages import FETCHED

LONGEST = 2**17  # bytes of a line; a URL has at most 98,304


class Arrivals:
    """What has come for a shard, in the order in which it came: for each result a line of JSON,
    then the content, so that a killed run has lost none of them.

    Opening the file drops its tail from the first result on that a kill left half-written or a
    power cut damaged. OSError where a result cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, tuple[str, int | None, int]] = {}  # status, HTTP status, place
        self._ends = [0]  # of lines and contents in turn
        if path.is_file():
            with path.open("r+b") as file:
                while row := _read(file):
                    self._note(*row)
                file.truncate(self._ends[-1])

    def add(self, key: str, got: web.Fetched) -> None:
        """Keep the result of a URL."""
        content = got.content or b""
        row = key, got.status, got.http_status, len(content), zlib.crc32(content)
        line = json.dumps(row).encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.write(content)
        except OSError as error:
            raise OSError(
                f"{self.path} could not be written ({error.strerror}): free some space, then run "
                "it again"
            ) from error
        self._note(len(line), row)

    def _note(self, length: int, row: tuple) -> None:
        key, status, http_status, size, _ = row
        self.rows[key] = status, http_status, len(self._ends)
        self._ends += [self._ends[-1] + length, self._ends[-1] + length + size]

    def table(self, keys: list[str], shard: int) -> pa.Table:
        """The rows of `keys` as FETCHED; contents are read from the disk as they are needed."""
        found = [self.rows[key] for key in keys]
        ends = pa.array(self._ends, pa.int64()).buffers()[1]
        data = pa.memory_map(str(self.path)).read_buffer()
        pieces = pa.Array.from_buffers(
            FETCHED.field("content").type, len(self._ends) - 1, [None, ends, data]
        )
        none = pa.nulls(1, pieces.type)
        contents = [
            pieces.slice(place, 1) if status == "ok" else none for status, _, place in found
        ]
        status, http_status, _ = zip(*found, strict=True)
        columns = [keys, [shard] * len(keys), status, http_status, pa.chunked_array(contents)]
        return pa.table(columns, schema=FETCHED)


def _read(file: BinaryIO) -> tuple[int, list] | None:
    """The length of the next line and its row; None at the end, and where what follows is not
    whole.
    """
    line = file.readline(LONGEST)
    try:
        _, _, _, size, digest = row = json.loads(line)
        whole = line.endswith(b"\n") and zlib.crc32(file.read(size)) == digest
    except (ValueError, TypeError):
        return None
    return (len(line), row) if whole else None
