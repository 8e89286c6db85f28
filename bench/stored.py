"""What a script of this folder has stored: taken up where it is there, written after each part."""

import json
import os
import platform
import time
from pathlib import Path

import numpy as np


def begun(out: Path) -> dict:
    """What `out` holds, with the date, the versions and the machine of this run."""
    kept = json.loads(out.read_text()) if out.exists() else {}
    return kept | {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def save(result: dict, out: Path) -> None:
    """Write what there is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, default=float) + "\n")
