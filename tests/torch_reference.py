"""The published models restated in PyTorch, from their state dicts alone.

In float64, which tells what the golden files' numbers, float32's, would be without rounding.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mg_jax.bench.torch_network import TorchNetwork

ALPHA = 4


class TorchModel:
    """A published model in training, with its parameters as leaves.

    Attributes:
      state: state dict in float64.
    """

    def __init__(self, tensors: dict[str, np.ndarray], groups: int):
        self.state = {name: torch.from_numpy(value).double() for name, value in tensors.items()}
        self._network = TorchNetwork(self.state, ALPHA, groups)

    def loss_and_logits(self, clips_BTHWC: np.ndarray, labels_B: np.ndarray):
        """Mean cross entropy and logits of a batch, by the batch's own statistics."""
        x = torch.from_numpy(clips_BTHWC).double().permute(0, 4, 1, 2, 3).contiguous()
        logits = self._network(x)
        return F.cross_entropy(logits, torch.from_numpy(labels_B).long()), logits
