"""Captioners, the cleaning and the ranking of their candidates; BLIP-2 is the real class, tiny and
random.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small import model as small_model
from small import vit
from small_blip2 import WORDS, tiny_blip2

from rs5m import captions, clip, files
from rs5m.captions import Blip2Captioner, blip2, clean, named, nucleus, prefix, rank
from rs5m.captions.prefix import CaptionerSettings
from rs5m.clip import Model

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = (
    "open water",
    "evergreen forest",
    "grassland",
    "urban area",
    "cropland",
    "woody savanna",
    "savanna",
    "snow",
)
TEMPLATES = ("{} seen from space", "satellite picture: {}, from above", "a view of the {}.", "{}")
QUICK = CaptionerSettings(width=32, heads=2, batch_size=64, epochs=2, rare=1)


def some_images(count: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    sizes = [(15, 15), (3, 40), (40, 3), (32, 32), (7, 90)]
    return [generator.integers(0, 256, (*sizes[i % 5], 3), np.uint8) for i in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_blip2(tmp_path_factory.mktemp("blip2"))


@pytest.fixture(scope="module")
def captioner(folder):
    return Blip2Captioner(folder, batch_size=2, quiet=True)


def drawn(logits: np.ndarray, die: float, top_k: int, top_p: float) -> int:
    """The drawn token, spelled out: the best top_k, of those the fewest that reach top_p, then down
    the line.
    """
    order = np.argsort(-logits, kind="stable")[:top_k]
    p = np.exp(logits[order] - logits.max())
    p /= p.sum()
    count = int(np.searchsorted(p.cumsum(), top_p)) + 1
    kept = np.sort(order[:count])
    p = np.exp(logits[kept] - logits.max())
    return int(kept[np.searchsorted(p.cumsum() / p.sum(), die, side="right")])


def test_blip2_equals_sampling_without_a_cache(captioner):
    """The whole text is run through the network again for every token, as no one would."""
    net, images = captioner.net, some_images(3)
    got = captioner.generate(images, 3)
    for image, seed, texts in zip(images, captions.image_seeds(images), got, strict=True):
        inputs = captioner.processor(
            images=[image], input_data_format="channels_last", return_tensors="pt"
        )
        dice = np.random.default_rng(seed).random((3, 50), np.float32)
        for row, text in zip(dice, texts, strict=True):
            tokens = [4, 4, 4, 4, 1]
            for die in row:
                with torch.no_grad():
                    logits = net(
                        pixel_values=inputs.pixel_values, input_ids=torch.tensor([tokens])
                    ).logits[0, -1]
                logits[4] = -torch.inf  # the image's own token
                tokens.append(drawn(logits.double().numpy(), die, 50, 0.95))
                if tokens[-1] == 2:
                    break
            assert captioner.processor.decode(tokens[5:], skip_special_tokens=True) == text
    longest = max(len(text.split()) for texts in got for text in texts)
    assert 17 < longest <= 50, "50 new tokens, not 50 with the image's own"


def test_a_text_depends_on_its_image_and_seed_alone(folder, captioner):
    images = some_images()
    got = captioner.generate(images, 4)
    assert [len(texts) for texts in got] == [4] * 5 and all(
        set(t.split()) <= set(WORDS) for ts in got for t in ts
    )
    assert len({tuple(texts) for texts in got}) == 5 and len(set(got[0])) > 1
    torch.manual_seed(99)
    assert captioner.generate(images[::-1], 4) == got[::-1], (
        "neither position nor torch's own stream"
    )
    assert captioner.generate(images, 2) == [texts[:2] for texts in got]
    greedy = captioner.generate(images, 2, top_k=1)
    assert all(a == b for a, b in greedy) and greedy != [texts[:2] for texts in got]
    other = Blip2Captioner(folder, batch_size=5, quiet=True)
    assert other.generate(images, 4) == got
    other.seed = 1
    assert other.generate(images, 4) != got


def test_the_text_depends_on_the_pixels_not_only_on_the_dice(captioner, monkeypatch):
    monkeypatch.setattr(nucleus, "image_seeds", lambda images, seed: [7] * len(images))
    got = captioner.generate(some_images(), 2)
    assert len({tuple(texts) for texts in got}) > 1


def test_the_vision_tower_sees_an_image_once(captioner):
    seen = []
    hook = captioner.net.vision_model.register_forward_hook(
        lambda module, given, out: seen.append(len(out[0]))
    )
    captioner.generate(some_images(), 6)
    hook.remove()
    assert seen == [2, 2, 1]


def test_half_precision_writes_too(folder, monkeypatch):
    """As on a GPU: weights in float16, but the Q-Former, which transformers keeps in float32."""
    with monkeypatch.context() as patch:
        patch.setattr(blip2, "device", lambda: torch.device("cuda"))
        read = blip2._read_blip2(str(folder))
    monkeypatch.setattr(blip2, "_read_blip2", lambda name: read)
    captioner = Blip2Captioner(folder, quiet=True)
    kinds = {name.split(".")[0]: value.dtype for name, value in captioner.net.state_dict().items()}
    assert (
        kinds["language_model"] == kinds["vision_model"] == torch.float16
        and kinds["qformer"] == torch.float32
    )
    got = captioner.generate(some_images(), 2)
    assert [len(texts) for texts in got] == [2] * 5 and captioner.generate(some_images(), 2) == got


def test_a_wrong_adapter_is_named(folder, tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "target_modules": ["nothing"]})
    )
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match="is not an adapter of this model, train or fetch one for it"
    ):
        Blip2Captioner(folder, tmp_path, quiet=True)


def test_an_adapter_moves_the_vision_tower_alone(folder, captioner, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import Blip2ForConditionalGeneration

    torch.manual_seed(0)
    config = LoraConfig(**captions.LORA, init_lora_weights=False)
    tuned = get_peft_model(Blip2ForConditionalGeneration.from_pretrained(folder), config)
    tuned.save_pretrained(tmp_path)
    adapted = Blip2Captioner(folder, tmp_path, quiet=True)
    before, after = captioner.net.state_dict(), adapted.net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layer = "vision_model.encoder.layers.0.self_attn."
    assert (
        moved == {f"{layer}qkv.weight", f"{layer}projection.weight"}
        and before.keys() == after.keys()
    )
    a, b = (
        load_file(tmp_path / "adapter_model.safetensors")[
            f"base_model.model.{layer}qkv.lora_{x}.weight"
        ]
        for x in "AB"
    )
    torch.testing.assert_close(
        after[f"{layer}qkv.weight"], before[f"{layer}qkv.weight"] + b @ a
    )  # alpha / r = 1
    assert adapted.generate(some_images(), 2) != captioner.generate(some_images(), 2)


def copied(folder, target, **changes):
    """The model's folder again, with these entries of config.json changed."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_code_beside_the_weights_is_never_run(folder, tmp_path):
    evil = copied(
        folder,
        tmp_path / "evil",
        auto_map={"AutoConfig": "evil.C", "AutoModelForImageTextToText": "evil.C"},
    )
    for name in ("tokenizer_config.json", "processor_config.json"):
        entries = json.loads((evil / name).read_text())
        entries["auto_map"] = {"AutoTokenizer": ["evil.C", "evil.C"], "AutoProcessor": "evil.C"}
        (evil / name).write_text(json.dumps(entries))
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n")
    assert Blip2Captioner(evil, quiet=True).generate(some_images(1), 1)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_model_is_named(folder, tmp_path):
    def refused(name, words, **options):
        with pytest.raises(ValueError, match=words) as caught:
            Blip2Captioner(name, **options)
        assert "\n" not in str(caught.value) and str(name) in str(caught.value)

    refused(
        tmp_path / "absent",
        "is not a folder: give one that holds a BLIP-2 model, or a hub name such as Salesforce/",
    )
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "cannot be read as BLIP-2 with safetensors weights")
    refused(copied(folder, tmp_path / "other", model_type="opt"), "its config.json says 'opt'")
    refused(copied(folder, tmp_path / "old", image_token_index=None), "no image_token_index: fetch")
    pointer = copied(folder, tmp_path / "pointer")
    (pointer / "model.safetensors").write_bytes(files.POINTER + b".com/spec/v1\nsize 9\n")
    refused(pointer, "model.safetensors is a pointer of Git LFS, not the file itself")
    pickled = copied(folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    refused(pickled, "safetensors")
    broken = copied(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    refused(broken, "cannot be read as BLIP-2")
    config = json.loads((folder / "config.json").read_text())
    deeper = copied(
        folder, tmp_path / "less", vision_config=config["vision_config"] | {"num_hidden_layers": 2}
    )
    refused(deeper, "its weights lack vision_model.encoder.layers.1")
    with pytest.raises(
        ValueError, match="no adapter_model.safetensors: give a folder that peft saved"
    ):
        Blip2Captioner(folder, tmp_path / "empty")


BAD_IMAGES = [
    ([], 3, "there are no images to caption"),
    (None, 3, "there are no images to caption"),
    (some_images(1), 0, "n is 0: ask for at least one candidate"),
    (some_images(1), 2.0, "n is 2.0"),
    ([some_images(1)[0], "a.jpg"], 1, "image 1 is str of shape .*: give uint8 arrays"),
    ([np.zeros((4, 4, 3))], 1, "image 0 is float64"),
    ([np.zeros((4, 4), np.uint8)], 1, r"image 0 is uint8 of shape \(4, 4\)"),
    ([np.zeros((0, 4, 3), np.uint8)], 1, "image 0"),
    ([None], 1, "image 0 is NoneType"),
]


@pytest.mark.parametrize(("images", "n", "words"), BAD_IMAGES)
def test_a_captioner_names_what_it_cannot_caption(captioner, images, n, words):
    small, _ = prefix.fit(np.ones((4, 3), np.float32), [("a b",)] * 4, QUICK, quiet=True)
    for one in (captioner, small):
        with pytest.raises(ValueError, match=words):
            one.generate(images, n)


@pytest.mark.parametrize(("top_k", "top_p"), [(50, 0.95), (3, 0.95), (50, 0.5), (1, 0.95)])
def test_the_dice_fall_as_the_nucleus_says(top_k, top_p):
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0, 1.0, -4.0, 0.5])
    sample = captions.Nucleus([3], 4000, 2, top_k, top_p)
    drawn = sample(torch.zeros(4000, 1), logits.expand(4000, -1)).argmax(-1)
    p = logits.double().softmax(0).numpy()
    order = np.argsort(-p)[:top_k]
    kept = order[: int(np.searchsorted((p[order] / p[order].sum()).cumsum(), top_p)) + 1]
    expected = np.where(np.isin(np.arange(7), kept), p, 0) / p[kept].sum()
    share = np.bincount(drawn, minlength=7) / 4000
    assert (share[expected == 0] == 0).all() and np.abs(share - expected).max() < 0.03
    again = sample(torch.zeros(4000, 1), logits.expand(4000, -1)).argmax(-1)
    assert top_k == 1 or not torch.equal(drawn, again), "every step has its own dice"


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=80),
    st.integers(0, 2**32),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_every_draw_is_one_token_of_the_nucleus(logits, seed, top_k):
    scores = torch.tensor([logits] * 4)
    got = captions.Nucleus([seed], 4, 1, top_k)(torch.zeros(4, 1), scores)
    assert (got == 0).sum(1).tolist() == [1] * 4 and torch.isinf(got).sum() == 4 * (len(logits) - 1)
    allowed = scores[0].topk(min(top_k, len(logits))).values.min()
    assert (scores.gather(1, got.argmax(1, keepdim=True)) >= allowed).all()


