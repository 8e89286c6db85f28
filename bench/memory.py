"""The memory of a tuning step beside the count that chooses its chunk (`rs5m.tune.memory`).

    python -m bench.memory [--models ViT-S-32 ViT-M-32 ViT-B-32] [--batch 32]
    python -m bench.memory --gpu  # ViT-B-32 and ViT-H-14 with the chunk that the count chose

Three sizes of towers, all weights and LoRA, the batch undivided and in quarters. Each is a process
of its own that takes two steps; measured is the growth of its resident set over what stood before
the network was made, at its peak in the second step; on a GPU what the allocator reports. The same
captions, so the count is told how long they are. What the count leaves out is what backward adds
for a moment, and what the allocator does not give back. Results: results/bench/. Chapter: tune.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from bench.tune import made, ours, pairs, resident
from rs5m import clip, results
from rs5m.tune import Settings, memory

MODELS = ("ViT-S-32", "ViT-M-32", "ViT-B-32")
GPU = ("ViT-B-32", "ViT-H-14")
METHODS = ("full", "lora")


def settings(method: str, chunk: int, precision: str) -> Settings:
    return Settings(method=method, lock_text=False, precision=precision, chunk=chunk)


def measure(name: str, method: str, batch: int, chunk: int, precision: str) -> tuple[float, float]:
    """MiB of a step as counted and as measured; run in a process of its own."""
    model = made(name)
    inputs, chosen = pairs(batch, model.image_size), settings(method, chunk, precision)
    context = int(model.tokenizer(inputs.captions).argmax(1).max()) + 1
    counted = memory.need(model, chosen, context)
    on_gpu = clip.device().type == "cuda"
    if on_gpu and not chunk:
        chosen = settings(method, counted.chunk(batch, memory.of_device()), precision)
    weights = sum(t.nbytes for t in (*model.net.parameters(), *model.net.buffers()))
    before = resident("VmRSS") * 2**10 - weights
    step = ours(model, inputs, chosen)
    step()  # makes the moments
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    step()
    most = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM") * 2**10 - before
    return counted.step(batch, chosen.chunk) / 2**20, most / 2**20


def row(name: str, method: str, batch: int, chunk: int, precision: str = "float32") -> dict:
    code = (
        f"from bench.memory import measure; print(*measure{name, method, batch, chunk, precision})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    counted, measured = (round(float(word), 1) for word in run.stdout.split()[-2:])
    held = {"model": name, "method": method, "batch": batch, "chunk": chunk}
    held |= {"counted_mib": counted, "measured_mib": measured}
    held["measured_over_counted"] = round(measured / counted, 3)
    print(held, flush=True)
    return held


def store(rows: list[dict], seconds: float) -> None:
    """Keep the rows with what they say of the share of a memory that a chunk may fill."""
    worst = max(one["measured_over_counted"] for one in rows)
    values = {"rows": rows, "share": memory.SHARE, "peak": memory.PEAK, "worst": worst}
    values |= {"threads": torch.get_num_threads(), "load_average": os.getloadavg()}
    where = torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else ""
    path = results.save(f"memory-{where}" if where else "memory", "bench", values, seconds)
    print(f"at most {worst:.2f} times the count; stored in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--gpu", action="store_true")
    args, began = parser.parse_args(), time.perf_counter()
    if args.gpu and not torch.cuda.is_available():
        print("no CUDA device: not measured")
        return
    if args.gpu:
        rows = [row(name, method, 600, 0, "bf16") for name in GPU for method in METHODS]
    else:
        cases = [(name, method) for name in args.models for method in METHODS]
        rows = [row(*case, args.batch, chunk) for case in cases for chunk in (0, args.batch // 4)]
    store(rows, time.perf_counter() - began)


if __name__ == "__main__":
    main()
