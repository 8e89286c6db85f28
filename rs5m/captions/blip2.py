"""BLIP-2 as a captioner. Chapter: captions."""

import re
from pathlib import Path

import torch
from tqdm.auto import tqdm

from rs5m.captions.candidates import CANDIDATES, Images, check
from rs5m.captions.nucleus import LONGEST, TOP_K, image_seeds, sampling
from rs5m.clip.openclip import quiet_transformers
from rs5m.device import device
from rs5m.files import refuse_pointer
from rs5m.web import hub

BLIP2 = "Salesforce/blip2-opt-6.7b"
LORA = {  # official adapter config; only names of the vision tower end so, OPT has others
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "target_modules": ["self_attn.qkv", "self_attn.projection"],
}


class Blip2Captioner:
    """BLIP-2 by transformers: nucleus sampling as in the official inference code. Paper: RS3
    captions.

    Safetensors only, and no code beside them is run. float16 on a GPU as in the official code,
    float32 on the CPU. ValueError that names what cannot be read and the cure.

    Args:
        name: a folder, or a name on the hub (the default: 31 GB to fetch, 16 GB of a GPU).
        adapter: a folder of peft's, merged into the weights.
        batch_size: images at once, each with all its candidates; the vision tower sees an image
            once.
        seed: of the sampling, with the image's pixels.
        quiet: show no progress bar.
    """

    def __init__(
        self,
        name: str | Path = BLIP2,
        adapter: Path | None = None,
        batch_size: int = 8,
        seed: int = 0,
        quiet: bool = False,
    ):
        quiet_transformers()
        self.processor, net = _read_blip2(str(name))
        self.net = (net if adapter is None else _merged(net, Path(adapter))).to(device()).eval()
        self.batch_size, self.seed, self.quiet = batch_size, seed, quiet

    def generate(self, images: Images, n: int = CANDIDATES, top_k: int = TOP_K) -> list[list[str]]:
        """n candidates for each uint8 image (h, w, 3); a rerun gives the same text, see `Nucleus`;
        top_k 1 is greedy.

        "Max length 50" counted new tokens in the transformers of the official code; today's
        `max_length` would count the 32 places of the image too and leave 17 words, so new tokens
        are counted here. ValueError as in `check`.
        """
        check(images, n)
        size, texts = self.batch_size, []
        for start in tqdm(
            range(0, len(images), size), "captions", unit="batch", disable=self.quiet
        ):
            texts += self._generate(images[start : start + size], n, top_k)
        return texts

    @torch.inference_mode()
    def _generate(self, images: Images, n: int, top_k: int) -> list[list[str]]:
        inputs = self.processor(
            images=list(images), input_data_format="channels_last", return_tensors="pt"
        )
        config, text = self.net.config, self.net.config.text_config
        seeds = image_seeds(images, self.seed)
        never = [config.image_token_index]  # the image's places are not words
        ends = text.eos_token_id, text.pad_token_id
        options = sampling(seeds, n, LONGEST, *ends, top_k, never)
        pixels = inputs.pixel_values.to(self.net.device, self.net.dtype)
        tokens = self.net.generate(pixels, **options)
        # the image's places and the start of text come back, too
        tokens = tokens[:, config.num_query_tokens + 1 :]
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        texts = [" ".join(text.split()) for text in texts]
        return [texts[i : i + n] for i in range(0, len(texts), n)]


def _read_blip2(name: str):
    from transformers import Blip2ForConditionalGeneration, Blip2Processor, PreTrainedConfig

    if not Path(name).is_dir() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ValueError(
            f"{name} is not a folder: give one that holds a BLIP-2 model, or a hub name such as "
            f"{BLIP2}"
        )
    _refuse_pointers(Path(name))
    half = torch.float32 if device().type == "cpu" else torch.float16
    try:
        if not Path(name).is_dir():
            hub.fetch(name, "config.json")  # transformers asks again and again
        kind = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
        if kind != "blip-2":  # transformers would go on, with random weights
            raise ValueError(f"its config.json says {kind!r}")
        processor = Blip2Processor.from_pretrained(name, trust_remote_code=False)
        net, report = Blip2ForConditionalGeneration.from_pretrained(
            name,
            dtype=half,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if report["missing_keys"]:  # transformers would go on, with random numbers in their place
            raise ValueError(f"its weights lack {sorted(report['missing_keys'])[0]}")
        if net.config.image_token_index is None:
            raise ValueError(
                "its config.json has no image_token_index: fetch the model's newest revision"
            )
    except Exception as error:  # a damaged file raises whatever its reader raises
        raise ValueError(
            f"{name} cannot be read as BLIP-2 with safetensors weights, give such a folder or hub "
            f"name: {error!r:.200}"
        ) from error
    return processor, net


def _refuse_pointers(folder: Path) -> None:
    """ValueError where a clone without Git LFS left pointers in place of the weights."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            refuse_pointer(path, stream.read(99))


def _merged(net: torch.nn.Module, folder: Path) -> torch.nn.Module:
    from peft import PeftModel

    files = ("adapter_config.json", "adapter_model.safetensors")
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise ValueError(
            f"{folder} has no {' and no '.join(missing)}: give a folder that peft saved as "
            "safetensors"
        )
    _refuse_pointers(folder)
    try:
        return PeftModel.from_pretrained(net, str(folder)).merge_and_unload()
    except Exception as error:
        raise ValueError(
            f"{folder} is not an adapter of this model, train or fetch one for it: {error!r:.200}"
        ) from error