CLEANING = [
    ("a river", "", ""),
    ("  two   spaces ", "", ""),
    ("", "empty", ""),
    (" \n", "empty", ""),
    ("12 34 !!", "empty", ""),
    (None, "empty", ""),
    ("вид на реку", "another script", ""),
    ("河流 a", "another script", ""),
    ("a view of 長江 river", "", ""),
    ("São Tomé, Île-de-France, Łódź", "", ""),
    ("cut of\ufffd", "broken characters", ""),
    ("half \ud800", "broken characters", ""),
    ("A River.", "duplicate", ""),
    ("ａ ｒｉｖｅｒ", "duplicate", ""),
    ("word " * 77, "", ""),
    ("more " * 78, "too long", ""),
]


def test_every_candidate_is_kept_or_dropped_with_a_reason():
    kept, dropped = clean([text for text, _, _ in CLEANING])
    assert kept == [" ".join(text.split()) for text, why, _ in CLEANING if not why]
    assert dropped == [(text, why) for text, why, _ in CLEANING if why]
    assert clean([]) == ([], []) and clean(["a b c"], longest=2).dropped == [("a b c", "too long")]
    with pytest.raises(ValueError, match="candidates is one string"):
        clean("a river")


@given(st.lists(st.text(max_size=12)))
def test_cleaning_loses_nothing_and_is_stable(texts):
    kept, dropped = clean(texts)
    assert len(kept) + len(dropped) == len(texts) and all(why for _, why in dropped)
    assert clean(kept) == (kept, [])


