"""Adapters: what is trained, where the start is, what merging, saving and another base model do; on
small networks.
"""

import copy
import json
import math
import os
import signal
from functools import cache

import pytest
import small
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from rs5m import adapters, clip
from rs5m.adapters import lowrank, saved, towers, tuners
from rs5m.clip import export, open_clip
from rs5m.files import POINTER

from peft import PeftModel  # isort: skip  (after rs5m.clip, which lets torchvision be imported)
from peft.tuners import lora  # isort: skip

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = small.SIDE
SIZE = 4  # rank, width of the bottleneck, length of the prefix
TEXT = open_clip.CLIPTextCfg(context_length=16, vocab_size=500, width=32, heads=2, layers=2)
ROOTS = {
    "vit": {"image": "visual.", "text": "transformer."},
    "pocket": {"image": "visual.", "text": "text."},
}
MARKS = {
    "lora": "lora_",
    "dora": "lora_",
    "adapter": "tuned_",
    "prefix": "tuned_",
    "unipelt": "tuned_",
}
EXACT = ("full", "head", "lora", "dora", "adapter")  # start as the general model


def copied(make):
    """Build a network once for each seed and give copies."""
    once = cache(make)
    return lambda seed=0: copy.deepcopy(once(seed))


@copied
def vit(seed: int = 0) -> nn.Module:
    """CLIP's two transformers, small and random."""
    return stirred(small.vit(seed, TEXT))


