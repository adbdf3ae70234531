"""The Vision Transformer in PyTorch: written plainly, timm's, and that of transformers.

All are pre-norm with a class token, tanh GELU, epsilon 1e-6 and no dropout, as the official one.
PyTorch, timm and transformers are imported when asked for: they are no dependencies.
"""

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

EPSILON = 1e-6
LEARNING_RATE = 1e-3
# Names of attention backends, and what torch.nn.attention calls them.
BACKENDS = {"math": "MATH", "flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION"}
BACKENDS |= {"efficient": "EFFICIENT_ATTENTION"}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a Vision Transformer is made of, in the words of the paper."""

    pixels: int
    patch: int
    width: int
    layers: int
    heads: int
    hidden: int
    classes: int


def installed(library: str) -> bool:
    """Returns whether a library is there."""
    return importlib.util.find_spec(library) is not None


def make(library: str, sizes: Sizes) -> Any:
    """Returns a module from images (b, 3, h, w) to logits (b, k); "torch" is the plain one."""
    if library != "torch":
        _mend_torchvision()
    return {"torch": _plain, "timm": _timm, "transformers": _transformers}[library](sizes)


def _timm(sizes: Sizes) -> Any:
    timm, nn = importlib.import_module("timm"), importlib.import_module("torch").nn
    return timm.models.vision_transformer.VisionTransformer(
        img_size=sizes.pixels,
        patch_size=sizes.patch,
        embed_dim=sizes.width,
        depth=sizes.layers,
        num_heads=sizes.heads,
        mlp_ratio=sizes.hidden / sizes.width,
        num_classes=sizes.classes,
        act_layer=functools.partial(nn.GELU, approximate="tanh"),
        norm_layer=functools.partial(nn.LayerNorm, eps=EPSILON),
    )


def _transformers(sizes: Sizes) -> Any:
    transformers = importlib.import_module("transformers")
    config = transformers.ViTConfig(
        image_size=sizes.pixels,
        patch_size=sizes.patch,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.hidden,
        num_labels=sizes.classes,
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=EPSILON,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return _logits_alone(transformers.ViTForImageClassification(config))


def _plain(sizes: Sizes) -> Any:
    torch = importlib.import_module("torch")
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(sizes.width, eps=EPSILON)
            self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
            self.out = nn.Linear(sizes.width, sizes.width)
            self.norm2 = nn.LayerNorm(sizes.width, eps=EPSILON)
            self.up = nn.Linear(sizes.width, sizes.hidden)
            self.down = nn.Linear(sizes.hidden, sizes.width)

        def forward(self, x: Any) -> Any:
            b, n, d = x.shape
            qkv = self.qkv(self.norm1(x)).view(b, n, 3, sizes.heads, d // sizes.heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = functional.scaled_dot_product_attention(query, key, value)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tokens = (sizes.pixels // sizes.patch) ** 2 + 1
            self.embedding = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
            self.token = nn.Parameter(torch.zeros(1, 1, sizes.width))
            self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, sizes.width))
            self.blocks = nn.Sequential(*(Block() for _ in range(sizes.layers)))
            self.norm = nn.LayerNorm(sizes.width, eps=EPSILON)
            self.head = nn.Linear(sizes.width, sizes.classes)

        def forward(self, images: Any) -> Any:
            x = self.embedding(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.positions
            return self.head(self.norm(self.blocks(x))[:, 0])

    return ViT()


def _logits_alone(model: Any) -> Any:
    """Returns a module with the logits of a model of transformers."""
    nn = importlib.import_module("torch").nn

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any) -> Any:
            return self.model(pixel_values=images).logits

    return Logits()


def _mend_torchvision() -> None:
    """Declares two operators, which no ViT uses, where torchvision's are of another CUDA build.

    Both libraries import it, and it does not import without them.
    """
    torch = importlib.import_module("torch")
    if not installed("torchvision"):
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[Any] = []  # a declaration lives as long as its Library


def training_step(
    model: Any, images: Any, labels: Any, optimizer: str, dtype: str
) -> Callable[[], Any]:
    """Returns a step that trains on one batch and returns its loss.

    Its optimiser is AdamW (or SGD with momentum) in its fused form; the norm of the gradient is
    clipped to 1, as vit_jax does.
    """
    torch = importlib.import_module("torch")
    rate, parameters = LEARNING_RATE, [*model.parameters()]
    if optimizer == "adamw":
        rule = torch.optim.AdamW(parameters, rate, weight_decay=0.0, fused=True)
    else:
        rule = torch.optim.SGD(parameters, rate, momentum=0.9, fused=True)

    def step() -> Any:
        rule.zero_grad(set_to_none=True)
        with computing_in(dtype, images.device.type):
            loss = torch.nn.functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rule.step()
        return loss.detach()

    return step


def inference_step(model: Any, images: Any, dtype: str) -> Callable[[], Any]:
    """Returns a step that returns the logits of one batch."""
    torch = importlib.import_module("torch")

    def step() -> Any:
        with torch.inference_mode(), computing_in(dtype, images.device.type):
            return model(images)

    return step


def computing_in(dtype: str, device: str) -> Any:
    """Returns a context: bfloat16 computes over float32 parameters."""
    torch = importlib.import_module("torch")
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


def waiting(device: str) -> tuple[Callable[[Any], None], Callable[[], int | None]]:
    """Returns what waits for a result, and what tells the most memory held; None off a GPU."""
    torch = importlib.import_module("torch")
    if device == "cpu":
        return lambda result: None, lambda: None
    return lambda result: torch.cuda.synchronize(), torch.cuda.max_memory_allocated


def versions(library: str) -> dict[str, str]:
    """Returns the versions of PyTorch and of a library."""
    return {name: importlib.import_module(name).__version__ for name in ("torch", library)}
