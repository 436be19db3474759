"""The process that trains in PyTorch for `torch_peer`: orders come and answers go as JSON lines.

{"make": {...}}  builds the network and its optimizer, and trains for two iterations;
{"run": n}       trains for n iterations; the answer has their seconds.
"""

import itertools
import json
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F

from mg_jax.bench.torch_network import TorchNetwork

_WARM_UP = 2


class Trainer:
    """Trains on a batch of noise: forward, backward and update as a user of PyTorch writes them."""

    def __init__(self, order: dict[str, Any]):
        """Compiles, on GPUs, and trains for two iterations.

        Args:
          order: shapes of the tensors by name; batch, frames, size, classes, multi_label; alpha,
            dropout, dtype; momentum, nesterov, weight_decay; threads, on a CPU.
        """
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._on_gpu = self._device.type == "cuda"
        torch.manual_seed(0)
        if self._on_gpu:
            torch.backends.cudnn.benchmark = True
            # As JAX multiplies float32.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
            torch.cuda.reset_peak_memory_stats()
        else:
            torch.set_num_threads(order["threads"])
        self._dtype = getattr(torch, order["dtype"])
        state = {name: self._tensor(name, shape) for name, shape in order["tensors"].items()}
        self._network = TorchNetwork(state, order["alpha"], dropout=order["dropout"])
        self._optimizer = self._make_optimizer(state, order)
        B, T, H = order["batch"], order["frames"], order["size"]
        # As stored, so that the network sees channels last.
        pixels = torch.randint(0, 256, (B, T, H, H, 3), dtype=torch.uint8, device=self._device)
        self._clips_BCTHW = pixels.permute(0, 4, 1, 2, 3)
        self._flip_B = torch.randint(0, 2, (B,), device=self._device).bool()
        label = torch.randint(0, 2, (B, order["classes"]) if order["multi_label"] else (B,))
        self._label = label.to(self._device, torch.float32 if order["multi_label"] else torch.int64)
        self._loss_of = torch.compile(self._loss, dynamic=False) if self._on_gpu else self._loss
        self.seconds(_WARM_UP)

    def seconds(self, iterations: int) -> list[float]:
        """Seconds from the end of an iteration to the end of the next."""
        behind = int(self._on_gpu)  # a GPU gets an iteration while it is at the one before
        ends, running = [], []
        # To one that is waited for there is no next, whose launches take time, too.
        for _ in range(iterations + 1 + behind):
            self._iterate()
            running.append(torch.cuda.Event() if self._on_gpu else None)
            if self._on_gpu:
                running[-1].record()
            if len(running) > behind:
                ends.append(_end(running.pop(0)))
        if self._on_gpu:
            torch.cuda.synchronize()
        return [after - before for before, after in itertools.pairwise(ends)]

    def about(self) -> dict[str, Any]:
        """What runs, and where."""
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if self._on_gpu else "cpu",
            "threads": torch.get_num_threads(),
            "compiled": self._on_gpu,
            "allocated_bytes": torch.cuda.max_memory_allocated() if self._on_gpu else None,
        }

    def _tensor(self, name: str, shape: list[int]) -> torch.Tensor:
        if "running" in name:
            tensor = (torch.zeros if name.endswith("mean") else torch.ones)(shape)
        elif len(shape) > 1:
            fan_in = torch.Size(shape[1:]).numel()
            tensor = torch.randn(shape) * (2 / fan_in) ** 0.5
        else:
            tensor = (torch.ones if name.endswith("weight") else torch.zeros)(shape)
        tensor = tensor.to(self._device)
        if len(shape) == 5:
            tensor = tensor.contiguous(memory_format=torch.channels_last_3d)
        return tensor

    def _make_optimizer(self, state, order) -> torch.optim.SGD:
        trained = {name: tensor for name, tensor in state.items() if "running" not in name}
        plain = [t for name, t in trained.items() if name.split(".")[-2].endswith("bn")]
        decayed = [t for name, t in trained.items() if not name.split(".")[-2].endswith("bn")]
        groups = [
            {"params": decayed, "weight_decay": order["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ]
        how = {"momentum": order["momentum"], "nesterov": order["nesterov"]}
        return torch.optim.SGD(groups, lr=1e-4, fused=self._on_gpu, **how)

    def _loss(self, clips_BCTHW, flip_B, label):
        mirror = flip_B[:, None, None, None, None]
        x = torch.where(mirror, clips_BCTHW.flip(4), clips_BCTHW)
        x = (x.float() / 255 - 0.45) / 0.225
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._network(x)
        loss = F.binary_cross_entropy_with_logits if label.ndim == 2 else F.cross_entropy
        return loss(logits.float(), label)

    def _iterate(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._loss_of(self._clips_BCTHW, self._flip_B, self._label).backward()
        self._optimizer.step()


def _end(event: torch.cuda.Event | None) -> float:
    """When a GPU has come to an event; on a CPU it is now."""
    if event is not None:
        event.synchronize()
    return time.perf_counter()


def main() -> None:
    """Answers orders until there are none."""
    trainer = None
    for line in sys.stdin:
        order = json.loads(line)
        if "make" in order:
            trainer = None  # its memory goes first
            trainer = Trainer(order["make"])
            answer = trainer.about()
        else:
            answer = {"seconds": trainer.seconds(order["run"])} | trainer.about()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