@copied
def pocket(seed: int = 0) -> nn.Module:
    """The pocket model, random and small: EfficientNet-Lite0, and a BERT without a projection."""
    from timm.models import efficientnet
    from transformers import BertConfig

    clip.quiet_transformers()
    net = small.pocket(seed, TEXT)
    slim = efficientnet._gen_efficientnet_lite(
        "lite", channel_multiplier=0.1, depth_multiplier=0.3, pad_type="same"
    )
    slim.reset_classifier(0, "avg")
    slim.blocks[2] = slim.blocks[3] = (
        nn.Sequential()
    )  # all stages are 8 wide, and these are not adapted anyway
    net.visual.trunk = slim
    sizes = {"vocab_size": 500, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    bert = BertConfig(
        **sizes, num_attention_heads=2, initializer_range=0.2
    )  # wide: its tokens must differ
    net.text = open_clip.hf_model.HFTextEncoder("", 32, bert, "mean_pooler")
    net.text.transformer.pooler = None  # as open_clip leaves it out beside its own pooling
    return stirred(net.eval())


def stirred(net: nn.Module) -> nn.Module:
    """The network with noise on every vector: no bias is zero, and a lost one would show."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return net


MAKE = {"vit": vit, "pocket": pocket}
IMPOSSIBLE = {
    ("pocket", "image", "prefix"),
    ("pocket", "image", "unipelt"),
    ("pocket", "text", "head"),
}
ALL = [
    (kind, tower, method)
    for kind in MAKE
    for tower in adapters.TOWERS
    for method in adapters.METHODS
]
CASES = [case for case in ALL if case not in IMPOSSIBLE]
each_case = pytest.mark.parametrize(("kind", "tower", "method"), CASES)


def prepared(kind: str, tower: str, method: str) -> tuple[nn.Module, nn.Module]:
    """The open_clip network, and the same as `prepare` returned it."""
    net = MAKE[kind]()
    torch.manual_seed(0)
    return net, adapters.prepare(net, method, SIZE, (tower,))


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four images, and four texts of 16, 12, 8 and 4 tokens whose last one has CLIP's highest
    number.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randint(1, 400, (4, 16), generator=generator)
    for row, length in zip(texts, (16, 12, 8, 4), strict=True):
        row[length - 1] = 499
        row[length:] = 0
    return torch.randn(4, 3, SIDE, SIDE, generator=generator), texts


def vectors(net: nn.Module, seed: int = 0) -> torch.Tensor:
    """Normalised vectors (8, 32) of four images and four texts."""
    images, texts = data(seed)
    return torch.cat(
        [net.encode_image(images, normalize=True), net.encode_text(texts, normalize=True)]
    )


@cache
def general(kind: str) -> torch.Tensor:
    """The vectors of the general model."""
    with torch.no_grad():
        return vectors(MAKE[kind]())


def logits(net: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        image, text = vectors(net).split(4)
        return net.logit_scale.exp() * image @ text.T


def step(net: nn.Module, seed: int) -> None:
    """One step on a contrastive loss, by the gradient's sign: however small it is, it moves what it
    reaches.
    """
    image, text = vectors(net, seed).split(4)
    net.zero_grad()
    functional.cross_entropy(net.logit_scale.exp() * image @ text.T, torch.arange(4)).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * (1 + seed) * parameter.grad.sign()


def shaken(net: nn.Module) -> nn.Module:
    """The network with noise on everything that is trained: adapters that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


# what is trained


@each_case
def test_gradients_reach_every_trained_parameter_and_nothing_else_moves(kind, tower, method):
    net, wrapped = prepared(kind, tower, method)
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    before = snapshot(net)
    step(wrapped, 0)
    step(wrapped, 1)  # what starts at zero lets nothing through to its inner half at the first step
    dead = [name for name in trained if not net.get_parameter(name).grad.abs().sum() > 0]
    assert trained and not dead, f"no gradient: {dead}"
    moved = {
        name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert moved == trained


@each_case
def test_only_the_tower_is_trained_and_by_as_much_as_the_formula_says(kind, tower, method):
    net = MAKE[kind]()
    expected = adapters.formula(net, method, SIZE, (tower,))
    wrapped = adapters.prepare(net, method, SIZE, (tower,))
    assert clip.parameters(wrapped, trainable=True) == expected > 0
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert set(net.adapted.trained) == trained
    assert len(trained) == sum(parameter.requires_grad for parameter in wrapped.parameters())
    if method in MARKS:
        assert all(
            MARKS[method] in name and name.startswith(ROOTS[kind][tower]) for name in trained
        )
        assert not isinstance(wrapped, type(net)) and wrapped.get_base_model() is net
        assert {wrapped.peft_config["default"].peft_type} <= {
            "LORA",
            "PFEIFFER",
            "ATTENTION_PREFIX",
            "UNIPELT",
        }
    else:
        assert wrapped is net and ("logit_scale" in trained) == (method == "full")
    if method == "full":
        others = {name for name, _ in net.named_parameters()} - trained
        assert all(name.startswith("visual.") != (tower == "image") for name in others)


def transformer_formula(method: str, r: int, depth: int, w: int, m: int) -> int:
    """The chapter's closed formulas: depth layers of width w, hidden width m."""
    return (
        depth
        * {
            "lora": r * (10 * w + 2 * m),
            "dora": r * (10 * w + 2 * m) + 5 * w + m,
            "adapter": 2 * w * r + r + w,
            "prefix": 2 * w * r,
            "unipelt": (2 * w * r + r + w) + 2 * w * r + 4 * w * r + 3 * (w + 1),
        }[method]
    )


@pytest.mark.parametrize("method", adapters.METHODS)
def test_the_formula_at_the_widths_of_vit_b_32(method):
    with torch.device("meta"):
        net = open_clip.CLIP(512, open_clip.CLIPVisionCfg(patch_size=32), open_clip.CLIPTextCfg())
    both, image = (
        adapters.formula(net, method, 16, names) for names in (("image", "text"), ("image",))
    )
    if method == "full":
        assert both == 151_277_313, "open_clip's own number"
        assert image == 87_849_217, "the image tower and the temperature"
    elif method == "head":
        assert (image, both - image) == (768 * 512, 512 * 512)
    else:
        assert image == transformer_formula(method, 16, 12, 768, 3072)
        assert both - image == transformer_formula(method, 16, 12, 512, 2048)
    assert (
        clip.parameters(adapters.prepare(net, method, 16, ("image", "text")), trainable=True)
        == both
    )


def test_a_convolutional_tower_is_adapted_from_stage_four_on_and_never_depthwise():
    net = pocket()
    found = towers.anatomy(net, "image")
    stages = {
        name.split("blocks.")[1][0]
        for name, *_ in found.linear + found.outputs
        if "blocks." in name
    }
    assert stages == {"4", "5", "6"} and not found.attention
    assert {"visual.trunk.conv_head", "visual.head.proj"} < {name for name, *_ in found.linear}
    for name, wide_in, wide_out in found.linear:
        weight = net.get_submodule(name).weight
        assert weight.shape[:2] == (wide_out, wide_in) and weight[0, 0].numel() == 1


# the start


@each_case
def test_the_start_is_the_general_model_and_so_is_what_is_switched_off(kind, tower, method):
    net, wrapped = prepared(kind, tower, method)
    for each in (net, wrapped):
        if method in EXACT:
            torch.testing.assert_close(vectors(each), general(kind), rtol=0, atol=2e-6)
        else:
            # The prefix takes its share: most of it from the first tokens of a causal text, which
            # see few others.
            got = vectors(each)
            assert (got * general(kind)).sum(1).min() > 0.8
            assert (got - general(kind)).abs().max() > 1e-4
    assert not any(module.training for module in wrapped.modules())
    if method in MARKS:
        assert (vectors(shaken(wrapped)) - general(kind)).abs().max() > 1e-3
        with wrapped.disable_adapter():
            torch.testing.assert_close(vectors(wrapped), general(kind), rtol=0, atol=2e-6)
        assert (vectors(wrapped) - general(kind)).abs().max() > 1e-3


ROWS = [("vit", "visual.transformer.resblocks.0.mlp.c_fc"), ("pocket", "visual.head.proj")]


@pytest.mark.parametrize(("kind", "name"), [*ROWS, ("pocket", "visual.trunk.conv_head")])
def test_dora_starts_at_the_general_model_where_a_row_is_zero(kind, name):
    net = MAKE[kind]()
    with torch.no_grad():
        net.get_submodule(name).weight[3] = 0
        net.get_submodule(name).weight[5] = 1e-30  # its square is zero
        expected = vectors(net)
    wrapped = adapters.prepare(net, "dora", SIZE)
    torch.testing.assert_close(vectors(wrapped), expected, rtol=0, atol=2e-6)
    step(wrapped, 0)
    assert vectors(wrapped).isfinite().all()
    moved = logits(wrapped)
    torch.testing.assert_close(logits(adapters.merge(wrapped)), moved, rtol=0, atol=1e-5)


# attention


def causal(size: int) -> torch.Tensor:
    return torch.full((size, size), -math.inf).triu(1)


MASKS = {
    "none": None,
    "causal": causal(7),
    "boolean": torch.eye(7).roll(1, 0).bool(),
    "boolean by head": torch.rand(12, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.7,
    "floats by head": torch.randn(12, 7, 7, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", [True, False])
def test_split_attention_is_the_fused_one(mask, bias):
    torch.manual_seed(0)
    fused = nn.MultiheadAttention(24, 4, bias=bias, batch_first=True)
    for parameter in fused.parameters():
        nn.init.normal_(parameter, std=0.3)
    query, key, value = torch.randn(3, 3, 7, 24).unbind()
    split = towers.Attention(fused)
    for tokens in ((query, query, query), (query, key, value)):
        expected = fused(*tokens, need_weights=False, attn_mask=MASKS[mask])[0]
        got = split(*tokens, need_weights=False, attn_mask=MASKS[mask])[0]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    again = split.fused()
    assert again.state_dict().keys() == fused.state_dict().keys()
    assert all(
        torch.equal(tensor, fused.state_dict()[name]) for name, tensor in again.state_dict().items()
    )
    assert torch.equal(again(query, query, query)[0], fused(query, query, query)[0])


def test_split_attention_drops_out_in_training_only():
    fused = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True).eval()
    split, tokens = towers.Attention(fused), torch.randn(1, 5, 8)
    assert torch.equal(split(tokens, tokens, tokens)[0], split(tokens, tokens, tokens)[0])
    split.train()
    assert not torch.equal(split(tokens, tokens, tokens)[0], split(tokens, tokens, tokens)[0])


def test_attention_that_takes_its_tokens_first_is_refused():
    with pytest.raises(ValueError, match="batch first"):
        towers.Attention(nn.MultiheadAttention(8, 2))


def by_hand(tokens, part, layers, heads, hidden_from=None):
    """Attention with a prefix, and UniPELT's gated LoRA where the part has one, for one text in
    plain loops.
    """
    query, key, value = (layer(tokens) for layer in layers)
    before_key, before_value = part.key, part.value
    if isinstance(part, tuners.GatedPrefix):
        for t, token in enumerate(tokens):
            gate = 1 / (
                1 + torch.exp(-(part.low_rank_gate.weight[0] @ token + part.low_rank_gate.bias[0]))
            )
            query[t] = query[t] + gate * part.query_up.weight @ (part.query_down.weight @ token)
            value[t] = value[t] + gate * part.value_up.weight @ (part.value_down.weight @ token)
        share = torch.stack(
            [part.prefix_gate(token).sigmoid()[0] for token in tokens[:hidden_from]]
        ).mean()
        before_key, before_value = share * before_key, share * before_value
    wide, out = tokens.shape[1] // heads, torch.zeros_like(tokens)
    for h in range(heads):
        of_head = slice(h * wide, (h + 1) * wide)
        keys = torch.cat([before_key, key[:hidden_from]])[:, of_head]
        values = torch.cat([before_value, value[:hidden_from]])[:, of_head]
        for t in range(len(tokens)):
            weight = torch.exp(keys @ query[t, of_head] / math.sqrt(wide))
            out[t, of_head] = (weight / weight.sum()) @ values
    return out


@torch.no_grad()
@pytest.mark.parametrize("part", [tuners.Prefix, tuners.GatedPrefix])
@pytest.mark.parametrize("mask", ["none", "booleans", "floats"])
def test_prefix_and_unipelt_as_the_papers_write_them(part, mask):
    torch.manual_seed(0)
    part = part(12, 3)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.5)
    layers = [nn.Linear(12, 12) for _ in range(3)]
    tokens, lengths = torch.randn(2, 5, 12), (5, 5) if mask == "none" else (5, 3)
    seen = torch.tensor([[t < length for t in range(5)] for length in lengths])[
        :, None, None
    ].expand(-1, 1, 5, -1)
    given = {
        "none": None,
        "booleans": seen,
        "floats": torch.zeros(2, 1, 5, 5).masked_fill(~seen, -math.inf),
    }[mask]
    query, key, value, wider = part(tokens, *(layer(tokens) for layer in layers), given)
    got = towers.attend(query, key, value, wider, heads=2)
    for i, length in enumerate(lengths):
        expected = by_hand(tokens[i], part, layers, 2, length)
        torch.testing.assert_close(got[i], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
def test_the_bottleneck_as_the_paper_writes_it(gated):
    torch.manual_seed(0)
    part = tuners.Bottleneck(6, 2, gated=gated)
    for parameter in part.parameters():
        nn.init.normal_(parameter)
    hidden = torch.randn(6)
    change = (
        part.up.weight @ (part.down.weight @ hidden + part.down.bias).clamp(min=0) + part.up.bias
    )
    share = torch.sigmoid(part.gate.weight[0] @ hidden + part.gate.bias[0]) if gated else 1
    torch.testing.assert_close(part(hidden), hidden + share * change)


@pytest.mark.parametrize("method", ["prefix", "unipelt", "adapter", "lora"])
def test_a_text_has_the_same_vector_beside_a_longer_one(method):
    net, wrapped = prepared("pocket", "text", method)
    shaken(wrapped)
    _, texts = data()
    with torch.no_grad():
        beside = net.encode_text(texts)[3]
        alone = net.encode_text(texts[3:, :4])[0]
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["prefix", "adapter", "lora"])
def test_a_causal_text_does_not_see_what_follows_its_end(method):
    net, wrapped = prepared("vit", "text", method)
    shaken(wrapped)
    _, texts = data()
    other = texts.clone()
    other[1:, 12:] = 7
    with torch.no_grad():
        torch.testing.assert_close(
            net.encode_text(other), net.encode_text(texts), rtol=0, atol=1e-5
        )


# merging


@each_case
def test_the_merged_network_gives_the_same_logits_under_the_same_names(kind, tower, method):
    net = MAKE[kind]()
    before, start = snapshot(net), logits(net)
    wrapped = shaken(adapters.prepare(net, method, SIZE, (tower,)))
    expected = logits(wrapped)
    assert (expected - start).abs().max() > 1e-3
    merged = adapters.merge(wrapped)
    assert merged is net
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    after = merged.state_dict()
    assert (list(after) == list(before)) == adapters.mergeable(method)
    if adapters.mergeable(method):
        assert not any(tensor.is_meta for tensor in after.values())
        fresh = MAKE[kind](1)
        fresh.load_state_dict(after)
        torch.testing.assert_close(logits(fresh), expected, rtol=0, atol=1e-5)
        outside = [
            name
            for name in before
            if name.startswith("visual.") != (tower == "image") and "logit" not in name
        ]
        assert outside and all(torch.equal(after[name], before[name]) for name in outside)


def test_lora_adds_the_product_of_its_matrices_to_the_weight():
    net, wrapped = prepared("vit", "image", "lora")
    layer = shaken(wrapped).get_submodule(
        "base_model.model.visual.transformer.resblocks.1.attn.v_proj"
    )
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    was = vit().visual.transformer.resblocks[1].attn.in_proj_weight[128:]
    adapters.merge(wrapped)
    torch.testing.assert_close(
        net.visual.transformer.resblocks[1].attn.in_proj_weight[128:], was + product
    )


def test_a_merged_network_can_be_prepared_again():
    net, wrapped = prepared("vit", "image", "lora")
    adapters.merge(shaken(wrapped))
    expected = logits(net)
    again = adapters.prepare(net, "dora", SIZE, ("image", "text"))
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="already holds adapters"):
        adapters.prepare(net, "lora")


def test_a_network_that_was_not_prepared_cannot_be_merged_or_saved(tmp_path):
    for act in (adapters.merge, lambda net: adapters.save(net, tmp_path)):
        with pytest.raises(ValueError, match="was not prepared"):
            act(vit())


# saving


@each_case
def test_saved_and_loaded_into_a_fresh_base_gives_the_same_vectors(tmp_path, kind, tower, method):
    _, wrapped = prepared(kind, tower, method)
    step(wrapped, 0)
    adapters.save(shaken(wrapped), tmp_path)
    peft = {saved.PEFT, "adapter_config.json"} if method not in ("full", "head") else set()
    assert {path.name for path in tmp_path.iterdir()} == {adapters.FILE} | peft
    net = MAKE[kind]()
    loaded = adapters.load(net, tmp_path)
    assert torch.equal(vectors(loaded), vectors(wrapped)) and torch.equal(
        vectors(net), vectors(wrapped)
    )
    assert net.adapted == wrapped.adapted
    step(loaded, 1)  # ready to train on
    assert not torch.equal(vectors(loaded), vectors(wrapped))


@pytest.mark.parametrize("method", ["lora", "dora", "adapter", "prefix", "unipelt"])
def test_peft_loads_what_was_saved_into_the_open_clip_network(tmp_path, method):
    tower = "text" if method in ("prefix", "unipelt") else "image"
    for kind in MAKE if method not in ("lora", "dora") else ("pocket",):
        _, wrapped = prepared(kind, tower, method)
        adapters.save(shaken(wrapped), tmp_path / kind)
        loaded = PeftModel.from_pretrained(MAKE[kind](), tmp_path / kind)
        off = (vectors(loaded.base_model.model) - vectors(wrapped)).abs().max()
        assert off < 1e-5 < (vectors(MAKE[kind]()) - vectors(wrapped)).abs().max()


def test_attention_is_split_for_peft_where_transformers_has_no_counterpart(tmp_path):
    """CLIP's vision transformer beside a BERT."""

    def mixed() -> nn.Module:
        net = pocket()
        net.visual = vit().visual
        return net

    net = mixed()
    wrapped = shaken(adapters.prepare(net, "lora", SIZE, ("image", "text")))
    adapters.save(wrapped, tmp_path)
    loaded = PeftModel.from_pretrained(adapters.split(mixed()), tmp_path)
    off = (vectors(loaded.base_model.model) - vectors(wrapped)).abs().max()
    assert off < 1e-5 < (vectors(mixed()) - vectors(wrapped)).abs().max()


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_peft_loads_what_was_saved_into_the_network_of_transformers(tmp_path, method):
    from transformers import CLIPModel

    model = small.model(stirred(small.vit()))
    export.transformers(model, tmp_path / "base")
    before = vectors(model.net)
    wrapped = shaken(adapters.prepare(model.net, method, SIZE, ("image", "text")))
    adapters.save(wrapped, tmp_path / "adapter")
    theirs = CLIPModel.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(4, 3, SIDE, SIDE, generator=generator)
    tokens = model.tokenizer(["a photo of an airport", "water", "a", "b c d"])
    with torch.inference_mode():
        got = theirs(input_ids=tokens, pixel_values=pixels)
        image = model.net.encode_image(pixels, normalize=True)
        text = model.net.encode_text(tokens, normalize=True)
    off = [(got.image_embeds - image).abs().max(), (got.text_embeds - text).abs().max()]
    assert max(off) < 1e-5 < (vectors(model.net) - before).abs().max()


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_an_adapter_for_another_base_model_is_refused(tmp_path, method):
    _, wrapped = prepared("vit", "text", method)
    adapters.save(wrapped, tmp_path)
    with pytest.raises(
        ValueError, match=r"another base model: positional_embedding has other values, and 60 more"
    ):
        adapters.load(vit(1), tmp_path)
    net = vit()
    with torch.no_grad():
        net.visual.ln_post.bias += 1e-3
    with pytest.raises(
        ValueError, match=r"adapter.safetensors cannot .* visual.ln_post.bias has other values$"
    ):
        adapters.load(net, tmp_path)
    with pytest.raises(
        ValueError, match="base model: positional_embedding is 16x32 there and absent here"
    ):
        adapters.load(pocket(), tmp_path)
    with pytest.raises(ValueError, match="visual.class_embedding is 64 there and 96 here"):
        adapters.load(small.vit(text=TEXT, width=96), tmp_path)
    with torch.no_grad():
        net = vit()
        net.logit_scale += 1  # no vector depends on it
    adapters.load(net, tmp_path)


def rewritten(path, tensors=None, **changes) -> None:
    """The saved file with other tensors or another header."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["rs5m"]) | changes
    save_file(
        load_file(path) if tensors is None else tensors, path, metadata={"rs5m": json.dumps(about)}
    )


def renamed(path) -> None:
    rewritten(path, {f"{name}2": tensor for name, tensor in load_file(path).items()})


def flattened(path) -> None:
    rewritten(path, {name: tensor.flatten() for name, tensor in load_file(path).items()})


DAMAGE = {
    "absent": (lambda path: path.unlink(), "No such file"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be loaded"),
    "cut in the header": (
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        "cannot be loaded",
    ),
    "empty": (lambda path: path.write_bytes(b""), "cannot be loaded"),
    "a pointer": (lambda path: path.write_bytes(POINTER), "is a pointer of Git LFS"),
    "a pickle": (lambda path: torch.save({"a": torch.ones(2)}, path), "cannot be loaded"),
    "of someone else": (lambda path: save_file(load_file(path), path), "rs5m"),
    "of a size that would not fit": (
        lambda path: rewritten(path, size=10**9),
        "of size 1000000000 has",
    ),
    "of no size": (lambda path: rewritten(path, size="4"), "size is '4'"),
    "of no method": (lambda path: rewritten(path, method="prompt"), "unknown method 'prompt'"),
    "of another method": (lambda path: rewritten(path, method="dora"), "and dora of size 4 has"),
    "of no tower": (lambda path: rewritten(path, towers=[]), "towers are"),
    "of a strange base": (
        lambda path: rewritten(path, base={"logit_scale": 3}),
        "cannot be loaded",
    ),
    "with other names": (renamed, "lora_A"),
    "with other shapes": (flattened, "shape"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named(tmp_path, damage):
    _, wrapped = prepared("vit", "image", "lora")
    adapters.save(wrapped, tmp_path)
    act, says = DAMAGE[damage]
    act(tmp_path / adapters.FILE)
    with pytest.raises(ValueError, match=says) as caught:
        adapters.load(vit(), tmp_path)
    assert str(tmp_path / adapters.FILE) in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_killed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    _, wrapped = prepared("vit", "image", "lora")
    adapters.save(wrapped, tmp_path)
    whole = (tmp_path / adapters.FILE).read_bytes()

    def half(tensors, path, header):
        path.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(saved, "write", half)
    if not (child := os.fork()):
        adapters.save(shaken(wrapped), tmp_path)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.glob(".*.tmp")), "it died with half a file written"
    assert (tmp_path / adapters.FILE).read_bytes() == whole
    adapters.load(vit(), tmp_path)


# through peft itself, and around it


@pytest.mark.parametrize("method", tuners.CONFIGS)
def test_get_peft_model_takes_the_configurations(tmp_path, method):
    from peft import PeftModel, get_peft_model

    names = {"adapter": r".*c_proj", "prefix": r".*attn", "unipelt": r"visual.*(attn|c_proj)"}[
        method
    ]
    wrapped = get_peft_model(vit(), tuners.CONFIGS[method](size=SIZE, target_modules=names))
    layers = [
        module
        for module in wrapped.modules()
        if isinstance(module, tuners.TunedLayer | towers.Attention)
    ]
    assert layers and not any(layer.training for layer in layers), (
        "the network is in evaluation mode"
    )
    shaken(wrapped).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(vit(), tmp_path).eval()
    torch.testing.assert_close(
        vectors(loaded), vectors(wrapped), rtol=0, atol=2e-6
    )  # frozen: torch's fast attention
    wrapped.add_adapter("second", tuners.CONFIGS[method](size=2, target_modules=names))
    expected = vectors(wrapped)
    wrapped.set_adapter("second")
    assert not torch.equal(vectors(wrapped), expected)
    wrapped.set_adapter("default")
    assert torch.equal(vectors(wrapped), expected)
    with pytest.raises(ValueError, match="cannot be folded"):
        wrapped.merge_and_unload()
    torch.testing.assert_close(vectors(wrapped.unload()), vectors(vit()), rtol=0, atol=2e-6)


def test_a_configuration_names_a_place_that_it_cannot_take():
    from peft import get_peft_model

    with pytest.raises(
        ValueError, match="PFEIFFER has no part for 'visual.transformer.resblocks.0.attn'"
    ):
        get_peft_model(vit(), tuners.AdapterConfig(target_modules=["attn"]))
    with pytest.raises(ValueError, match="target_modules"):
        get_peft_model(vit(), tuners.AdapterConfig())


@each_case
def test_autocast_trains_in_bfloat16(kind, tower, method):
    net, wrapped = prepared(kind, tower, method)
    shaken(wrapped)
    with torch.no_grad():
        expected = vectors(wrapped)
    with torch.autocast("cpu", torch.bfloat16):
        got = vectors(wrapped)
    assert functional.cosine_similarity(got.float(), expected).min() > 0.98
    (got * torch.randn(got.shape)).sum().backward()
    for name in set(net.adapted.trained) - {"logit_scale"}:
        gradient = net.get_parameter(name).grad
        assert (
            gradient is not None and gradient.isfinite().all() and gradient.dtype == torch.float32
        ), name


class Casts(TorchDispatchMode):
    """Counts what is written in another type, and products with a plain number."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        alone = func is torch.ops.aten.mul.Tensor and not isinstance(args[1], torch.Tensor)
        self.count += made.dim() > 1 if func is torch.ops.aten._to_copy.default else alone
        return made


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("kind", "tower"), [(k, t) for k in MAKE for t in adapters.TOWERS])
def test_lora_has_the_numbers_of_peft_with_fewer_operations(kind, tower, narrow, monkeypatch):
    found = []
    for _ in range(2):
        net, wrapped = prepared(kind, tower, "lora")
        shaken(wrapped)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow), Casts() as casts:
            got = vectors(wrapped)
            (got * torch.linspace(-1, 1, got.numel()).reshape(got.shape)).sum().backward()
        gradients = [net.get_parameter(name).grad for name in sorted(net.adapted.trained)]
        found.append((casts.count, got, *gradients))
        monkeypatch.setattr(lowrank.LowRank, "forward", lora.Linear.forward)
    (fewer, *ours), (more, *theirs) = found
    assert all(map(torch.equal, ours, theirs)) and fewer < more
    layers = sum(isinstance(module, lowrank.LowRank) for module in wrapped.modules())
    assert layers and more - fewer >= (3 if narrow else 1) * layers


