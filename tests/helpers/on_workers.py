"""What happens to workers of a Ray cluster: a wrong clock, no package, a death in the middle of a
file.
"""

import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from unittest import mock


def clock_is_wrong():
    """A worker's clock is a day ahead."""
    right = time.time
    time.time = lambda: right() + 86_400


class _Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rs5m":
            raise ModuleNotFoundError(f"No module named {name!r}")


def has_no_rs5m():
    """A worker on which the package is not installed."""
    sys.meta_path.insert(0, _Nothing())


def dies(write, marks: str, times: int, *given) -> None:
    """As `write` of a tar, in a process that is killed at its fifth pair, the first so many
    times.
    """
    import webdataset

    left = [mark for k in range(times) if not (mark := Path(marks, str(k))).exists()]
    pairs, put = count(1), webdataset.TarWriter.write

    def dying(*pair):
        if next(pairs) == 5:
            left[0].touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return put(*pair)

    webdataset.TarWriter.write = dying if left else put
    write(*given)


def looks(marks: str, beyond: int, *given) -> None:
    """As `_write_near` with small parts and another BEYOND; whoever looks leaves its number."""
    from rs5m.pub11 import duplicates

    look = duplicates._look

    def marked(held, pair):
        Path(marks, f"{os.getpid()}-{type(held).__name__}-{pair.tobytes().hex()}").touch()
        return look(held, pair)

    Path(marks, f"{os.getpid()}-candidates").touch()
    with mock.patch.multiple(duplicates, PART=4, BEYOND=beyond, _look=marked):
        duplicates._write_near(*given)
