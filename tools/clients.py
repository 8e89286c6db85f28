"""What other programs say to what we write: a table of clients and products.

Products are made with the pipelines themselves (tools/products.py): two runs of PUB11, one of which
is given no pair, one of RS3, shards in both layouts, and folders of tuning runs, whose features
must be equal to 1e-5. Each client is a program of its own. Those that the build does not install,
or installs in a version that clashes, come from the package index into a temporary folder before
ours; without the network they are left out, and that is said. --out keeps the table as JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from products import captioned, crawled, tuned

ROOT = Path(__file__).parents[1]
SECONDS = 120  # a client that waits longer waits for ever
ALONE = ("datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "xxhash==4.1.0")
TRAINER = ("webdataset==0.2.86",)  # what open_clip_train 3.3.0 asks for
STEPS = 20


# ---------------------------------------------------------------- clients

READ_SHARDS = """
    from glob import glob
    shards = sorted(glob(sys.argv[1] + "/*.tar"))
"""
WEBDATASET = """
    import webdataset
    data = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
    rows = list(data.to_tuple("jpg;png;webp;gif;bmp;tif", "txt"))
    assert rows and all(image.size and text for image, text in rows)
    print(f"{len(rows)} pairs, images decoded")
"""
DATASETS = """
    from datasets import load_dataset
    rows = list(load_dataset("webdataset", data_files=shards, split="train", streaming=True))
    kinds = [key for key in rows[0] if hasattr(rows[0][key], "size")]
    assert kinds, f"bytes only: {', '.join(sorted(rows[0]))}"
    assert all(row["txt"] for row in rows)
    print(f"{len(rows)} pairs streamed, images decoded")
