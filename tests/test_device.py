"""What is decided by the device, without one."""

import pytest
import torch

from rs5m import device

KINDS = {
    ("cpu", None): "float32",
    ("mps", None): "float32",
    ("cuda", (7, 5)): "fp16",
    ("cuda", (8, 0)): "bf16",
    ("cuda", (9, 0)): "bf16",
}


@pytest.mark.parametrize(("kind", "capability"), KINDS)
def test_the_precision_of_auto(monkeypatch, capsys, kind, capability):
    monkeypatch.setattr(device, "_chosen", torch.device(kind))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    expected = KINDS[kind, capability]
    assert device.precision() == expected
    for chosen in ("float32", "bf16", "fp16"):
        assert device.precision(chosen) == chosen
        device.announce(chosen)
    device.announce("auto")
    said = "precision: fp16, for a GPU of capability 7.5 has no bf16\n"
    assert capsys.readouterr().out == (said if expected == "fp16" else "")
