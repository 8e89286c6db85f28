"""What is decided by the device, without one."""

import pytest
import torch
from small_tuning import QUICK, memory, tiny

from rs5m import device, tune

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
        device.announce(chosen, 1)
    device.announce("auto", 1)
    said = "precision: fp16, for a GPU of capability 7.5 has no bf16\n"
    assert capsys.readouterr().out == (said if expected == "fp16" else "")


@pytest.mark.parametrize(("kind", "parameters"), [("cpu", 151e6), ("cpu", 26e6), ("mps", 151e6)])
def test_a_large_network_on_a_cpu_is_said(monkeypatch, capsys, kind, parameters):
    monkeypatch.setattr(device, "_chosen", torch.device(kind))
    device.announce("auto", int(parameters))
    said = capsys.readouterr().out
    if (kind, parameters) == ("cpu", 151e6):
        assert said.count("\n") == 1 and "151 M parameters is tuned on the CPU" in said
        assert "GPU" in said
    else:
        assert not said


@pytest.mark.parametrize(("kind", "says"), [("cpu", "a minute or two"), ("cuda", "up to a minute")])
def test_a_step_that_compiles_is_said(monkeypatch, capsys, kind, says):
    monkeypatch.setattr(device, "_chosen", torch.device(kind))
    device.announce("bf16", 1, compiled=True)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"compiles the towers, {says} without" in said


def test_a_run_is_told_before_its_first_step(monkeypatch, capsys):
    monkeypatch.setattr(device, "_chosen", torch.device("cpu"))
    monkeypatch.setattr(device, "LARGE", 10)
    tune.fit(tiny(), memory(), QUICK)
    assert capsys.readouterr().out.startswith("This network of ")
