"""The official evaluation the plain way, image by image and file by file, by torchvision, OpenCV's
and Pillow's files and torch.topk: twin of `rs5m.evaluate.official`.
"""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import slow_selo
import torch
from PIL import Image
from torch.nn import functional

from rs5m import paper

NAMES = dict(zip(("rsu", "rda", "ras", "rmi"), "↑ Rsu,↑ Rda,↓ Ras,↑ Rmi".split(","), strict=True))


def transform(model):
    from torchvision import transforms  # open_clip, which made the model, lets it be imported

    return transforms.Compose(
        [
            transforms.Resize(model.image_size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(model.image_size),
            transforms.ToTensor(),
            transforms.Normalize(model.mean, model.std),
        ]
    )


@torch.no_grad()
def features(model, paths: list[Path]) -> torch.Tensor:
    """Normalised image features of files, 100 at a time."""
    prepare, found = transform(model), []
    for start in range(0, len(paths), 100):
        some = [prepare(Image.open(path).convert("RGB")) for path in paths[start : start + 100]]
        found.append(functional.normalize(model.net.encode_image(torch.stack(some)), dim=-1))
    return torch.cat(found)


@torch.no_grad()
def text_features(model, texts: list[str]) -> torch.Tensor:
    return model.net.encode_text(model.tokenizer(texts))


def classes(model, root: Path) -> tuple[float, list[str], torch.Tensor, torch.Tensor]:
    """Accuracy in %, file names, features and logits of a folder of class folders."""
    folders = sorted(path for path in root.iterdir())
    files = [(path, i) for i, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    weights = []
    for folder in folders:
        name = paper.class_name(folder.name)
        text = text_features(model, [prompt.format(name) for prompt in paper.prompts()])
        weights.append(functional.normalize(text.mean(0), dim=-1))
    image = features(model, [path for path, _ in files])
    logits = 100 * image @ torch.stack(weights).T
    predicted = logits.topk(1, 1)[1][:, 0]
    right = (predicted == torch.tensor([label for _, label in files])).sum().item()
    names = [path.relative_to(root).as_posix() for path, _ in files]
    return round(right * 100 / len(files), 2), names, image, logits


def recalls(model, folder: Path, name: str, images: str) -> dict[str, float]:
    """The six recalls and their mean in %, to two digits, by official names."""
    rows = list(csv.DictReader((folder / f"{name}_test.csv").open(encoding="utf-8")))
    files = sorted({row["filename"] for row in rows})
    pairs = [(i, r["title"]) for i, f in enumerate(files) for r in rows if r["filename"] == f]
    of = torch.tensor([i for i, _ in pairs])
    image = features(model, [folder / images / file for file in files])
    text = functional.normalize(text_features(model, [title for _, title in pairs]), dim=-1)
    scores, found = text @ image.T, {}
    right = torch.zeros_like(scores, dtype=bool)
    right[torch.arange(len(of)), of] = True
    for way, table, own in (("image2text", scores.T, right.T), ("text2image", scores, right)):
        for k in (1, 5, 10):
            best = functional.one_hot(torch.topk(table, k, dim=1)[1], table.shape[1])
            hit = (best * own[:, None]).sum((1, 2)) > 0
            found[f"retrieval-{way}-R@{k}-{name}"] = hit.float().mean().item() * 100
    found[f"retrieval-mean-recall-{name}"] = float(np.mean(list(found.values())))
    return {key: round(value, 2) for key, value in found.items()}


def localization(model, folder: Path, place: Path) -> dict[str, float]:
    """The means of the four numbers; windows and maps are files in `place`."""
    found = []
    for query in json.loads((folder / "annotations/anno.json").read_text()):
        image = cv2.imread(str(folder / "imgs" / query["jpg_name"]))
        windows, paths = slow_selo.windows(*image.shape[:2]), []
        for r0, r1, c0, c1 in windows:
            paths.append(place / f"{r0}_{r1}_{c0}_{c1}.jpg")
            cut = cv2.resize(image[r0:r1, c0:c1], (256, 256), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(paths[-1]), cut)
        text = functional.normalize(text_features(model, [query["caption"]]), dim=-1)
        scores = (features(model, paths) * text).sum(1).numpy()
        heat = slow_selo.probability_map(windows, scores, *image.shape[:2])
        cv2.imwrite(str(place / "map.jpg"), heat)
        gray = cv2.imread(str(place / "map.jpg"), cv2.IMREAD_GRAYSCALE)
        found.append(slow_selo.metrics(gray, query["points"]))
    return {f"{NAMES[key]} [0 ~ 1]": float(np.mean([one[key] for one in found])) for key in NAMES}
