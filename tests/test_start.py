"""Ctrl-C while a command still imports what it needs: a real signal in a process of its own."""

import subprocess
import sys

import pytest

START = """
import os, signal, sys

class Stop:
    def find_spec(name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stop)
from rs5m.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "name",
    ["rs5m.commands", "rs5m.commands.detector", "rs5m.commands.tune", "rs5m.evaluate.validation"],
)
def test_an_interruption_is_heard_from_the_first_import_on(name):
    words = ["tune", "--data", "pairs.tar", "--out", "out"]
    command = [sys.executable, "-c", START.format(name=name), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "rs5m: interrupted: run the same command again to go on\n"