def ranked(a: np.ndarray, b: np.ndarray, keep: tuple[int, int]) -> list[int]:
    """One image, by sorting twice."""
    there = [i for i in range(len(a)) if not np.isnan(a[i])]
    first = sorted(there, key=lambda i: (-a[i], i))[: keep[0]]
    second = sorted(first, key=lambda i: (-b[i], i))[: keep[1]]
    return second + [-1] * (keep[1] - len(second))


@pytest.mark.parametrize("keep", [(10, 5), (3, 1), (1, 1), (30, 25)])
def test_rank_equals_sorting_twice(keep):
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 6, (2, 200, 20)) / 8  # many ties
    gone = generator.random((200, 20)) < generator.random((200, 1))
    a[gone] = b[gone] = np.nan
    got = rank(a, b, keep)
    assert got.shape == (200, keep[1]) and got.dtype.kind == "i"
    assert got.tolist() == [ranked(x, y, keep) for x, y in zip(a, b, strict=True)]


def test_rank_lets_neither_model_choose_alone():
    a, b = np.arange(20.0)[None], -np.arange(20.0)[None]
    assert rank(a, b).tolist() == [[10, 11, 12, 13, 14]], (
        "the best ten of A, and of those the best five of B"
    )
    assert rank(np.zeros((0, 20)), np.zeros((0, 20))).shape == (0, 5)
    assert rank(np.full((1, 2), np.nan), np.full((1, 2), np.nan)).tolist() == [[-1] * 5]


