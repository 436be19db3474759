"""The published models restated in PyTorch, from their state dicts alone.

In float64, which tells what the golden files' numbers, float32's, would be without rounding.
"""

import numpy as np
import torch
import torch.nn.functional as F

BLOCKS = (3, 4, 6, 3)
ALPHA = 4
SCALE_BIAS = ("weight", "bias")


class TorchModel:
    """A ResNet-50 of one or two pathways in training, with its parameters as leaves.

    Attributes:
      state: state dict in float64.
      groups: sub-batches; clip i is in group i mod groups.
    """

    def __init__(self, tensors: dict[str, np.ndarray], groups: int):
        self.state = {name: torch.from_numpy(value).double() for name, value in tensors.items()}
        self.groups = groups
        for name, tensor in self.state.items():
            tensor.requires_grad_("running" not in name)

    def loss_and_logits(self, clips_BTHWC: np.ndarray, labels_B: np.ndarray):
        """Mean cross entropy and logits of a batch, by the batch's own statistics."""
        x = torch.from_numpy(clips_BTHWC).double().permute(0, 4, 1, 2, 3).contiguous()
        inputs = [x]
        if "s1_fuse.bn.weight" in self.state:
            slow = torch.linspace(0, x.shape[2] - 1, x.shape[2] // ALPHA).long()
            inputs = [x[:, :, slow], x]
        x = [self._stem(value, pathway) for pathway, value in enumerate(inputs)]
        for stage, blocks in enumerate(BLOCKS, 2):
            x = self._fuse(x, f"s{stage - 1}_fuse")
            for pathway in range(len(x)):
                for j in range(blocks):
                    x[pathway] = self._block(x[pathway], f"s{stage}.pathway{pathway}_res{j}")
                    x[pathway] = self._non_local(
                        x[pathway], f"s{stage}.pathway{pathway}_nonlocal{j}"
                    )
        features = torch.cat([value.mean((2, 3, 4)) for value in x], 1)
        head = "head.projection"
        logits = F.linear(features, self.state[f"{head}.weight"], self.state[f"{head}.bias"])
        return F.cross_entropy(logits, torch.from_numpy(labels_B).long()), logits

    def _conv(self, x, name, stride=(1, 1, 1)):
        weight = self.state[f"{name}.weight"]
        padding = tuple(k // 2 for k in weight.shape[2:])
        return F.conv3d(x, weight, self.state.get(f"{name}.bias"), stride, padding)

    def _bn(self, x, name):
        N, C = x.shape[:2]
        grouped = x.view(N // self.groups, C * self.groups, *x.shape[2:])
        normed = F.batch_norm(grouped, None, None, training=True, eps=1e-5).view(N, C, *x.shape[2:])
        scale, bias = (self.state[f"{name}.{leaf}"].view(1, -1, 1, 1, 1) for leaf in SCALE_BIAS)
        return normed * scale + bias

    def _stem(self, x, pathway):
        name = f"s1.pathway{pathway}_stem"
        x = F.relu(self._bn(self._conv(x, f"{name}.conv", (1, 2, 2)), f"{name}.bn"))
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def _fuse(self, x, name):
        if f"{name}.bn.weight" not in self.state:
            return x
        fused = self._conv(x[1], f"{name}.conv_f2s", (ALPHA, 1, 1))
        return [torch.cat([x[0], F.relu(self._bn(fused, f"{name}.bn"))], 1), x[1]]

    def _block(self, x, name):
        stride = (1, 2, 2) if name.endswith("res0") and not name.startswith("s2") else (1, 1, 1)
        branch = f"{name}.branch2"
        y = F.relu(self._bn(self._conv(x, f"{branch}.a"), f"{branch}.a_bn"))
        y = F.relu(self._bn(self._conv(y, f"{branch}.b", stride), f"{branch}.b_bn"))
        y = self._bn(self._conv(y, f"{branch}.c"), f"{branch}.c_bn")
        if f"{name}.branch1.weight" in self.state:
            x = self._bn(self._conv(x, f"{name}.branch1", stride), f"{name}.branch1_bn")
        return F.relu(x + y)

    def _non_local(self, x, name):
        if f"{name}.bn.weight" not in self.state:
            return x
        pooled = F.max_pool3d(x, (1, 2, 2))
        theta = self._conv(x, f"{name}.conv_theta").flatten(2)
        phi, g = (self._conv(pooled, f"{name}.conv_{leaf}").flatten(2) for leaf in ("phi", "g"))
        affinity = torch.einsum("nct,ncp->ntp", theta, phi) / phi.shape[2]
        y = torch.einsum("ntp,ncp->nct", affinity, g).view(x.shape[0], -1, *x.shape[2:])
        return x + self._bn(self._conv(y, f"{name}.conv_out"), f"{name}.bn")