@pytest.mark.parametrize("method", adapters.METHODS)
def test_a_copy_is_another_network(method):
    _, wrapped = prepared("vit", "image", method)
    twin = copy.deepcopy(shaken(wrapped))
    expected = vectors(wrapped)
    assert torch.equal(vectors(twin), expected)
    step(twin, 0)
    assert torch.equal(vectors(wrapped), expected) and not torch.equal(vectors(twin), expected)
    assert twin.adapted == wrapped.adapted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_case
def test_on_a_gpu(tmp_path, kind, tower, method):
    _, wrapped = prepared(kind, tower, method)
    expected = vectors(shaken(wrapped))
    adapters.save(wrapped, tmp_path)
    loaded = adapters.load(MAKE[kind]().cuda(), tmp_path)
    assert all(parameter.is_cuda for parameter in loaded.parameters())
    images, texts = (each.cuda() for each in data())
    got = [loaded.encode_image(images, normalize=True), loaded.encode_text(texts, normalize=True)]
    torch.testing.assert_close(torch.cat(got).cpu(), expected, rtol=0, atol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        got = [
            loaded.encode_image(images, normalize=True),
            loaded.encode_text(texts, normalize=True),
        ]
    assert functional.cosine_similarity(torch.cat(got).float().cpu(), expected).min() > 0.98


# bad input


@pytest.mark.parametrize(("kind", "tower", "method"), sorted(IMPOSSIBLE))
def test_a_method_that_a_tower_cannot_take_is_named(kind, tower, method):
    net = MAKE[kind]()
    for act in (adapters.prepare, adapters.formula):
        with pytest.raises(
            ValueError, match=f"the {tower} tower has no .*, so it takes no {method}"
        ):
            act(net, method, SIZE, (tower,))
    assert all(parameter.requires_grad for parameter in net.parameters()), (
        "refused before anything was touched"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"method": "prompt"},
            "unknown method 'prompt': choose one of full, head, lora, dora, adapter, prefix, unip",
        ),
        (
            {"towers": ("picture",)},
            "towers are .*'picture'.*: give a tuple of 'image', 'text' or both",
        ),
        ({"towers": "image"}, "towers are 'image'"),
        ({"towers": ()}, "towers are"),
        ({"towers": ("text", "text")}, "towers are"),
        ({"size": 0}, "size is 0: give a whole number, at least 1"),
        ({"size": 2.0}, "size is 2.0"),
    ],
)
def test_bad_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        adapters.prepare(vit(), **arguments)


def test_an_architecture_without_known_places_is_refused():
    resnet, normed = {"layers": (1, 1, 1, 1), "width": 8}, {"layers": 1, "qk_norm": True}
    for vision in (resnet, normed):
        net = small.vit(text=TEXT, **vision)
        with pytest.raises(ValueError, match="no known place in the image tower .*: choose full"):
            adapters.prepare(net, "lora")
        adapters.prepare(net, "lora", SIZE, ("text",))