@pytest.mark.parametrize(
    ("a", "b", "keep", "words"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), (2, 1), "give two of shape"),
        (np.zeros(3), np.zeros(3), (2, 1), "give two of shape"),
        (np.full((1, 3), np.inf), np.zeros((1, 3)), (2, 1), "finite numbers or two NaN"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), (2, 1), "absent .NaN. in one model only"),
        (np.zeros((1, 3)), np.zeros((1, 3)), (5, 10), r"keep is \(5, 10\)"),
        (np.zeros((1, 3)), np.zeros((1, 3)), (5, 0), r"keep is \(5, 0\)"),
    ],
)
def test_rank_names_what_is_wrong(a, b, keep, words):
    with pytest.raises(ValueError, match=words):
        rank(a, b, keep)


NAMING = [  # text, known, own, other
    ("a savanna near Paris", ["savanna"], True, False),
    ("a woody savanna", ["savanna"], False, True),
    ("a Woody-Savanna and a savanna", ["woody savanna"], True, True),
    ("open water", ["savanna"], False, True),
    ("opened waters", ["savanna"], False, False),
    ("a picture", ["savanna"], False, False),
    ("", ["savanna"], False, False),
    ("GRASSLAND", ["grassland", "steppe"], True, False),
    ("the steppe", ["grassland", "steppe"], True, False),
]


def test_a_hallucination_is_a_name_of_something_else():
    texts, known, own, other = zip(*NAMING, strict=True)
    got = named(texts, known, CLASSES)
    assert got.own.tolist() == list(own) and got.other.tolist() == list(other)
    places = ["Guinea", "Equatorial Guinea", "Niger", "Nigeria", "Côte d'Ivoire"]
    got = named(
        ["forest in Equatorial Guinea", "Nigeria", "côte d’ivoire", "Guinea"],
        [["Guinea"]] * 4,
        places,
    )
    assert got.other.tolist() == [True, True, True, False] and got.own.tolist() == [
        False,
        False,
        False,
        True,
    ]
    assert not len(named([], [], CLASSES).own)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a"], [], CLASSES), "1 texts and 0 lists"),
        ((["a"], ["savanna"], CLASSES), "give one list for each text"),
        ((["a"], [["savanna"]], "savanna"), "give one list for each text"),
        ((["a"], [[]], []), "no name to look for"),
    ],
)
def test_naming_names_what_is_wrong(arguments, words):
    with pytest.raises(ValueError, match=words):
        named(*arguments)


def some_vectors(count: int, seed: int = 1) -> tuple[np.ndarray, list[tuple[str, ...]], list[str]]:
    """Noisy vectors around a centre for each class, captions by template, and the classes."""
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), 48))
    names = [CLASSES[i % len(CLASSES)] for i in range(count)]
    noise = np.random.default_rng(seed).normal(size=(count, 48))
    vectors = (centres[np.arange(count) % len(CLASSES)] + 0.5 * noise).astype(np.float32) * 30
    return vectors, [tuple(text.format(name) for text in TEMPLATES) for name in names], names


