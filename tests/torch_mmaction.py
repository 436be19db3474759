"""mmaction2's networks restated in PyTorch with the names of its modules; see torch_networks."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.torch_networks import BLOCKS, CLASSES, THIN, WIDTH, conv, kernels_of


class ConvModule(nn.Module):
    """mmcv's: a convolution, and batch norm and ReLU if asked for."""

    def __init__(self, convolution, norm=None, relu=False):
        super().__init__()
        self.conv = convolution
        if norm is not None:
            self.bn = norm(convolution.out_channels)
        self.relu = relu

    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x) if hasattr(self, "bn") else x
        return F.relu(x) if self.relu else x


class NonLocal3d(nn.Module):
    """mmcv's with `sub_sample`: g and phi are pooled after their convolutions."""

    def __init__(self, channels, mode, use_scale):
        super().__init__()
        self.mode, self.use_scale = mode, use_scale
        half, pool = channels // 2, nn.MaxPool3d((1, 2, 2))
        self.g = nn.Sequential(ConvModule(conv(channels, half, (1, 1, 1), bias=True)), pool)
        self.conv_out = ConvModule(conv(half, channels, (1, 1, 1)), nn.BatchNorm3d)
        self.theta = ConvModule(conv(channels, half, (1, 1, 1), bias=True))
        self.phi = nn.Sequential(ConvModule(conv(channels, half, (1, 1, 1), bias=True)), pool)

    def forward(self, x):
        g, theta = self.g(x).flatten(2).mT, self.theta(x).flatten(2).mT
        affinity = theta @ self.phi(x).flatten(2)
        if self.mode == "dot_product":
            affinity = affinity / affinity.shape[-1]
        else:
            scale = theta.shape[-1] ** 0.5 if self.use_scale else 1
            affinity = (affinity / scale).softmax(-1)
        return x + self.conv_out((affinity @ g).mT.reshape(x.shape[0], -1, *x.shape[2:]))


class Bottleneck3d(nn.Module):
    def __init__(self, inputs, inner, frames, stride, non_local=None):
        super().__init__()
        norm, strides = nn.BatchNorm3d, (1, stride, stride)
        self.conv1 = ConvModule(conv(inputs, inner, (frames, 1, 1)), norm, relu=True)
        self.conv2 = ConvModule(conv(inner, inner, (1, 3, 3), strides), norm, relu=True)
        self.conv3 = ConvModule(conv(inner, 4 * inner, (1, 1, 1)), norm)
        self.downsample = None
        if inputs != 4 * inner or stride != 1:
            self.downsample = ConvModule(conv(inputs, 4 * inner, (1, 1, 1), strides), norm)
        self.non_local_block = None if non_local is None else NonLocal3d(4 * inner, *non_local)

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        x = F.relu(y + (x if self.downsample is None else self.downsample(x)))
        return x if self.non_local_block is None else self.non_local_block(x)


class ResNet3d(nn.Module):
    """The backbone, or a pathway of SlowFast with the channels that it is given laterally."""

    def __init__(
        self,
        stem,
        kernels,
        *,
        depth=50,
        width=WIDTH,
        conv1_stride_t=1,
        pool1_stride_t=1,
        with_pool2=False,
        non_local=((), None),
        lateral=None,
    ):
        super().__init__()
        self.pool1_stride_t, self.with_pool2 = pool1_stride_t, with_pool2
        stem = conv(3, width, (stem, 7, 7), (conv1_stride_t, 2, 2))
        self.conv1 = ConvModule(stem, nn.BatchNorm3d, relu=True)
        inputs = width
        for i, frames in enumerate(kernels_of(depth, kernels)):
            given = 0
            if lateral is not None:
                fusion, alpha = lateral
                thin = inputs // 8
                kernel = conv(thin, 2 * thin, (fusion, 1, 1), (alpha, 1, 1))
                setattr(self, f"layer{i}_lateral" if i else "conv1_lateral", ConvModule(kernel))
                given = 2 * thin
            layer, inner = [], width * 2**i
            for j, size in enumerate(frames):
                block = non_local[1] if (i, j) in non_local[0] else None
                first = inputs + given if j == 0 else inputs
                layer.append(Bottleneck3d(first, inner, size, 2 if i and not j else 1, block))
                inputs = 4 * inner
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))

    def stem(self, x):
        return F.max_pool3d(self.conv1(x), (1, 3, 3), (self.pool1_stride_t, 2, 2), (0, 1, 1))

    def forward(self, x):
        x = self.layer1(self.stem(x))
        if self.with_pool2:
            x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        return self.layer4(self.layer3(self.layer2(x)))


