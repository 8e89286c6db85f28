"""Processes that start within milliseconds, and their death at a step that no load of the machine
moves.
"""

import multiprocessing
import os
import signal
import sys
import time
from itertools import count
from multiprocessing.context import ForkServerContext
from pathlib import Path

IMPORTS = ["rs5m.clip.openclip", "rs5m.book.models", "rs5m.rs3.pipeline", "rs5m.tune.loop"]


def ready() -> ForkServerContext:
    """Processes that are forked from one that has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    first = context.Process(target=time.sleep, args=(0,))  # waits until the imports are over
    first.start()
    first.join()
    return context


def at(step: int, folder: Path, number: int = signal.SIGKILL, group: bool = False) -> None:
    """Send this process, or its whole group as a terminal does, a signal, its death unless another
    is named, when it or a process forked from it opens or renames a file of a folder for the
    step-th time, from 1; the file is not there yet, or is half there, or has its temporary name.
    """
    steps, below = count(1), str(folder)

    def watch(event: str, arguments: tuple) -> None:
        ours = event in ("open", "os.rename") and str(arguments[0]).startswith(below)
        if ours and next(steps) == step:
            os.kill(0 if group else os.getpid(), number)

    sys.addaudithook(watch)
