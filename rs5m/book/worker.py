"""One of the processes that tune a scale's model, started under torchrun by `rs5m.book.processes`:
python -m rs5m.book.worker FILE. Chapter: tune.
"""

import pickle
import sys
from pathlib import Path

from rs5m.book import domain
from rs5m.book.processes import FAULT
from rs5m.tune.distributed import start_processes


def main() -> None:
    """Tune what the file named on the command line says; 2 and a sentence on what stops it."""
    start_processes()  # before the model takes its device
    try:
        domain.tuned(*pickle.loads(Path(sys.argv[1]).read_bytes()))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{FAULT}{error}", flush=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
