"""SlowFast, I3D and I3D-NL in plain PyTorch, from the published models' tensors alone.

It shares no code with the networks in `mg_jax/models`, so those can be held to it.
"""

import torch
import torch.nn.functional as F


class TorchNetwork:
    """A ResNet of one or two pathways in training, with its parameters as leaves.

    Attributes:
      state: tensors by the published names, on one device.
      alpha: frames of the fast pathway per frame of the slow one.
      groups: sets of batch-norm statistics of a batch; clip i is in group i mod groups. With one
        group running statistics follow, with a momentum of 0.1.
      dropout: before the classifier.
    """

    def __init__(
        self, state: dict[str, torch.Tensor], alpha: int, groups: int = 1, dropout: float = 0.0
    ):
        self.state, self.alpha, self.groups, self.dropout = state, alpha, groups, dropout
        for name, tensor in state.items():
            tensor.requires_grad_("running" not in name)

    def __call__(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Logits of a batch, by the batch's own statistics."""
        inputs = [x_NCTHW]
        if "s1_fuse.bn.weight" in self.state:
            frames = x_NCTHW.shape[2]
            slow = torch.linspace(0, frames - 1, frames // self.alpha, device=x_NCTHW.device).long()
            inputs = [x_NCTHW[:, :, slow], x_NCTHW]
        x = [self._stem(value, pathway) for pathway, value in enumerate(inputs)]
        for stage in (2, 3, 4, 5):
            x = self._fuse(x, f"s{stage - 1}_fuse")
            for pathway in range(len(x)):
                x[pathway] = self._stage(x[pathway], f"s{stage}.pathway{pathway}")
        features = torch.cat([value.mean((2, 3, 4)) for value in x], 1)
        head = "head.projection"
        features = F.dropout(features, self.dropout)
        return F.linear(features, self.state[f"{head}.weight"], self.state[f"{head}.bias"])

    def _stage(self, x, name):
        j = 0
        while f"{name}_res{j}.branch2.a.weight" in self.state:
            x = self._non_local(self._block(x, f"{name}_res{j}"), f"{name}_nonlocal{j}")
            j += 1
        return x

    def _conv(self, x, name, stride=(1, 1, 1)):
        weight = self.state[f"{name}.weight"]
        padding = tuple(k // 2 for k in weight.shape[2:])
        return F.conv3d(x, weight, self.state.get(f"{name}.bias"), stride, padding)

    def _bn(self, x, name):
        leaves = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, bias = (self.state[f"{name}.{leaf}"] for leaf in leaves)
        if self.groups == 1:
            return F.batch_norm(x, mean, var, scale, bias, training=True, momentum=0.1, eps=1e-5)
        N, C = x.shape[:2]
        grouped = x.view(N // self.groups, C * self.groups, *x.shape[2:])
        normed = F.batch_norm(grouped, None, None, training=True, eps=1e-5).view(N, C, *x.shape[2:])
        return normed * scale.view(1, -1, 1, 1, 1) + bias.view(1, -1, 1, 1, 1)

    def _stem(self, x, pathway):
        name = f"s1.pathway{pathway}_stem"
        x = F.relu(self._bn(self._conv(x, f"{name}.conv", (1, 2, 2)), f"{name}.bn"))
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def _fuse(self, x, name):
        if f"{name}.bn.weight" not in self.state:
            return x
        fused = self._conv(x[1], f"{name}.conv_f2s", (self.alpha, 1, 1))
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