@pytest.fixture(scope="module")
def small():
    vectors, texts, _ = some_vectors(640)
    return prefix.fit(
        vectors,
        texts,
        CaptionerSettings(width=64, batch_size=64, epochs=16, learning_rate=4e-3, rare=1),
        quiet=True,
    )


@pytest.mark.slow
def test_the_prefix_captioner_learns_to_name_what_it_sees(small):
    captioner, losses = small
    vectors, texts, names = some_vectors(160, seed=2)
    got = captioner.write(vectors, 5, quiet=True)
    own = [[name in text for text in row] for name, row in zip(names, got, strict=True)]
    assert np.mean(own) > 0.95 and np.mean(losses[-5:]) < 0.6 < 2 < losses[0]
    flat = [text for row in got for text in row]
    known = [[name] for name in names for _ in range(5)]
    assert named(flat, known, CLASSES).other.mean() < 0.05
    right = [text in of for of, row in zip(texts, got, strict=True) for text in row]
    assert np.mean(right) > 0.85, "whole captions, punctuation included"
    counts = [sum(text.startswith(start) for text in flat) for start in ("satellite", "a view")]
    assert min(counts) > 80, "samples, not one sentence for all"
    shuffled = captioner.write(vectors[np.random.default_rng(0).permutation(160)], 1, quiet=True)
    assert np.mean([name in row[0] for name, row in zip(names, shuffled, strict=True)]) < 0.4, (
        "it looks at the image"
    )


@torch.no_grad()
def uncached(captioner, vector: np.ndarray, dice: np.ndarray, top_k: int) -> str:
    """The whole prefix and text run through the decoder again for every word."""
    embeds, ids = captioner.net.prefix(torch.from_numpy(vector)[None]), []
    for die in dice:
        logits = captioner.net.gpt(inputs_embeds=embeds, use_cache=False).logits[0, -1]
        ids.append(drawn(logits.double().numpy(), die, top_k, 0.95))
        embeds = torch.cat(
            [embeds, captioner.net.gpt.transformer.wte(torch.tensor([[ids[-1]]]))], 1
        )
        if ids[-1] == prefix.END:
            break
    return captioner.text(ids)


@pytest.mark.parametrize("top_k", [1, 50])
@pytest.mark.parametrize("trained", [True, False])
def test_the_cache_changes_no_text(small, top_k, trained):
    captioner = small[0]
    if not trained:  # nearly uniform choices: long, wild texts
        captioner = prefix.PrefixCaptioner(
            None, captioner.vocabulary, 48, 12, replace(captioner.settings, layers=3)
        )
    vectors = some_vectors(6, seed=3)[0]
    got = captioner.write(vectors, 2, top_k=top_k, quiet=True)
    for i, texts in enumerate(got):
        dice = np.random.default_rng(i).random((2, captioner.places), np.float32)
        assert texts == [uncached(captioner, vectors[i], row, top_k) for row in dice]


def test_neither_batch_nor_n_nor_company_changes_a_text(small):
    captioner, vectors = small[0], some_vectors(20, seed=4)[0]
    got = captioner.write(vectors, 4, quiet=True)
    assert captioner.write(vectors, 4, batch_size=3, quiet=True) == got
    assert captioner.write(vectors, 2, quiet=True) == [texts[:2] for texts in got]
    assert captioner.write(vectors[10:], 4, seeds=range(10, 20), quiet=True) == got[10:]
    assert captioner.write(vectors, 4, seeds=range(100, 120), quiet=True) != got


def test_the_same_seed_gives_the_same_captioner(tmp_path):
    vectors, texts, _ = some_vectors(128)
    made = [prefix.fit(vectors, texts, replace(QUICK, seed=seed), quiet=True) for seed in (3, 3, 4)]
    assert made[0][1] == made[1][1] != made[2][1] and len(made[0][1]) == 4
    first, second, third = [one.net.state_dict() for one, _ in made]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    made[0][0].save(tmp_path / "a" / "b")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "model.safetensors",
        "captioner.json",
    }
    loaded = prefix.load(tmp_path / "a" / "b")
    assert loaded.write(vectors[:9], 3, quiet=True) == made[1][0].write(vectors[:9], 3, quiet=True)


