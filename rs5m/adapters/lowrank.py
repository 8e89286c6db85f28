"""LoRA's linear layer without what changes no number. Chapter: adapters."""

import torch

from rs5m.clip import openclip  # noqa: F401  (before peft, which imports torchvision)

from peft.tuners import lora  # isort: skip


class LowRank(lora.Linear):
    """peft's layer, bit for bit, where the weight is float32 and the scale 1.

    peft widens the input to float32, which autocast narrows again at once, and multiplies by the
    scale: in a step of ViT-B/32 in bf16, over a third of all bytes that are read and written.
    """

    def forward(self, x: torch.Tensor, *inputs, **options) -> torch.Tensor:
        """As peft's."""
        scale = [self.scaling[name] for name in self.active_adapters if name in self.lora_A]
        plain = scale == [1] and self.get_base_layer().weight.dtype == torch.float32
        if inputs or options or self.disable_adapters or self.merged or not plain:
            return super().forward(x, *inputs, **options)
        (name,) = (name for name in self.active_adapters if name in self.lora_A)
        return self.base_layer(x) + self.lora_B[name](self.lora_A[name](x))
