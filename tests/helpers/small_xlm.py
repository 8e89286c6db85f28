"""A small CLIP of open_clip whose text tower is transformers' XLM-RoBERTa, in the files of the hub:
those of its own repository, and the tower's configuration and tokenizer, which lie in another one.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from rs5m.clip import open_clip

TOWER, WORDS = "xlm-roberta-base", 60  # the hub's oldest names have no owner
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"hf_model_name": TOWER, "hf_tokenizer_name": TOWER,
                 "hf_pooler_type": "mean_pooler"},
}  # fmt: skip
NORM = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def written(hub: Path, repo: str) -> tuple[torch.nn.Module, object]:
    """The network and its tokenizer, as open_clip makes them of local files; the repository `repo`
    and the tower's are folders of `hub` afterwards.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "vocab_size": WORDS, "max_position_embeddings": 82}
    XLMRobertaConfig(**sizes, type_vocab_size=1, layer_norm_eps=1e-5).save_pretrained(hub / TOWER)
    table = [(mark, 0.0) for mark in ("<s>", "<pad>", "</s>", "<unk>")]
    table += [("▁", -4.0)] + [(f"▁w{i}", -2.0) for i in range(WORDS - len(table) - 2)]
    tokenizer = Tokenizer(models.Unigram([*table, ("<mask>", 0.0)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    marks = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"}
    marks |= {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(hub / TOWER)
    torch.manual_seed(0)
    local = {"hf_model_name": str(hub / TOWER), "hf_model_pretrained": False}
    text = CONFIG["text_cfg"] | local
    net = open_clip.CustomTextCLIP(**CONFIG | {"text_cfg": text}).eval()
    (hub / repo).mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), hub / repo / "open_clip_model.safetensors")
    config = {"model_cfg": CONFIG, "preprocess_cfg": NORM}
    (hub / repo / "open_clip_config.json").write_text(json.dumps(config))
    return net, open_clip.tokenizer.HFTokenizer(str(hub / TOWER), context_length=77)
