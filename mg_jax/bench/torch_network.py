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
        pathways = [self._stem(value, pathway) for pathway, value in enumerate(inputs)]
        for stage in (2, 3, 4, 5):
            pathways = self._fuse(pathways, f"s{stage - 1}_fuse")
            for pathway in range(len(pathways)):
                pathways[pathway] = self._stage(pathways[pathway], f"s{stage}.pathway{pathway}")
        features_NC = torch.cat([value.mean((2, 3, 4)) for value in pathways], 1)
        head = "head.projection"
        features_NC = F.dropout(features_NC, self.dropout)
        return F.linear(features_NC, self.state[f"{head}.weight"], self.state[f"{head}.bias"])

    def _stage(self, x_NCTHW, name):
        j = 0
        while f"{name}_res{j}.branch2.a.weight" in self.state:
            x_NCTHW = self._non_local(self._block(x_NCTHW, f"{name}_res{j}"), f"{name}_nonlocal{j}")
            j += 1
        return x_NCTHW

    def _conv(self, x_NCTHW, name, stride=(1, 1, 1)):
        weight = self.state[f"{name}.weight"]
        padding = tuple(k // 2 for k in weight.shape[2:])
        return F.conv3d(x_NCTHW, weight, self.state.get(f"{name}.bias"), stride, padding)

    def _bn(self, x_NCTHW, name):
        leaves = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, bias = (self.state[f"{name}.{leaf}"] for leaf in leaves)
        if self.groups == 1:
            return F.batch_norm(
                x_NCTHW, mean, var, scale, bias, training=True, momentum=0.1, eps=1e-5
            )
        N, C, *THW = x_NCTHW.shape
        grouped = x_NCTHW.view(N // self.groups, C * self.groups, *THW)
        normed = F.batch_norm(grouped, None, None, training=True, eps=1e-5).view(N, C, *THW)
        return normed * scale.view(1, -1, 1, 1, 1) + bias.view(1, -1, 1, 1, 1)

    def _stem(self, x_NCTHW, pathway):
        name = f"s1.pathway{pathway}_stem"
        x_NCTHW = F.relu(self._bn(self._conv(x_NCTHW, f"{name}.conv", (1, 2, 2)), f"{name}.bn"))
        return F.max_pool3d(x_NCTHW, (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def _fuse(self, pathways, name):
        if f"{name}.bn.weight" not in self.state:
            return pathways
        fused = self._conv(pathways[1], f"{name}.conv_f2s", (self.alpha, 1, 1))
        return [torch.cat([pathways[0], F.relu(self._bn(fused, f"{name}.bn"))], 1), pathways[1]]

    def _block(self, x_NCTHW, name):
        stride = (1, 2, 2) if name.endswith("res0") and not name.startswith("s2") else (1, 1, 1)
        branch = f"{name}.branch2"
        y_NCTHW = F.relu(self._bn(self._conv(x_NCTHW, f"{branch}.a"), f"{branch}.a_bn"))
        y_NCTHW = F.relu(self._bn(self._conv(y_NCTHW, f"{branch}.b", stride), f"{branch}.b_bn"))
        y_NCTHW = self._bn(self._conv(y_NCTHW, f"{branch}.c"), f"{branch}.c_bn")
        if f"{name}.branch1.weight" in self.state:
            x_NCTHW = self._bn(self._conv(x_NCTHW, f"{name}.branch1", stride), f"{name}.branch1_bn")
        return F.relu(x_NCTHW + y_NCTHW)

    def _non_local(self, x_NCTHW, name):
        if f"{name}.bn.weight" not in self.state:
            return x_NCTHW
        pooled_NCTHW = F.max_pool3d(x_NCTHW, (1, 2, 2))
        theta_NCI = self._conv(x_NCTHW, f"{name}.conv_theta").flatten(2)
        phi_NCJ, g_NCJ = (
            self._conv(pooled_NCTHW, f"{name}.conv_{leaf}").flatten(2) for leaf in ("phi", "g")
        )
        affinity_NIJ = torch.einsum("nci,ncj->nij", theta_NCI, phi_NCJ) / phi_NCJ.shape[2]
        y_NCI = torch.einsum("nij,ncj->nci", affinity_NIJ, g_NCJ)
        N, _, *THW = x_NCTHW.shape
        y_NCTHW = y_NCI.view(N, -1, *THW)
        return x_NCTHW + self._bn(self._conv(y_NCTHW, f"{name}.conv_out"), f"{name}.bn")
