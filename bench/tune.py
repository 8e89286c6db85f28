"""Samples a second of the training loop beside open_clip's bare step, and the peak memory of
gradient caching.

    python -m bench.tune [--model ViT-B-32] [--batch 32] [--rounds 5]
    python -m bench.tune --gpu  # ViT-B/32 and ViT-H/14, full and LoRA, bf16

Same model, batch and precision; the sides run in turn, one step each a round:

* open_clip: pixels and tokens ready on the device; both towers, ClipLoss, backward, AdamW
* ours, full: `tune.backward` and the optimizer from uint8 pixels and captions as text: crop, turn
  and mirror, the tokenizer and texts cut to the longest of the batch are part of it
* ours, LoRA: the same with rank 16 on both towers

Targets: full at least 1.0 times open_clip, LoRA at least 1.3 times. Peak memory: a process of its
own for each, the same batch undivided and in chunks, and the paper's batch in the recipes' chunks;
on a CPU the growth of the resident set in a step, and the whole process, on a GPU what its
allocator reports. Results: results/bench/. Chapter: tune.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from rs5m import adapters, clip, results, tune
from rs5m.clip import Model, open_clip
from rs5m.tune import Settings, loader

BARE, FULL, LORA = "open_clip's bare step", "ours, full", "ours, LoRA"
TARGETS = {FULL: 1.0, LORA: 1.3}
PAPER = 600, 150  # the paper's batch, and the chunk of the recipes, meant for 16 GB
WORDS = (
    "forest desert coast field mountain island snow city river lake road harbour airport bridge"
).split()


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def made(name: str) -> Model:
    """An open_clip model with random weights: speed does not ask what they say."""
    torch.manual_seed(0)
    net = open_clip.create_model(name).to(clip.device())
    size = net.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    return Model(net.eval(), open_clip.get_tokenizer(name), (0.48,) * 3, (0.27,) * 3, size)


def pairs(batch: int, size: int) -> loader.Batch:
    """Random pixels and captions of about RS5M's published median length, as the loader hands them
    on.
    """
    generator = np.random.default_rng(0)
    pixels = torch.from_numpy(generator.integers(0, 256, (batch, 3, size, size), np.uint8))
    captions = [
        " ".join(["a satellite image of", *generator.choice(WORDS, 12)]) for _ in range(batch)
    ]
    draws = torch.from_numpy(tune.draws(0, Settings(batch_size=batch)))
    return loader.Batch(pixels, captions, np.arange(batch), draws, [])


def bare(model: Model, batch: loader.Batch, precision: str):
    """open_clip's training step, as in its own trainer less logging: a function that takes one."""
    net = model.net
    net.requires_grad_(True)
    pixels = clip.normalise_pixels(
        batch.pixels.to(clip.device()).float().div_(255), model
    ).contiguous()
    tokens = model.tokenizer(batch.captions).to(clip.device())
    loss_of = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-5, tune.BETAS, tune.EPSILON, 0.2)

    def step() -> None:
        optimizer.zero_grad()
        with tune.autocast(precision):
            image, text, scale = net(pixels, tokens)
            loss = loss_of(image, text, scale)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            net.logit_scale.clamp_(0, tune.MAX_LOGIT_SCALE)
        wait()

    return step


def ours(model: Model, batch: loader.Batch, settings: Settings):
    """Our step: a function that takes one."""
    net = adapters.prepare(model.net, settings.method, settings.size, settings.towers()).eval()
    optimizer, texts = tune.adamw(net, settings), tune.TextEncoder(model, settings)

    def step() -> None:
        optimizer.zero_grad()
        tune.backward(model, texts, batch, settings)
        optimizer.step()
        wait()

    return step


def side(which: str, name: str, batch: loader.Batch, precision: str, chunk: int = 0):
    """(step, model) of one of the three sides."""
    model = made(name)
    if which == BARE:
        return bare(model, batch, precision), model
    method = "full" if which == FULL else "lora"
    return ours(
        model, batch, Settings(method=method, lock_text=False, precision=precision, chunk=chunk)
    ), model


