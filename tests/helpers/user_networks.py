"""Networks as users write them: functional calls, control flow, writing in place, wrappers."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint


class EinsumViT(nn.Module):
    """A transformer on patches cut by reshape, with attention written by einsum."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.patch, self.qkv, self.out = nn.Linear(192, width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm1, self.norm2, self.head = nn.LayerNorm(width), nn.LayerNorm(width), nn.Linear(width, 10)
        self.heads = heads
        self.cls, self.pos = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 17, width))

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        x = (x - 0.45) / 0.22
        x = x.reshape(batch, 3, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(batch, 16, -1)
        x = torch.cat([self.cls.expand(batch, -1, -1), self.patch(x)], 1) + self.pos
        q, k, v = self.qkv(self.norm1(x)).view(batch, 17, 3, self.heads, -1).unbind(2)
        weights = torch.einsum("bihd,bjhd->bhij", q, k).mul(q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
        x += self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Functional(nn.Module):
    """Parameters in a list that torch does not know of, functions only, writing in place."""

    def __init__(self) -> None:
        super().__init__()

        def values(*shape: int) -> Tensor:
            return torch.randn(*shape).mul(0.2).double().requires_grad_()

        self.w = [values(8, 3, 3, 3), values(8), values(16, 8, 3, 3), values(10, 16)]
        self.stats = [
            torch.zeros(8).double(),
            torch.ones(8).double(),
            torch.randn(16).double(),
            torch.rand(16).double() + 0.5,
        ]

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.w[0], None, 1, 1)
        x = F.batch_norm(x, self.stats[0], self.stats[1], self.w[1], None, False)
        F.relu_(x)
        y = F.batch_norm(F.conv2d(x, self.w[2], padding="same"), self.stats[2], self.stats[3])
        y[:, :4] = y[:, 4:8] * 0.5
        y += x.repeat(1, 2, 1, 1)
        return F.adaptive_avg_pool2d(F.leaky_relu(y, 0.1), 1).flatten(1) @ self.w[3].t()


class ControlFlow(nn.Module):
    """Branches that depend on values, masks, the largest few."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)
        self.a, self.b = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for i in range(3):
            x = F.relu(self.a(x)) + x if x.mean().item() > 0.1 and i != 1 else torch.where(x > 0.5, self.b(x), x)
        mask = torch.zeros_like(x[:, :1])
        mask[..., ::2] = 1
        return self.head((x * mask).amax((2, 3)) + x.topk(2, 1).values.mean((2, 3)).sum(1, keepdim=True))


class Tokens(nn.Module):
    """Patches as tokens, `body` on them, and a classifier of the mean of what it returns."""

    def __init__(self, body: nn.Module, width: int = 32) -> None:
        super().__init__()
        self.patch, self.body, self.head = nn.Conv2d(3, 32, 8, 8), body, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(self.patch(x).flatten(2).transpose(1, 2))
        return self.head((out[0] if isinstance(out, tuple) else out).mean(1))


class SelfAttention(nn.MultiheadAttention):
    def __init__(self, need_weights: bool) -> None:
        super().__init__(32, 4, batch_first=True)
        self.need = need_weights

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x, x, x, need_weights=self.need)[0]


def encoder(norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem, self.head, self.reentrant = nn.Conv2d(3, 8, 3), nn.Linear(8, 10), reentrant
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, self.stem(x).relu(), use_reentrant=self.reentrant).mean((2, 3)))


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * 2


class OwnFunction(nn.Module):
    """Has an autograd function with a backward pass of its own, which no rule can see into."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(_Double.apply(self.stem(x).relu()).mean((2, 3)))


def plain() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(True)),
        *(nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.SiLU(True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def reparametrized(how: object) -> nn.Module:
    model = plain()
    for i in (0, 3):
        model[i] = how(model[i])
    return model


def other_norms() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU()),
        *(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 26 * 26, 16), nn.RMSNorm(16), nn.Linear(16, 10)),
    )


