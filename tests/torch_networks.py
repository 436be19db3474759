"""Networks of three code bases restated in PyTorch, each with the names of its own modules.

From PySlowFast's `video_model_builder.py` and `nonlocal_helper.py`, PyTorchVideo's `resnet.py` and
`slowfast.py`, and mmaction2's `resnet3d.py`, `resnet3d_slowfast.py` and `c2d.py`. Weights are
random; networks have their depth and an eighth of their width.
"""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, THIN, CLASSES = 8, 1, 10
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
I3D_KERNELS = ([3], [3, 1], [3, 1], [1, 3])
SLOW_KERNELS = ([1], [1], [3], [3])
FAST_KERNELS = ([3], [3], [3], [3])
C2D_KERNELS = ([1], [1], [1], [1])


def randomised(network, seed=0):
    """A network for inference with random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
        elif name.endswith((".weight", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def conv(inputs, outputs, kernel, stride=(1, 1, 1), bias=False):
    padding = [k // 2 for k in kernel]
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=bias)


def kernels_of(depth, stages):
    """The kernel size over time of every block."""
    return [(k * n)[:n] for k, n in zip(stages, BLOCKS[depth], strict=True)]


def spread(x, alpha):
    """PySlowFast's `pack_pathway_output`: the slow pathway's frames."""
    frames = torch.linspace(0, x.shape[2] - 1, x.shape[2] // alpha).long()
    return x[:, :, frames]


class PySlowFastBlock(nn.Module):
    def __init__(self, inputs, inner, frames, stride):
        super().__init__()
        if inputs != 4 * inner or stride != 1:
            self.branch1 = conv(inputs, 4 * inner, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = nn.BatchNorm3d(4 * inner)
        self.branch2 = nn.ModuleDict(
            {
                "a": conv(inputs, inner, (frames, 1, 1)),
                "a_bn": nn.BatchNorm3d(inner),
                "b": conv(inner, inner, (1, 3, 3), (1, stride, stride)),
                "b_bn": nn.BatchNorm3d(inner),
                "c": conv(inner, 4 * inner, (1, 1, 1)),
                "c_bn": nn.BatchNorm3d(4 * inner),
            }
        )

    def forward(self, x):
        m = self.branch2
        y = F.relu(m["a_bn"](m["a"](x)))
        y = F.relu(m["b_bn"](m["b"](y)))
        y = m["c_bn"](m["c"](y))
        if hasattr(self, "branch1"):
            x = self.branch1_bn(self.branch1(x))
        return F.relu(x + y)


class PySlowFastNonLocal(nn.Module):
    """With softmax, as I3D_NLN_8x8_R50 has it."""

    def __init__(self, channels):
        super().__init__()
        for name in ("theta", "phi", "g"):
            setattr(self, f"conv_{name}", conv(channels, channels // 2, (1, 1, 1), bias=True))
        self.conv_out = conv(channels // 2, channels, (1, 1, 1), bias=True)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, x):
        pooled = F.max_pool3d(x, (1, 2, 2), (1, 2, 2))
        theta = self.conv_theta(x).flatten(2)
        phi, g = self.conv_phi(pooled).flatten(2), self.conv_g(pooled).flatten(2)
        affinity = torch.einsum("nct,ncp->ntp", theta, phi) * theta.shape[1] ** -0.5
        y = torch.einsum("ntg,ncg->nct", affinity.softmax(2), g)
        y = y.view(x.shape[0], -1, *x.shape[2:])
        return x + self.bn(self.conv_out(y))


class PySlowFastResNet(nn.Module):
    """ARCH i3d or c2d_nopool, as `stem` and `kernels` say."""

    def __init__(self, stem, kernels, pool, non_local=()):
        super().__init__()
        stem = {"conv": conv(3, WIDTH, (stem, 7, 7), (1, 2, 2)), "bn": nn.BatchNorm3d(WIDTH)}
        self.s1 = nn.ModuleDict({"pathway0_stem": nn.ModuleDict(stem)})
        inputs = WIDTH
        for i, frames in enumerate(kernels_of(50, kernels)):
            stage, inner = nn.ModuleDict(), WIDTH * 2**i
            for j, size in enumerate(frames):
                block = PySlowFastBlock(inputs, inner, size, 2 if i and not j else 1)
                stage[f"pathway0_res{j}"] = block
                inputs = 4 * inner
                if (i, j) in non_local:
                    stage[f"pathway0_nonlocal{j}"] = PySlowFastNonLocal(inputs)
            setattr(self, f"s{i + 2}", stage)
        self.pathway0_pool = nn.MaxPool3d((pool, 1, 1), (pool, 1, 1))
        self.head = nn.ModuleDict({"projection": nn.Linear(inputs, CLASSES)})

    def forward(self, x):
        stem = self.s1["pathway0_stem"]
        x = F.max_pool3d(F.relu(stem["bn"](stem["conv"](x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for i, stage in enumerate((self.s2, self.s3, self.s4, self.s5)):
            for module in stage.values():
                x = module(x)
            x = self.pathway0_pool(x) if i == 0 else x
        return self.head["projection"](x.mean((2, 3, 4)))


class PyTorchVideoStem(nn.Module):
    def __init__(self, width, frames):
        super().__init__()
        self.conv = conv(3, width, (frames, 7, 7), (1, 2, 2))
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x):
        return F.max_pool3d(F.relu(self.norm(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class PyTorchVideoBlock(nn.Module):
    def __init__(self, inputs, inner, frames, stride):
        super().__init__()
        self.branch1_conv = None
        if inputs != 4 * inner or stride != 1:
            self.branch1_conv = conv(inputs, 4 * inner, (1, 1, 1), (1, stride, stride))
            self.branch1_norm = nn.BatchNorm3d(4 * inner)
        self.branch2 = nn.Module()
        self.branch2.conv_a = conv(inputs, inner, (frames, 1, 1))
        self.branch2.norm_a = nn.BatchNorm3d(inner)
        self.branch2.conv_b = conv(inner, inner, (1, 3, 3), (1, stride, stride))
        self.branch2.norm_b = nn.BatchNorm3d(inner)
        self.branch2.conv_c = conv(inner, 4 * inner, (1, 1, 1))
        self.branch2.norm_c = nn.BatchNorm3d(4 * inner)

    def forward(self, x):
        y = F.relu(self.branch2.norm_a(self.branch2.conv_a(x)))
        y = F.relu(self.branch2.norm_b(self.branch2.conv_b(y)))
        y = self.branch2.norm_c(self.branch2.conv_c(y))
        shortcut = x if self.branch1_conv is None else self.branch1_norm(self.branch1_conv(x))
        return F.relu(shortcut + y)


class PyTorchVideoStage(nn.Module):
    def __init__(self, inputs, inner, frames, stride):
        super().__init__()
        self.res_blocks = nn.ModuleList(
            PyTorchVideoBlock(4 * inner if j else inputs, inner, size, 1 if j else stride)
            for j, size in enumerate(frames)
        )

    def forward(self, x):
        for block in self.res_blocks:
            x = block(x)
        return x


class PyTorchVideoHead(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.proj = nn.Linear(features, CLASSES)

    def forward(self, x):
        return self.proj(x)


class PyTorchVideoResNet(nn.Module):
    """`create_resnet`; its `stage1_pool` is a block of its own."""

    def __init__(self, stem, kernels, pool):
        super().__init__()
        blocks, inputs = [PyTorchVideoStem(WIDTH, stem)], WIDTH
        for i, frames in enumerate(kernels_of(50, kernels)):
            inner = WIDTH * 2**i
            blocks.append(PyTorchVideoStage(inputs, inner, frames, 2 if i else 1))
            inputs = 4 * inner
            if i == 0 and pool > 1:
                blocks.append(nn.MaxPool3d((pool, 1, 1), (pool, 1, 1)))
        self.blocks = nn.ModuleList([*blocks, PyTorchVideoHead(inputs)])

    def forward(self, x):
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x.mean((2, 3, 4)))


class PyTorchVideoFusion(nn.Module):
    def __init__(self, thin, frames, alpha):
        super().__init__()
        self.conv_fast_to_slow = conv(thin, 2 * thin, (frames, 1, 1), (alpha, 1, 1))
        self.norm = nn.BatchNorm3d(2 * thin)

    def forward(self, slow, fast):
        return torch.cat([slow, F.relu(self.norm(self.conv_fast_to_slow(fast)))], 1), fast


class PyTorchVideoSlowFast(nn.Module):
    """`create_slowfast`."""

    def __init__(self, depth, alpha, fusion, slow=SLOW_KERNELS, fast=FAST_KERNELS):
        super().__init__()
        self.alpha = alpha
        first = nn.Module()
        first.multipathway_blocks = nn.ModuleList(
            [PyTorchVideoStem(WIDTH, 1), PyTorchVideoStem(THIN, 5)]
        )
        first.multipathway_fusion = PyTorchVideoFusion(THIN, fusion, alpha)
        blocks, wide, thin = [first], WIDTH, THIN
        slow, fast = kernels_of(depth, slow), kernels_of(depth, fast)
        for i in range(4):
            block, stride = nn.Module(), 2 if i else 1
            block.multipathway_blocks = nn.ModuleList(
                [
                    PyTorchVideoStage(wide + 2 * thin, WIDTH * 2**i, slow[i], stride),
                    PyTorchVideoStage(thin, THIN * 2**i, fast[i], stride),
                ]
            )
            wide, thin = 4 * WIDTH * 2**i, 4 * THIN * 2**i
            if i < 3:
                block.multipathway_fusion = PyTorchVideoFusion(thin, fusion, alpha)
            blocks.append(block)
        # Pooling is a block without weights.
        self.blocks = nn.ModuleList([*blocks, nn.Identity(), PyTorchVideoHead(wide + thin)])

    def forward(self, x):
        slow, fast = spread(x, self.alpha), x
        for block in self.blocks[:5]:
            slow = block.multipathway_blocks[0](slow)
            fast = block.multipathway_blocks[1](fast)
            if hasattr(block, "multipathway_fusion"):
                slow, fast = block.multipathway_fusion(slow, fast)
        return self.blocks[-1](torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))
