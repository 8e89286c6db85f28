"""A small captioner trained here: an image's vector becomes the first tokens of a small GPT-2.
Chapter: captions.

* not in the paper, which captions with BLIP-2: it stands in for it at the scales mini and local
* the image vectors are frozen and computed once; what is trained is one linear layer and the
  decoder
* it can only say what its training captions said: names of places it never saw come out as names of
  places it did
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from tqdm.auto import tqdm

from rs5m import clip, tune
from rs5m.captions.candidates import CANDIDATES, Images, check
from rs5m.captions.decoder import END, CaptionerSettings, Decoder
from rs5m.captions.nucleus import LONGEST, TOP_K, image_seeds, sampling
from rs5m.device import precision
from rs5m.tune.schedule import batches

# a word with its inner marks, or one punctuation mark
WORD = re.compile(r"\w+(?:[-'’.]\w+)*|[^\w\s]")
DEFAULT = CaptionerSettings()


class PrefixCaptioner:
    """Writes captions from image vectors; made by `fit` or `load`. A `rs5m.captions.Captioner`.

    Args:
        model: the encoder whose vectors it was trained on.
        vocabulary: its words; a caption is those joined by spaces, with none before punctuation.
        dim: of the image vectors.
        places: the longest caption in tokens, END included.
    """

    def __init__(
        self,
        model: clip.Model | None,
        vocabulary: list[str],
        dim: int,
        places: int,
        settings: CaptionerSettings,
    ):
        self.model, self.vocabulary, self.dim, self.places = model, vocabulary, dim, places
        self.settings, self.row = settings, {word: i for i, word in enumerate(vocabulary, END + 1)}
        self.net = Decoder(dim, len(vocabulary) + 1, places, settings).to(clip.device()).eval()

    def tokens(self, caption: str) -> list[int] | None:
        """The caption's token ids with END, or None where it holds an unknown word, is empty or too
        long.
        """
        ids = [self.row.get(word) for word in WORD.findall(caption)]
        return [*ids, END] if ids and None not in ids and len(ids) < self.places else None

    def text(self, ids: Sequence[int]) -> str:
        """The caption of token ids up to the first END."""
        ids = [*ids, END]
        words = " ".join(self.vocabulary[i - 1] for i in ids[: ids.index(END)])
        return re.sub(r" ([,.;:!?)])", r"\1", words)

    def generate(
        self, images: Images, n: int = CANDIDATES, seed: int = 0, quiet: bool = False
    ) -> list[list[str]]:
        """n candidates for each image; the same text for the same pixels and seed. ValueError for a
        captioner that was loaded without its encoder, and those of `check`.

        Args:
            images: uint8 (h, w, 3), of any size.
            n: candidates an image.
            seed: of the sampling.
            quiet: no progress bar.
        """
        check(images, n)
        if self.model is None:
            raise ValueError(
                "this captioner has no image encoder: load it with the model whose vectors it reads"
            )
        vectors = clip.encode_images(self.model, images, quiet=quiet)
        return self.write(vectors, n, image_seeds(images, seed), quiet=quiet)

    @torch.inference_mode()
    def write(
        self,
        vectors: np.ndarray,
        n: int = CANDIDATES,
        seeds: Sequence[int] | None = None,
        top_k: int = TOP_K,
        batch_size: int = 64,
        quiet: bool = False,
    ) -> list[list[str]]:
        """n candidates for each image vector (dim,) of `rs5m.clip.encode_images`, by nucleus
        sampling with a cache.

        Neither batch_size nor n changes a text, but for rounding. ValueError for another dim, no
        vectors, n < 1 or another number of seeds.

        Args:
            seeds: one for each image, by default its position.
            top_k: 1 is greedy.
            batch_size: images at once.
            quiet: show no progress bar.
        """
        self._check(vectors, n)
        seeds = range(len(vectors)) if seeds is None else seeds
        if len(seeds) != len(vectors):
            raise ValueError(
                f"{len(seeds)} seeds for {len(vectors)} images: give one for each image"
            )
        candidates, starts = [], range(0, len(vectors), batch_size)
        for start in tqdm(starts, desc="captions", unit="batch", disable=quiet):
            part = slice(start, start + batch_size)
            inputs = torch.from_numpy(np.ascontiguousarray(vectors[part], np.float32))
            prefix = self.net.prefix(inputs.to(clip.device()))  # (n, prefix, width)
            options = sampling(seeds[part], n, self.places, END, END, top_k)
            mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
            tokens = self.net.gpt.generate(inputs_embeds=prefix, attention_mask=mask, **options)
            texts = [self.text(ids) for ids in tokens.tolist()]
            candidates += [texts[i : i + n] for i in range(0, len(texts), n)]
        return candidates

    def _check(self, vectors: np.ndarray, n: int) -> None:
        if n < 1 or not len(vectors):
            raise ValueError(
                f"{len(vectors)} images and n {n}: give at least one image, ask for at least one "
                "caption"
            )
        if np.shape(vectors)[1:] != (self.dim,) or not np.isfinite(vectors).all():
            raise ValueError(
                f"vectors have shape {np.shape(vectors)} or are not finite: this captioner reads "
                f"(images, {self.dim})"
            )

    def save(self, folder: Path) -> None:
        """Write model.safetensors and captioner.json into a folder, made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.net, str(folder / "model.safetensors"))
        about = {
            "dim": self.dim,
            "places": self.places,
            "settings": asdict(self.settings),
            "words": self.vocabulary,
        }
        (folder / "captioner.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def load(folder: Path, model: clip.Model | None = None) -> PrefixCaptioner:
    """The captioner that `save` wrote; model: the encoder it was trained on, needed for `generate`
    alone.

    ValueError for a folder that holds none or a damaged one.
    """
    try:
        about = json.loads((folder / "captioner.json").read_text(encoding="utf-8"))
        settings = CaptionerSettings(**about["settings"])
        made = PrefixCaptioner(model, about["words"], about["dim"], about["places"], settings)
        load_model(made.net, str(folder / "model.safetensors"), device=str(clip.device()))
    except Exception as error:  # a damaged file raises whatever its reader raises
        raise ValueError(
            f"{folder} holds no whole captioner (captioner.json, model.safetensors): train it "
            f"again with rs5m.captions.prefix.fit and save it ({type(error).__name__})"
        ) from error
    return made


def fit(
    vectors: np.ndarray,
    captions: Sequence[Sequence[str]],
    settings: CaptionerSettings = DEFAULT,
    model: clip.Model | None = None,
    quiet: bool = False,
) -> tuple[PrefixCaptioner, list[float]]:
    """Train a captioner on pairs; returns it and the loss of every step, in nats a word.

    The language is the words of the captions, as written. A caption is left out, counted and
    reported, when it is empty, longer than 50 tokens or holds a word that occurs fewer than
    `settings.rare` times: a name seen once cannot be learned, and an unknown-word token would be a
    blank to be filled with an invention. Same seed, same machine: same weights. ValueError for
    other lengths, or where no caption is left.

    Args:
        vectors: (n, dim) of `rs5m.clip.encode_images`, computed once and left alone.
        captions: one or more for each, one drawn at random each epoch.
        model: the encoder of the vectors, which the captioner keeps for `generate`.
        quiet: show no progress bar.
    """
    if len(vectors) != len(captions) or any(isinstance(texts, str) for texts in captions):
        raise ValueError(
            f"{len(vectors)} vectors and {len(captions)} lists of captions: give one list for each "
            "vector"
        )
    if np.ndim(vectors) != 2 or not np.isfinite(vectors).all():
        raise ValueError(
            f"vectors have shape {np.shape(vectors)} or are not finite: give finite numbers "
            "(images, dim)"
        )
    made, kept = _prepare(vectors, captions, settings, model)
    rows = [row for row, texts in enumerate(kept) if texts]
    inputs = torch.from_numpy(np.asarray(vectors, np.float32)[rows]).to(clip.device())
    unit = nn.functional.normalize(inputs, dim=-1)
    made.net.mean.copy_(unit.mean(0))
    made.net.std.copy_(unit.std(0, correction=0) + 1e-6)
    return made, _train(made.net, inputs, [kept[row] for row in rows], settings, quiet)


def _train(
    net: Decoder,
    inputs: torch.Tensor,
    captions: list[list[list[int]]],
    settings: CaptionerSettings,
    quiet: bool,
) -> list[float]:
    """The loss of every step. inputs: vectors (n, dim); captions: token ids of each vector's."""
    generator = torch.Generator().manual_seed(settings.seed)
    decay = {"weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate, **decay)
    plan, losses = batches(len(inputs), settings, generator), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: tune.rate(step, len(plan)))
    scaler = torch.amp.GradScaler(clip.device().type, enabled=precision() == "fp16")
    net.train()
    for index in (bar := tqdm(plan, desc="captioner", unit="step", disable=quiet)):
        tokens = _draw([captions[i] for i in index], generator).to(clip.device())
        with clip.autocast():
            loss = net(inputs[index], tokens)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        # the first steps of a decoder from scratch are rough
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    net.eval()
    return losses


def _prepare(
    vectors: np.ndarray,
    captions: Sequence[Sequence[str]],
    settings: CaptionerSettings,
    model: clip.Model | None,
) -> tuple[PrefixCaptioner, list[list[list[int]]]]:
    """The untrained captioner, and the token ids of each vector's captions that are kept."""
    split = [WORD.findall(text) for texts in captions for text in texts]
    split = [words for words in split if len(words) <= LONGEST]
    counts = Counter(word for words in split for word in words)
    vocabulary = sorted(word for word, count in counts.items() if count >= settings.rare)
    places = max(map(len, split), default=0) + 1
    torch.manual_seed(settings.seed)  # the weights that the decoder starts from, and its dropout
    made = PrefixCaptioner(model, vocabulary, np.shape(vectors)[-1], places, settings)
    kept = [[ids for text in texts if (ids := made.tokens(text))] for texts in captions]
    total, left = sum(map(len, captions)), sum(map(len, kept))
    if not left:
        raise ValueError(
            f"none of {total} captions is made of words seen {settings.rare} times: give more "
            "captions or a lower rare"
        )
    if left < total:
        print(
            f"captioner: {total - left} of {total} captions left out: empty, too long, or with a "
            "rare word"
        )
    return made, kept


def _draw(captions: list[list[list[int]]], generator: torch.Generator) -> torch.Tensor:
    """One random caption of each image as ids (n, length), -100 after END."""
    picks = torch.rand(len(captions), generator=generator).tolist()
    pairs = zip(captions, picks, strict=True)
    drawn = [torch.tensor(texts[int(pick * len(texts))]) for texts, pick in pairs]
    return nn.utils.rnn.pad_sequence(drawn, batch_first=True, padding_value=-100)