"""
OPEN_CLIP = """
    import json, math, tempfile
    from rs5m.clip import open_clip
    from open_clip_train.main import main
    import torch
    folder = tempfile.mkdtemp()
    image = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    small = {"embed_dim": 32, "vision_cfg": image, "text_cfg": text}
    json.dump(small, open(folder + "/small.json", "w"))
    open_clip.add_model_config(folder + "/small.json")
    pairs = sum(json.load(open(sys.argv[1] + "/sizes.json")).values())  # it reads them there itself
    size = max(2, pairs // STEPS)
    epochs = math.ceil(STEPS / math.ceil(pairs / size))
    main(["--train-data", shards[0], "--dataset-type", "webdataset", "--model", "small",
          "--batch-size", str(size), "--epochs", str(epochs), "--workers", "0", "--logs", folder,
          "--name", "run", "--precision", "fp32", "--seed", "0"])
    state = torch.load(f"{folder}/run/checkpoints/epoch_{epochs}.pt", weights_only=False)
    steps = int(next(iter(state["optimizer"]["state"].values()))["step"])
    assert steps >= STEPS, steps
    print(f"{steps} steps on {pairs} pairs by sizes.json")
"""
STATS = """
    import json
    stats = [json.load(open(shard[:-4] + "_stats.json")) for shard in shards]
    assert stats and all(one["successes"] == one["count"] for one in stats)
    print(f"{sum(one['successes'] for one in stats)} pairs counted")
"""
OURS = """
    from rs5m.data import records
    from rs5m.tune.loader import Shards
    rows, source = list(records.read(shards)), Shards(shards, 32)
    assert len(rows) == len(source) and not source.damaged and not source.left_out
    print(f"{len(rows)} pairs read and indexed")
"""
READ_TABLES = """
    paths = sys.argv[1:]
"""
TABLES = {
    "pyarrow": """
    import pyarrow as pa, pyarrow.parquet as pq
    found = len(pa.concat_tables(pq.read_table(path) for path in paths))
    """,
    "duckdb": """
    import duckdb
    names = ", ".join(f"'{path}'" for path in paths)
    found = duckdb.sql(f"select count(*) from read_parquet([{names}])").fetchall()[0][0]
    """,
    "polars": """
    import polars
    found = polars.concat(polars.read_parquet(path) for path in paths).height
    assert polars.scan_parquet(paths).collect().height == found
    """,
    "pandas": """
    import pandas
    frames = [pandas.read_parquet(path, dtype_backend="pyarrow") for path in paths]
    assert (frames[0].dtypes == frames[1].dtypes).all()
    found = len(pandas.concat(frames))
    """,
    "datasets": """
    from datasets import load_dataset
    found = load_dataset("parquet", data_files=paths, split="train", cache_dir=CACHE).num_rows
    """,
}
EXACT = """
    import numpy as np
    from rs5m.clip import open_clip  # torchvision comes by it
    import torch
    folder, exact = sys.argv[1], np.load(sys.argv[1] + "/exact.npz")
    pictures, texts = list(exact["pixels"]), exact["texts"].tolist()
    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    def tell(**made):
        off = max(np.abs(unit(np.array(made[k].detach())) - unit(exact[k])).max() for k in made)
        assert off < 1e-5, f"other features, by {off:.1e}"
        print(f"{len(pictures)} pictures and {len(texts)} texts, features within {off:.0e}")
"""
AS_OPEN_CLIP = """
    from PIL import Image
    net, transform = open_clip.create_model_from_pretrained("local-dir:" + folder)
    pixels = torch.stack([transform(Image.fromarray(one)) for one in pictures])
    tokens = open_clip.get_tokenizer("local-dir:" + folder)(texts)
    tell(image=net.eval().encode_image(pixels), text=net.encode_text(tokens))
"""
AS_TRANSFORMERS = """
    from transformers import CLIPModel, CLIPProcessor
    net, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    given = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
    said = net.eval()(**given)
    tell(image=said.image_embeds, text=said.text_embeds)
"""
AS_PEFT = """
    from peft import PeftModel
    from transformers import CLIPModel, CLIPProcessor
    base = folder + "/../hf-base"
    net = PeftModel.from_pretrained(CLIPModel.from_pretrained(base), folder + "/adapter").eval()
    processor = CLIPProcessor.from_pretrained(base)
    said = net(**processor(text=texts, images=pictures, return_tensors="pt", padding=True))
    tell(image=said.image_embeds, text=said.text_embeds)
"""
OURS_AGAIN = """
    from rs5m import clip
    model = clip.load("local-dir:" + folder)
    image, text = clip.encode_images(model, pictures), clip.encode_texts(model, texts)
    tell(image=torch.tensor(image), text=torch.tensor(text))
"""
FOLDERS = {  # client: its code, and the folders of tuning
    "rs5m": (OURS_AGAIN, ("full", "lora")),
    "open_clip": (AS_OPEN_CLIP, ("full", "lora")),
    "transformers": (AS_TRANSFORMERS, ("hf", "full")),
    "peft": (AS_PEFT, ("lora",)),
}
SHARDS = {
    "rs5m": (OURS, ()),
    "webdataset": (WEBDATASET, ()),
    "datasets": (DATASETS, ALONE),
    "open_clip_train": (OPEN_CLIP, TRAINER),
    "img2dataset's stats": (STATS, ()),
}
# What cannot be read by design: the release's names mean nothing to others, and transformers must
# not take a folder of open_clip for one of its own, which would be a random network.
REFUSED = {("webdataset", "release"), ("datasets", "release"), ("open_clip_train", "release")}
REFUSED |= {("transformers", "tuned/full")}


class Index:
    """The package index: what it gave, in a folder for each set of packages."""

    def __init__(self, folder: Path):
        self.folder, self.known = folder, {(): ""}

    def path(self, packages: tuple[str, ...]) -> str | None:
        """The folder with those packages, None where the index does not give them."""
        if packages not in self.known:
            target = self.folder / f"packages-{len(self.known)}"
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
            done = subprocess.run([*command, str(target), *packages], capture_output=True)
            if done.returncode:
                names = ", ".join(packages)
                print(f"clients: the package index gave no {names}: what needs it is left out")
            self.known[packages] = None if done.returncode else str(target)
        return self.known[packages]


def said(code: str, arguments: Sequence[Path], index: Index, packages: tuple[str, ...]) -> str:
    """What a client says: what it printed last, or why it failed."""
    extra = index.path(packages)
    if extra is None:
        return "left out: not in the package index"
    places = [extra] if extra else []
    cache = str(index.folder / "cache")
    head = f"import sys\nsys.path[:0] = {[*places, str(ROOT)]}\nSTEPS, CACHE = {STEPS}, {cache!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", head + code, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, cwd=index.folder
        )
    except subprocess.TimeoutExpired:
        return f"waits for over {SECONDS} s"
    if not done.returncode:
        return f"works: {done.stdout.strip().splitlines()[-1]}"
    errors = re.findall(r"^\w*(?:Error|Exception)\b.*", done.stderr, re.MULTILINE)
    return f"fails: {errors[-1][:90] if errors else f'exit {done.returncode}'}"


def of_shards(folder: Path, index: Index) -> dict[tuple[str, str], str]:
    """What each client says to the shards of each run."""
    rows = {}
    for client, (code, packages) in SHARDS.items():
        code = textwrap.dedent(READ_SHARDS) + textwrap.dedent(code)
        for product in ("full", "rs3", "release"):
            rows[client, product] = said(code, [folder / product], index, packages)
            print(f"{client:<20} {product:<9} {rows[client, product]}", flush=True)
    return rows


def of_tables(folder: Path, index: Index) -> dict[tuple[str, str], str]:
    """What each client says to each table of two runs together, one of them without a pair."""
    rows = {}
    for client, code in TABLES.items():
        packages = ALONE if client == "datasets" else ()
        for pair, names in (
            (("full", "empty"), ("kept", "dropped", "attrition")),
            (("rs3", "rs3-empty"), ("pairs", "dropped")),
        ):
            for name in names:
                whole = textwrap.dedent(READ_TABLES) + textwrap.dedent(code)
                whole += "print(f'{found} rows of two runs')\n"
                product = f"{pair[0]}/{name}"
                paths = [folder / out / f"{name}.parquet" for out in pair]
                rows[client, product] = said(whole, paths, index, packages)
                print(f"{client:<20} {product:<15} {rows[client, product]}", flush=True)
    return rows


def of_folders(folder: Path, index: Index) -> dict[tuple[str, str], str]:
    """What each client says to the folders of tuning."""
    rows = {}
    for client, (code, names) in FOLDERS.items():
        for name in names:
            product = f"tuned/{name}"
            whole = textwrap.dedent(EXACT) + textwrap.dedent(code)
            rows[client, product] = said(whole, [folder / product], index, ())
            print(f"{client:<20} {product:<15} {rows[client, product]}", flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON to write the table into")
    out = parser.parse_args(arguments).out
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        crawled(folder)
        captioned(folder)
        tuned(folder)
        index = Index(folder)
        rows = of_shards(folder, index) | of_tables(folder, index) | of_folders(folder, index)
    wrong = [cell for cell, what in rows.items() if ("works" in what[:5]) == (cell in REFUSED)]
    wrong = [cell for cell in wrong if not rows[cell].startswith("left out")]
    if out:
        table = {product: {} for _, product in rows}
        for (client, product), what in rows.items():
            table[product][client] = what
        stored = {"date": date.today().isoformat(), "products": table}
        out.write_text(json.dumps(stored, indent=1) + "\n")
    for client, product in wrong:
        print(f"not as it should be: {client} on {product}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