def measure(steps: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of one step of every side in every round, in turn; the order is reversed in every
    other round.
    """
    for step in steps.values():
        step()
    out = {name: [] for name in steps}
    for number in range(rounds):
        for name in list(steps)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            steps[name]()
            out[name].append(round(time.perf_counter() - began, 4))
            print(f"round {number + 1}  {name:24s} {out[name][-1]:8.3f} s", flush=True)
    return out


def peak(name: str, batch: int, chunk: int, precision: str) -> tuple[float, float]:
    """Peak memory in MiB of a full step above what stood before it, and in all; run in a process of
    its own.
    """
    made_of = pairs(batch, made(name).image_size)
    step, _ = side(FULL, name, made_of, precision, chunk)
    step()  # makes gradients and moments
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        most = torch.cuda.max_memory_allocated()
        return (most - before) / 2**20, most / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    step()
    most = resident("VmHWM")
    return (most - before) / 2**10, most / 2**10


def resident(which: str) -> int:
    """Memory of this process in KiB: VmRSS now, VmHWM at its peak (getrusage would hand down the
    parent's).
    """
    return int(
        next(line for line in open("/proc/self/status") if line.startswith(which)).split()[1]
    )


def measured_peak(name: str, batch: int, chunk: int, precision: str) -> tuple[float, float]:
    """`peak` from a process of its own; chunk 0 is the undivided batch."""
    code = f"from bench.tune import peak; print(*peak({name!r}, {batch}, {chunk}, {precision!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    step, whole = (round(float(word), 1) for word in run.stdout.split()[-2:])
    print(f"batch {batch}, chunk {chunk}: {step} MiB in a step, {whole} MiB in all", flush=True)
    return step, whole


def compare(name: str, batch: int, rounds: int, precision: str = "auto") -> dict:
    """The three sides in turn, then the peaks."""
    inputs = pairs(batch, made(name).image_size)
    table = measure(
        {which: side(which, name, inputs, precision)[0] for which in (BARE, FULL, LORA)}, rounds
    )
    rounds_of = {w: list(zip(table[BARE], table[w], strict=True)) for w in TARGETS}
    ratios = {
        w: round(statistics.median(b / o for b, o in pairs), 3) for w, pairs in rounds_of.items()
    }
    chunks = (0, batch // 4, max(1, batch // 16))
    memory = {str(chunk): measured_peak(name, batch, chunk, precision)[0] for chunk in chunks}
    whole = measured_peak(name, *PAPER, precision)
    return {
        "model": name,
        "batch": batch,
        "rounds": rounds,
        "precision": precision,
        "seconds": table,
        "samples_per_second": {w: round(batch / statistics.median(s), 2) for w, s in table.items()},
        "ratios": ratios,
        "targets": TARGETS,
        "targets_met": {w: ratios[w] >= t for w, t in TARGETS.items()},
        "peak_mib_by_chunk": memory,
        "paper_batch": {
            "batch": PAPER[0],
            "chunk": PAPER[1],
            "step_mib": whole[0],
            "process_mib": whole[1],
        },
    }


# ---------------------------------------------------------------- on a GPU


def matrix_peak() -> float:
    """Measured bf16 matrix products, in TFLOP/s: the best of ten, 8192 x 8192."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        wait()
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        wait()
        best = max(best, 5 * 2 * 8192**3 / (time.perf_counter() - began) / 1e12)
    return best


class Nowhere:
    """In place of the tracker that tells the modules of a count apart: its hooks refuse
    autograd.grad, which our step takes its gradients with.
    """

    parents = frozenset({"Global"})

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass


def on_gpu(rounds: int) -> dict:
    """ViT-B/32 and ViT-H/14, full and LoRA in bf16: images/s, memory, share of the measured matrix
    peak.
    """
    from torch.utils.flop_counter import FlopCounterMode

    top, rows = matrix_peak(), []
    for name, batch, chunk in (("ViT-B-32", 600, 0), ("ViT-H-14", 600, 50)):
        for which in (FULL, LORA):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            inputs = pairs(batch, made(name).image_size)
            step, _ = side(which, name, inputs, "bf16", chunk)
            step()
            counter = FlopCounterMode(display=False)
            counter.mod_tracker = Nowhere()
            with counter:
                step()
            seconds = []
            for _ in range(rounds):
                began = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - began)
            took = statistics.median(seconds)
            flops = counter.get_total_flops() / took / 1e12
            rows.append(
                {
                    "model": name,
                    "side": which,
                    "batch": batch,
                    "chunk": chunk,
                    "images_per_second": batch / took,
                    "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
                    "tflops": flops,
                    "share_of_matrix_peak": flops / top,
                }
            )
            print(rows[-1], flush=True)
            del step
    return {"device_name": torch.cuda.get_device_name(), "matrix_peak_tflops": top, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true")
    args, began = parser.parse_args(), time.perf_counter()
    if args.gpu and not torch.cuda.is_available():
        print("no CUDA device: not measured")
        return
    values = on_gpu(args.rounds) if args.gpu else compare(args.model, args.batch, args.rounds)
    name = f"tune-{values['device_name'].replace(' ', '-')}" if args.gpu else "tune"
    values |= {
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
    }
    path = results.save(name, "bench", values, time.perf_counter() - began)
    shown = (
        ("rows", "matrix_peak_tflops")
        if args.gpu
        else ("samples_per_second", "ratios", "peak_mib_by_chunk")
    )
    print(json.dumps({key: values[key] for key in shown}, indent=1), f"\nstored in {path}")


if __name__ == "__main__":
    main()
