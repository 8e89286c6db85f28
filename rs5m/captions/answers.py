"""Answers of a chat model, kept in a file so that nothing is asked twice. Chapter: captions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

FILE = "answers.sqlite"
WAIT = 60  # seconds for another process


class Spent(NamedTuple):
    """What a file of answers holds: answers, their tokens, and how many were declined."""

    answers: int
    tokens: int
    declined: int


class Answers:
    """Answers in a file of SQLite's, by a key; several processes may share it. OSError where it
    cannot be read or written.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._open() as base:
            base.execute("create table if not exists answers (key primary key, text, tokens)")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as base:
                yield base
        except sqlite3.Error as error:
            raise OSError(
                f"{self.path} cannot be read or written ({error}): free some space, or delete it "
                "and ask again"
            ) from error

    def get(self, keys: Iterable[str]) -> dict[str, str | None]:
        """Texts of those that are there, None for one that was declined."""
        asked = "select key, text from answers where key = ?"
        with self._open() as base:
            return dict(row for key in keys for row in base.execute(asked, [key]))

    def keep(self, key: str, text: str | None, tokens: int) -> None:
        """From now on it is there, even after a kill."""
        with self._open() as base:
            base.execute("insert or replace into answers values (?, ?, ?)", [key, text, tokens])

    def spent(self) -> Spent:
        """What is there."""
        asked = "select count(*), ifnull(sum(tokens), 0), count(*) - count(text) from answers"
        with self._open() as base:
            return Spent(*base.execute(asked).fetchone())
