"""What a step takes, counted on networks without numbers, and the chunk that fits."""

from dataclasses import replace

import pytest
import torch
from small_tuning import tiny

from rs5m.book import domain
from rs5m.clip import Model, open_clip
from rs5m.tune import Settings, memory

GIB = 2**30
FULL = Settings(method="full", lock_text=False, precision="float32")


def without_numbers(name: str) -> Model:
    config = open_clip.get_model_config(name)
    config.pop("custom_text", None)
    with torch.device("meta"):
        net = open_clip.CLIP(**config)
    return Model(net, None, (0.5,) * 3, (0.5,) * 3, 224)


def really_saved(model: Model, count: int) -> int:
    """Bytes that a real graph of both features keeps, of `count` pairs."""
    net, held = model.net.requires_grad_(True), {}
    own = {t.data_ptr() for t in (*net.parameters(), *net.buffers())}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image = net.encode_image(torch.zeros(count, 3, 32, 32))
        text = net.encode_text(torch.ones(count, 16, dtype=torch.long))
        kept = [torch.nn.functional.normalize(vectors, dim=-1) for vectors in (image, text)]
    assert kept
    return sum(storage.nbytes() for storage in held.values())


def test_a_graph_without_numbers_keeps_what_a_real_one_keeps():
    model = tiny()
    counted = memory.need(model, FULL, context=16)
    pair = (really_saved(tiny(), 3) - really_saved(tiny(), 1)) // 2
    assert counted.pair == pytest.approx(pair, rel=0.02) and counted.pair > 10_000
    shorter = memory.need(model, FULL, context=8)
    assert 0.5 * counted.pair < shorter.pair < 0.95 * counted.pair
    numbers = [*model.net.parameters(), *model.net.buffers()]
    weights = sum(t.numel() * t.element_size() for t in numbers)
    trained = sum(p.numel() for p in model.net.parameters())
    assert counted.standing == weights + 12 * trained
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in model.net.parameters())
    assert not hasattr(model.net, "adapted"), "the network itself is left alone"


@pytest.mark.slow
def test_the_paper_s_batch_of_600_needs_chunks():
    """ViT-H-14 in bf16: near 0.4 GiB a pair, 250 GiB undivided, which no GPU has."""
    counted = memory.need(without_numbers("ViT-H-14"), replace(FULL, precision="bf16"))
    assert 200 * GIB < counted.step(600) < 300 * GIB
    chunk = counted.chunk(600, 80 * GIB)
    assert 60 < chunk < 100
    free = memory.SHARE * 80 * GIB - counted.step(600, 1) + counted.pair
    assert chunk * memory.PEAK * counted.pair <= free < (chunk + 1) * memory.PEAK * counted.pair
    assert counted.chunk(600, 600 * GIB) == 0, "undivided where it fits"
    with pytest.raises(ValueError, match="needs .* GiB even a pair at a time, the device has 16.0"):
        counted.chunk(600, 16 * GIB)


def test_a_domain_model_takes_the_chunk_of_the_gpu_that_is_there(monkeypatch, capsys):
    chosen = replace(FULL, batch_size=32)
    assert domain.chunked(tiny(), chosen) is chosen, "a CPU"
    counted = memory.need(tiny(), chosen)
    for pairs, chunk in ((7.5, 7), (100, 0)):
        rest = counted.step(32, 1) - counted.pair
        here = int((rest + pairs * memory.PEAK * counted.pair) / memory.SHARE)
        monkeypatch.setattr(memory, "of_device", lambda here=here: here)
        assert domain.chunked(tiny(), chosen).chunk == chunk
        assert ("7 of 32 pairs at once" in capsys.readouterr().out) is bool(chunk)
    given = replace(chosen, chunk=3)
    assert domain.chunked(tiny(), given) is given
