"""Candidate captions for images, by BLIP-2 or another captioner, and what is kept of them. Chapter: captions.

* paper, RS3: 20 candidates an image by BLIP-2; one CLIP keeps the best 10, a different CLIP the best 5 of those
* official inference code: nucleus sampling, top_p 0.95, top_k 50, max length 50; LoRA tuned on RSITMD
* not in the paper: the cleaning before the ranking, and the rate of captions that name something else (both ours)
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from rs5m.clip import MAX_TOKENS, check_images, device, quiet_transformers  # first: makes torchvision importable

BLIP2 = "Salesforce/blip2-opt-6.7b"
CANDIDATES = 20  # paper
TOP_P, TOP_K, LONGEST = 0.95, 50, 50  # official inference code; LONGEST in tokens
KEEP = (10, 5)  # paper: what model A and then model B leave
LORA = {  # official adapter config; the names end so in the vision tower alone, OPT's attention has others
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["self_attn.qkv", "self_attn.projection"],
}  # fmt: skip
Images = Sequence[np.ndarray]


class Captioner(Protocol):
    """Anything that writes candidates: uint8 images (h, w, 3) in, for each image a list of n strings out."""

    def generate(self, images: Images, n: int = CANDIDATES) -> list[list[str]]: ...


def check(images: Images, n: int) -> None:
    """Raise ValueError, in one sentence, for no images, n < 1 or anything but uint8 arrays (h, w, 3)."""
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n is {n!r}: ask for at least one candidate an image")
    if images is None or not len(images):
        raise ValueError("there are no images to caption: give at least one uint8 array (h, w, 3)")
    check_images(images)


def image_seeds(images: Images, seed: int = 0) -> list[int]:
    """A seed for each image from its pixels, so neither its position, its batch nor a resumed run changes its text."""
    totals = [hashlib.sha256(f"{seed} {image.shape} ".encode() + image.tobytes()) for image in images]
    return [int.from_bytes(total.digest()[:8], "big") for total in totals]


class Nucleus:
    """Sampling with dice that were thrown before: a logits processor that leaves one token for each sequence.

    transformers draws from one global stream, so a sequence's dice depend on its batch. Here each image has a stream of
    its own, thrown on the CPU: the same on every device, and for the first candidates however many are asked for. top_k
    and top_p are the library's. What is left to chance is rounding: another batch size or device, above all in half
    precision, may turn a draw at the very border between two tokens, and with it the rest of that candidate.
    """

    def __init__(self, seeds: Sequence[int], n: int, steps: int, top_k: int = TOP_K, top_p: float = TOP_P):
        from transformers import TopKLogitsWarper, TopPLogitsWarper

        self.warpers = [TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)]
        dice = [np.random.default_rng(seed).random((n, steps), np.float32) for seed in seeds]
        self.dice, self.step = torch.from_numpy(np.concatenate(dice)).to(device()), 0

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self.warpers:
            scores = warper(tokens, scores)
        cumulative = scores.softmax(-1).cumsum(-1)
        target = self.dice[:, self.step, None] * cumulative[:, -1:]  # the sum is not quite one
        chosen = (cumulative <= target).sum(-1, keepdim=True)  # the first that exceeds it has a probability above zero
        self.step = min(self.step + 1, self.dice.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen.clamp_(max=scores.shape[1] - 1), 0.0)


def sampling(
    seeds: Sequence[int], n: int, steps: int, end: int, padding: int, top_k: int = TOP_K, never: Sequence[int] = ()
) -> dict:
    """Keywords for transformers' `generate`: n sequences a prompt, `steps` new tokens at most, drawn by `Nucleus`.

    The library's multinomial draw then has one token to choose from. top_k 1 is greedy; `never` are token ids that are
    not drawn. Chapter: captions.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    config = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, temperature=1.0, num_beams=1, num_return_sequences=n, use_cache=True,
        max_new_tokens=steps, eos_token_id=end, pad_token_id=padding, suppress_tokens=list(never) or None,
    )  # fmt: skip
    return {"generation_config": config, "logits_processor": LogitsProcessorList([Nucleus(seeds, n, steps, top_k)])}