class Recognizer3D(nn.Module):
    def __init__(self, backbone, features=32 * WIDTH):
        super().__init__()
        self.backbone = backbone
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(features, CLASSES)})

    def forward(self, x):
        return self.cls_head["fc_cls"](self.backbone(x).mean((2, 3, 4)))


class SlowFast(nn.Module):
    """ResNet3dSlowFast and SlowFastHead, which joins the fast pathway's features to the slow's."""

    def __init__(self, alpha, fusion, depth=50):
        super().__init__()
        self.alpha = alpha
        lateral = (fusion, alpha)
        slow = ResNet3d(1, ([1], [1], [3], [3]), depth=depth, lateral=lateral)
        fast = ResNet3d(5, ([3], [3], [3], [3]), depth=depth, width=THIN)
        self.backbone = nn.ModuleDict({"slow_path": slow, "fast_path": fast})
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(32 * (WIDTH + THIN), CLASSES)})

    def forward(self, x):
        slow_path, fast_path = self.backbone["slow_path"], self.backbone["fast_path"]
        slow = F.interpolate(x, mode="nearest", scale_factor=(1 / self.alpha, 1.0, 1.0))
        slow, fast = slow_path.stem(slow), fast_path.stem(x)
        slow = torch.cat((slow, slow_path.conv1_lateral(fast)), 1)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            slow, fast = getattr(slow_path, name)(slow), getattr(fast_path, name)(fast)
            if name != "layer4":
                slow = torch.cat((slow, getattr(slow_path, f"{name}_lateral")(fast)), 1)
        features = torch.cat((fast.mean((2, 3, 4)), slow.mean((2, 3, 4))), 1)
        return self.cls_head["fc_cls"](features)


class Bottleneck2d(nn.Module):
    def __init__(self, inputs, inner, stride):
        super().__init__()
        norm = nn.BatchNorm2d
        three = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.conv1 = ConvModule(nn.Conv2d(inputs, inner, 1, bias=False), norm, relu=True)
        self.conv2 = ConvModule(three, norm, relu=True)
        self.conv3 = ConvModule(nn.Conv2d(inner, 4 * inner, 1, bias=False), norm)
        self.downsample = None
        if inputs != 4 * inner or stride != 1:
            shortcut = nn.Conv2d(inputs, 4 * inner, 1, stride, bias=False)
            self.downsample = ConvModule(shortcut, norm)

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The backbone of images."""

    def __init__(self, depth=50):
        super().__init__()
        stem = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.conv1 = ConvModule(stem, nn.BatchNorm2d, relu=True)
        inputs = WIDTH
        for i, count in enumerate(BLOCKS[depth]):
            inner, layer = WIDTH * 2**i, []
            for j in range(count):
                layer.append(Bottleneck2d(inputs, inner, 2 if i and not j else 1))
                inputs = 4 * inner
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Recognizer2D(nn.Module):
    """TSN: images on their own, whose features TSNHead averages; C2D without pooling is one."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(32 * WIDTH, CLASSES)})

    def forward(self, x):
        images = x.transpose(1, 2).flatten(0, 1)
        features = self.backbone(images).mean((2, 3)).view(x.shape[0], x.shape[2], -1)
        return self.cls_head["fc_cls"](features.mean(1))


class C2D(ResNet):
    """That backbone with pooling of frames after its first stage and another first pooling."""

    def forward(self, x):
        clips = x.shape[0]
        x = self._of_images(self.conv1, x)
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2))
        x = F.max_pool3d(self._of_images(self.layer1, x), (2, 1, 1), (2, 1, 1))
        for layer in (self.layer2, self.layer3, self.layer4):
            x = self._of_images(layer, x)
        assert x.shape[0] == clips
        return x

    def _of_images(self, module, x):
        y = module(x.transpose(1, 2).flatten(0, 1))
        return y.view(x.shape[0], x.shape[2], *y.shape[1:]).transpose(1, 2)