def test_words_are_tied_whatever_transformers_does_at_the_time(tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    monkeypatch.setattr(PreTrainedModel, "tie_weights", lambda *_, **__: None)
    captioner, _ = prefix.fit(np.eye(4, dtype=np.float32), [("a b",)] * 4, QUICK, quiet=True)
    gpt = captioner.net.gpt
    assert gpt.lm_head.weight is gpt.transformer.wte.weight
    captioner.save(tmp_path)
    monkeypatch.undo()
    loaded = prefix.load(tmp_path)
    assert loaded.write(np.eye(4, dtype=np.float32), 2) == captioner.write(
        np.eye(4, dtype=np.float32), 2
    )


def test_captions_with_rare_words_are_left_out_and_counted(capsys):
    texts = [
        ("a river near Ur", "a river"),
        ("a lake, old", "a  lake"),
        ("", "a river"),
        ("a lake " * 40,),
    ]
    captioner, losses = prefix.fit(
        np.eye(4, dtype=np.float32), texts, replace(QUICK, rare=2, batch_size=8), quiet=True
    )
    assert "4 of 7 captions left out" in capsys.readouterr().out
    assert captioner.vocabulary == ["a", "lake", "river"] or set(captioner.vocabulary) == {
        "a",
        "river",
    }
    got = captioner.write(np.eye(4, dtype=np.float32), 20, quiet=True)
    assert {word for row in got for text in row for word in text.split()} <= {"a", "river", "lake"}


@pytest.mark.parametrize(
    "text", [*(t.format("woody savanna") for t in TEMPLATES), "Côte d’Ivoire, St. Moritz-Bad?"]
)
def test_a_caption_survives_its_tokens(text):
    captioner, _ = prefix.fit(np.ones((1, 3), np.float32), [(text,)], QUICK, quiet=True)
    ids = captioner.tokens(text)
    assert ids[-1] == prefix.END and captioner.text(ids) == text == captioner.text(ids[:-1])
    assert captioner.tokens("never seen") is None and captioner.tokens("") is None


def tiny_clip() -> Model:
    return small_model(vit(dim=16, layers=1, width=32, head_width=16))


def test_both_captioners_follow_one_protocol(captioner):
    model, images = tiny_clip(), some_images()
    vectors = clip.encode_images(model, images, quiet=True)
    small, _ = prefix.fit(
        vectors, [(f"a {w} land", w) for w in WORDS[:5]], QUICK, model, quiet=True
    )
    for one in (captioner, small):
        got = one.generate(images, 3)
        assert [[type(text) for text in texts] for texts in got] == [[str] * 3] * 5
        assert one.generate(images[2:], 3) == got[2:], (
            "the text belongs to the image, not to its position"
        )


@pytest.mark.parametrize(
    ("vectors", "texts", "words"),
    [
        (np.ones((2, 3)), [("a",)], "2 vectors and 1 lists"),
        (np.ones((1, 3)), ["a"], "give one list for each vector"),
        (np.ones((1, 3)), [("a b",)], "none of 1 captions is made of words seen 2 times"),
        (np.ones((0, 3)), [], "none of 0 captions"),
        (np.full((1, 3), np.nan), [("a b",)], "are not finite: give finite numbers"),
        (np.ones(1), [("a b",)], r"vectors have shape \(1,\)"),
    ],
)
def test_training_names_what_is_wrong(vectors, texts, words):
    with pytest.raises(ValueError, match=words):
        prefix.fit(vectors, texts, replace(QUICK, rare=2), quiet=True)


def test_a_small_captioner_names_what_it_cannot_read(small, tmp_path):
    captioner = small[0]
    for vectors, n, words in (
        (np.ones((2, 47)), 1, r"this captioner reads \(images, 48\)"),
        (np.full((2, 48), np.nan), 1, "not finite"),
        (np.ones((0, 48)), 1, "at least one image"),
        (np.ones((1, 48)), 0, "at least one caption"),
    ):
        with pytest.raises(ValueError, match=words):
            captioner.write(vectors, n)
    with pytest.raises(ValueError, match="2 seeds for 1 images: give one for each image"):
        captioner.write(np.ones((1, 48)), 1, seeds=[0, 1])
    with pytest.raises(ValueError, match="has no image encoder: load it with the model"):
        captioner.generate(some_images(1), 1)
    for damage in ("captioner.json", "model.safetensors"):
        captioner.save(tmp_path)
        (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:50])
        with pytest.raises(
            ValueError, match=re.escape(str(tmp_path)) + " holds no whole captioner.*train it again"
        ):
            prefix.load(tmp_path)
    with pytest.raises(ValueError, match="absent holds no whole captioner"):
        prefix.load(tmp_path / "absent")