class Blip2Captioner:
    """BLIP-2 by transformers: nucleus sampling as in the official inference code. Paper: RS3 captions.

    name: a folder, or a name on the hub (the default: 31 GB to fetch, 16 GB of a GPU). adapter: a folder of peft's,
    merged into the weights. batch: images at once, each with all its candidates; the vision tower sees an image once.
    Safetensors only, and no code beside them is run. float16 on a GPU as in the official code, float32 on the CPU.
    ValueError that names what cannot be read and the cure. Chapter: captions.
    """

    def __init__(
        self, name: str | Path = BLIP2, adapter: Path | None = None, batch: int = 8, seed: int = 0, quiet: bool = False
    ):
        quiet_transformers()
        self.processor, net = _read_blip2(str(name))
        self.net = (net if adapter is None else _merged(net, Path(adapter))).to(device()).eval()
        self.batch, self.seed, self.quiet = batch, seed, quiet

    def generate(self, images: Images, n: int = CANDIDATES) -> list[list[str]]:
        """n candidates for each uint8 image (h, w, 3); a rerun gives the same text, see `Nucleus`.

        "Max length 50" counted new tokens in the transformers of the official code; today's `max_length` would count
        the 32 places of the image too and leave 17 words, so new tokens are counted here. ValueError as in `check`.
        """
        check(images, n)
        found = []
        for start in tqdm(range(0, len(images), self.batch), desc="captions", unit="batch", disable=self.quiet):
            found += self._generate(images[start : start + self.batch], n)
        return found

    @torch.inference_mode()
    def _generate(self, images: Images, n: int) -> list[list[str]]:
        inputs = self.processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
        config, text = self.net.config, self.net.config.text_config
        seeds, never = image_seeds(images, self.seed), [config.image_token_index]  # the image's places are no words
        options = sampling(seeds, n, LONGEST, text.eos_token_id, text.pad_token_id, never=never)
        tokens = self.net.generate(inputs.pixel_values.to(self.net.device, self.net.dtype), **options)
        tokens = tokens[:, config.num_query_tokens + 1 :]  # the image's places and the start of text come back, too
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        texts = [" ".join(text.split()) for text in texts]
        return [texts[i : i + n] for i in range(0, len(texts), n)]


def _read_blip2(name: str):
    from transformers import Blip2ForConditionalGeneration, Blip2Processor, PreTrainedConfig

    if not Path(name).is_dir() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ValueError(f"{name} is no folder: give one that holds a BLIP-2 model, or a hub name such as {BLIP2}")
    half = torch.float32 if device().type == "cpu" else torch.float16
    try:
        kind = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
        if kind != "blip-2":  # transformers would go on, with random weights
            raise ValueError(f"its config.json says {kind!r}")
        processor = Blip2Processor.from_pretrained(name, trust_remote_code=False)
        net, report = Blip2ForConditionalGeneration.from_pretrained(
            name, dtype=half, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        if report["missing_keys"]:  # transformers would go on, with random numbers in their place
            raise ValueError(f"its weights lack {sorted(report['missing_keys'])[0]}")
        if net.config.image_token_index is None:
            raise ValueError("its config.json has no image_token_index: fetch the model's newest revision")
    except Exception as error:  # a damaged file raises whatever its reader raises
        raise ValueError(
            f"{name} cannot be read as BLIP-2 with safetensors weights, give such a folder or hub name: {error!r:.200}"
        ) from error
    return processor, net


def _merged(net: torch.nn.Module, folder: Path) -> torch.nn.Module:
    from peft import PeftModel

    missing = [f for f in ("adapter_config.json", "adapter_model.safetensors") if not (folder / f).is_file()]
    if missing:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}: give a folder that peft saved as safetensors")
    try:
        return PeftModel.from_pretrained(net, str(folder)).merge_and_unload()
    except Exception as error:
        raise ValueError(f"{folder} is no adapter of this model, train or fetch one for it: {error!r:.200}") from error


class Cleaned(NamedTuple):
    """The candidates of one image that are kept, in their order, and (text, reason) of every other."""

    kept: list[str]
    dropped: list[tuple[str, str]]


def clean(candidates: Sequence[str], longest: int = MAX_TOKENS) -> Cleaned:
    """Keep an image's candidates, or drop them with a reason; kept ones have single spaces.

    - empty: no letter in it; another script: fewer than half of its letters are Latin
    - broken characters: bytes that were no text, as byte-level tokens give when they are cut
    - too long: more than `longest` words, so more tokens than CLIP reads whatever its tokenizer
    - duplicate: equal to an earlier one but for case, spaces, punctuation and the way its characters are written

    ValueError for a string instead of a list. Paper: RS3 captions (the rules are ours). Chapter: captions.
    """
    if isinstance(candidates, str):
        raise ValueError("candidates is one string: give a list of strings")
    kept, dropped, seen = [], [], set()
    for text in candidates:
        if why := _fault(text, longest) or ("duplicate" if words(text) in seen else ""):
            dropped.append((text, why))
        else:
            seen.add(words(text))
            kept.append(" ".join(text.split()))
    return Cleaned(kept, dropped)


