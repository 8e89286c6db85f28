"""What a tuning step sends to its device: operations, bytes read and written, FLOPs; full tuning,
LoRA, and LoRA by peft's own layer.

    python -m bench.traffic [--model ViT-B-32] [--batch 600]

Counted, not timed: the step runs in bf16 on the CPU with two small batches, and bytes and FLOPs are
a line through both. Views count nothing, every other operation its inputs and outputs; a GPU may
fuse some. Results: results/bench/. Chapter: tune.
"""

import argparse
import time
from contextlib import nullcontext
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from bench.tune import FULL, LORA, Nowhere, made, pairs, side
from rs5m import results
from rs5m.adapters import lowrank

BATCHES = 2, 6
VIEWS = {"_unsafe_view", "_reshape_alias", "lift_fresh", "detach"}  # torch calls other ones so


class Traffic(TorchDispatchMode):
    """Counts operations and the bytes of what goes into them and comes out."""

    operations = moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if not (func.is_view or func.overloadpacket.__name__ in VIEWS):
            tensors = tree_flatten((args, kwargs, made))[0]
            self.operations += 1
            self.moved += sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        return made


def counted(which: str, name: str, batch: int) -> tuple[int, int, int]:
    """Operations, bytes and FLOPs of a step; not of the first one, which makes the moments."""
    step, _ = side(which, name, pairs(batch, made(name).image_size), "bf16")
    step()
    flops = FlopCounterMode(display=False)
    flops.mod_tracker = Nowhere()
    with Traffic() as traffic:
        step()
    with flops:
        step()
    return traffic.operations, traffic.moved, flops.get_total_flops()


def line(which: str, name: str, batch: int) -> dict[str, float]:
    """Those of a batch, from two small ones."""
    (operations, *low), (_, *high) = (counted(which, name, few) for few in BATCHES)
    share = (batch - BATCHES[0]) / (BATCHES[1] - BATCHES[0])
    moved, flops = (a + share * (b - a) for a, b in zip(low, high, strict=True))
    return {"operations": operations, "gib": moved / 2**30, "tflop": flops / 1e12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=600)
    args, began = parser.parse_args(), time.perf_counter()
    own = mock.patch.object(lowrank.LowRank, "forward", lowrank.lora.Linear.forward)
    rows = {}
    for label, which, way in (
        (FULL, FULL, nullcontext()),
        (LORA, LORA, nullcontext()),
        (f"{LORA} by peft's layer", LORA, own),
    ):
        with way:
            rows[label] = line(which, args.model, args.batch)
        print(label, rows[label], flush=True)
    values = {"model": args.model, "batch": args.batch, "precision": "bf16", "rows": rows}
    print("stored in", results.save("traffic", "bench", values, time.perf_counter() - began))


if __name__ == "__main__":
    main()