class Written(nn.Module):
    """A network written as one function of (its modules, x), with a classifier of 8 channels behind it."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers, self.head = function, nn.ModuleList(layers), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(*self.layers, x).relu().mean((2, 3)))


def conv(channels: int, width: int, **options: object) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1, **options)


def twice(norm: nn.Module, other: nn.Module, first: nn.Module, shared: nn.Module, x: Tensor) -> Tensor:
    return norm(shared(first(x))).relu() + other(shared(first(x)))


ODD = {
    "the mean minus the input": lambda: Written(lambda c, x: c(x.mean((2, 3), keepdim=True) - x), conv(3, 8)),
    "the input times a mask of it": lambda: Written(lambda c, m, x: c(x * m(x).sigmoid()), conv(3, 8), conv(3, 3)),
    "the input beside its layer": lambda: Written(lambda c, d, x: d(torch.cat([x, c(x)], 1)), conv(3, 5), conv(8, 8)),
    "the input added to its layer": lambda: Written(lambda c, d, x: d(c(x) + x), conv(3, 3), conv(3, 8)),
    "two crops": lambda: Written(lambda c, x: c(x[..., :16, :16]).relu() + c(x[..., 4:20, 4:20]), conv(3, 8)),
    "a layer with two norms": lambda: Written(twice, nn.BatchNorm2d(8), nn.BatchNorm2d(8), conv(3, 8), conv(8, 8)),
    "a norm of two layers": lambda: Written(
        lambda n, c, d, x: n(d(n(c(x)).relu())), nn.BatchNorm2d(8), conv(3, 8), conv(8, 8)
    ),
    "a layer read past its norm": lambda: Written(lambda n, c, x: n(c(x)) + c(x), nn.BatchNorm2d(8), conv(3, 8)),
    "mixed by a gate": lambda: Written(
        lambda c, d, x: torch.lerp(c(x), d(c(x)), d(c(x)).sigmoid()), conv(3, 8), conv(8, 8)
    ),
    "a rounded quotient beside its layer": lambda: Written(
        lambda c, x: c(x) + torch.div(c(x), 0.1, rounding_mode="floor"), conv(3, 8)
    ),
    "added by keyword": lambda: Written(lambda c, x: c(x).add(other=c.bias.view(1, -1, 1, 1)), conv(3, 8)),
    "padded with ones": lambda: Written(lambda c, x: c(F.pad(x, (1, 1, 1, 1), value=1.0)), nn.Conv2d(3, 8, 3)),
    "grouped, dilated, transposed": lambda: Written(
        lambda c, n, t, x: t(n(c(x)).relu()),
        nn.Conv2d(3, 6, 3, groups=3, dilation=2, padding="same"),
        nn.BatchNorm2d(6),
        nn.ConvTranspose2d(6, 8, 3, stride=2),
    ),
}
COVERED = {
    "einsum ViT": EinsumViT,
    "functional convnet": Functional,
    "control flow": ControlFlow,
    "MultiheadAttention": lambda: Tokens(SelfAttention(False)),
    "MultiheadAttention, weights": lambda: Tokens(SelfAttention(True)),
    "TransformerEncoder": lambda: Tokens(encoder()),
    "TransformerEncoder, norm first": lambda: Tokens(encoder(True)),
    "LSTM": lambda: Tokens(nn.LSTM(32, 16, 2, batch_first=True, bidirectional=True)),
    "GRU": lambda: Tokens(nn.GRU(32, 16, 2, batch_first=True, bidirectional=True)),
    "RNN": lambda: Tokens(nn.RNN(32, 32, batch_first=True)),
    "weight norm (hook)": lambda: reparametrized(weight_norm),
    "weight norm": lambda: reparametrized(parametrizations.weight_norm),
    "spectral norm": lambda: reparametrized(parametrizations.spectral_norm),
    "spectral norm (hook)": lambda: reparametrized(spectral_norm),
    "checkpoint": lambda: Checkpointed(False),
    "checkpoint, reentrant": lambda: Checkpointed(True),
    "torch.compile": lambda: torch.compile(plain(), backend="eager"),
    "DataParallel": lambda: nn.DataParallel(plain()),
    "log_softmax at the end": lambda: nn.Sequential(plain(), nn.LogSoftmax(1)),
    "GroupNorm, InstanceNorm, RMSNorm": other_norms,
}
# Why each is refused, in words of its message.
REFUSED = {
    "autograd.Function": (OwnFunction, "made unseen, by _DoubleBackward"),
    "torch.jit.script": (lambda: torch.jit.script(plain()), "finds no relevance in the output"),
    "batch norm of the batch": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10, track_running_stats=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        "in module 1: batch_norm with the statistics of the batch",
    ),
    "flattened image": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), "input_rule=epsilon"),
}