def _fault(text: str, longest: int) -> str:
    letters = [c for c in text if c.isalpha()] if isinstance(text, str) else []
    if not letters:
        return "empty"
    if any(c == "\ufffd" or 0xD800 <= ord(c) < 0xE000 for c in text):
        return "broken characters"
    if 2 * sum("LATIN" in unicodedata.name(c, "") for c in letters) < len(letters):
        return "another script"
    return "too long" if len(text.split()) > longest else ""


def rank(similarity_a: np.ndarray, similarity_b: np.ndarray, keep: tuple[int, int] = KEEP) -> np.ndarray:
    """The candidates two models leave of each image: ints (images, keep[1]), best by B first, -1 where there are fewer.

    similarity_a, similarity_b: (images, candidates) by two different models, NaN in both where an image has no such
    candidate. A keeps the best keep[0], B the best keep[1] of those: no single model's taste. Ties go to the earlier
    candidate. ValueError for other shapes, an infinite value, NaN in one alone, or a keep that is not falling.
    Paper: RS3 captions. Chapter: captions.
    """
    a, b = np.asarray(similarity_a, np.float64), np.asarray(similarity_b, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"similarities have shapes {a.shape} and {b.shape}: give two of shape (images, candidates)")
    if np.isinf(a).any() or np.isinf(b).any() or (np.isnan(a) != np.isnan(b)).any():
        raise ValueError("similarities are infinite, or absent (NaN) in one model only: give finite numbers or two NaN")
    if not 1 <= keep[1] <= keep[0]:
        raise ValueError(f"keep is {keep}: the second model keeps at least 1 and at most what the first one left")
    first = np.argsort(-a, axis=1, kind="stable")[:, : keep[0]]  # NaN last
    first.sort(1)  # so that B's ties, too, go to the earlier candidate
    left = np.take_along_axis(b, first, 1)
    order = np.argsort(-left, axis=1, kind="stable")[:, : keep[1]]
    chosen = np.where(np.isnan(np.take_along_axis(left, order, 1)), -1, np.take_along_axis(first, order, 1))
    return np.pad(chosen, ((0, 0), (0, keep[1] - chosen.shape[1])), constant_values=-1)


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case, punctuation and variants of writing, for comparing."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


class Named(NamedTuple):
    """For each text whether it names one of its own names, and whether it names any other: two bool arrays (texts,)."""

    own: np.ndarray
    other: np.ndarray


def named(texts: Sequence[str], known: Sequence[Sequence[str]], names: Iterable[str]) -> Named:
    """Which texts name what is known of their image, and which name something else, a hallucination.

    known: for each text the names that are true of it (its class and synonyms, or its city, state and country); names:
    all names there are. Whole words without case, the longest name at each place: "woody savannas" does not name
    "savannas", "Equatorial Guinea" not "Guinea". The rate is `named(...).other.mean()`. ValueError for other lengths,
    a string where a list of names belongs, or no name at all. Chapter: captions.
    """
    if len(texts) != len(known) or isinstance(names, str) or any(isinstance(own, str) for own in known):
        raise ValueError(f"{len(texts)} texts and {len(known)} lists of known names: give one list for each text")
    every = {words(name) for name in names} | {words(name) for own in known for name in own}
    every.discard(())
    if not every:
        raise ValueError("there is no name to look for: give all classes or places in `names`")
    found = [set(_found(words(text), every, max(map(len, every)))) for text in texts]
    pairs = [(here, {words(name) for name in own}) for here, own in zip(found, known, strict=True)]
    own, other = [bool(here & own) for here, own in pairs], [bool(here - own) for here, own in pairs]
    return Named(np.array(own, bool), np.array(other, bool))


def _found(text: tuple[str, ...], names: set[tuple[str, ...]], longest: int) -> Iterable[tuple[str, ...]]:
    place = 0
    while place < len(text):
        parts = (text[place : place + size] for size in range(min(longest, len(text) - place), 0, -1))
        name = next((part for part in parts if part in names), None)
        if name:
            yield name
        place += len(name) if name else 1
