"""BLIP-2 in its own classes, with one layer of each part and twenty words."""

import torch

WORDS = (
    "a an view of land water river forest field city "
    "seen from space above green blue old new road bridge"
).split()
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]


def tiny_tokenizer():
    """One token a word, of twenty words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def tiny_config():
    """BLIP-2's three parts, one layer each."""
    from transformers import Blip2Config, OPTConfig

    text = OPTConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        ffn_dim=32,
        num_attention_heads=2,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    size = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    vision = {**size, "image_size": 32, "patch_size": 16}
    qformer = {**size, "vocab_size": 30, "max_position_embeddings": 16}
    return Blip2Config(
        vision_config=vision,
        qformer_config=qformer,
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=4,
    )


def tiny_blip2(folder, most: str = "1GB"):
    """BLIP-2's classes with a few thousand random weights, saved as safetensors of at most that
    size each; the folder.
    """
    from transformers import Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    torch.manual_seed(0)
    net = Blip2ForConditionalGeneration(tiny_config())
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:  # at the library's own scale every image would look the same
                parameter.normal_(std=0.3)
        net.language_projection.weight *= 5
        # nobody trained it to avoid padding
        net.language_model.get_output_embeddings().weight[0] *= 0
    net.save_pretrained(folder, max_shard_size=most)
    pictures = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(pictures, tiny_tokenizer(), 4).save_pretrained(folder)
    return folder
