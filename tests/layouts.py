"""Weights with random values in the true layouts of published files, of networks small enough for tests."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from blemish.features.backbones import Backbone, transformer_stages

WIDTH, DEPTH, HEADS = 32, 3, 2
SMALL = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
TINY = {
    "tiny_dino8": Backbone(
        "vit_small_patch8_224",
        transformer_stages(8, WIDTH, DEPTH),
        transformer=True,
        resizable=False,
        align=8,
        pixels=64,
        arguments=SMALL,
    ),
    "tiny_dinov2_reg": Backbone(
        "vit_small_patch14_reg4_dinov2",
        transformer_stages(14, WIDTH, DEPTH),
        transformer=True,
        resizable=False,
        align=14,
        pixels=70,
        arguments=SMALL,
    ),
    "tiny_wide_resnet": Backbone(
        "wide_resnet50_2",
        {"2": (0, 64), "4": (1, 256), "8": (2, 512), "16": (3, 1024)},
        pixels=64,
        arguments={"layers": (1, 1, 1, 1)},
    ),
}


def transformer(patch: int, positions: int, *, scaled: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a vision transformer as facebookresearch/dino names them; `scaled` as DINOv2 does."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, positions, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, patch, patch),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for block in range(DEPTH):
        inner = {
            "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,),
            **({"ls1.gamma": (WIDTH,)} if scaled else {}),
            "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH), "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH), "mlp.fc2.bias": (WIDTH,),
            **({"ls2.gamma": (WIDTH,)} if scaled else {}),
        }  # fmt: skip
        shapes |= {f"blocks.{block}.{key}": shape for key, shape in inner.items()}
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    rng = torch.Generator().manual_seed(seed)
    return {key: 0.2 * torch.randn(shape, generator=rng) for key, shape in shapes.items()}


def dino() -> dict[str, Tensor]:
    """As `dino_deitsmall8_pretrain.pth`: 28 x 28 positions and the class token's."""
    return transformer(8, 28 * 28 + 1)


def dinov2_reg() -> dict[str, Tensor]:
    """As `dinov2_vits14_reg4_pretrain.pth`: 37 x 37 positions, for 518 pixels, and registers without any."""
    tokens = {"register_tokens": torch.randn(1, 4, WIDTH), "mask_token": torch.zeros(1, WIDTH)}
    return {**transformer(14, 37 * 37 + 1, scaled=True), **tokens}


def full_checkpoint(path: Path, teacher: dict[str, Tensor]) -> Path:
    """As `dino_deitsmall8_pretrain_full_checkpoint.pth`: student and teacher with heads, optimizer and arguments."""
    head = {"head.mlp.0.weight": torch.randn(8, WIDTH), "head.last_layer.weight_v": torch.randn(16, 8)}
    backbone = {f"backbone.{key}": tensor for key, tensor in teacher.items()}
    student = {f"module.backbone.{key}": torch.zeros_like(tensor) for key, tensor in teacher.items()}
    torch.save(
        {
            "student": {**student, **{f"module.{key}": tensor for key, tensor in head.items()}},
            "teacher": {**backbone, **head},
            "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_small", patch_size=8),
            "dino_loss": {"center": torch.zeros(1, 16)},
        },
        path,
    )
    return path


def plain_forward(weights: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """A vision transformer written out, at the size its positions are for: class token (D,) and patches (h, w, D)."""

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    kernel = weights["patch_embed.proj.weight"]
    patch = kernel.shape[-1]
    height, width = pixels.shape[1] // patch, pixels.shape[2] // patch
    squares = pixels.reshape(3, height, patch, width, patch).permute(1, 3, 0, 2, 4).reshape(height * width, -1)
    x = torch.cat([weights["cls_token"][0], squares @ kernel.flatten(1).T + weights["patch_embed.proj.bias"]])
    x = x + weights["pos_embed"][0]
    registers = weights.get("register_tokens", torch.zeros(1, 0, WIDTH))[0]
    x = torch.cat([x[:1], registers, x[1:]])
    for block in range(DEPTH):
        name, each = f"blocks.{block}", WIDTH // HEADS
        q, k, v = linear(normed(x, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, dim=-1)
        heads = [slice(head * each, (head + 1) * each) for head in range(HEADS)]
        seen = torch.cat([((q[:, h] @ k[:, h].T) / each**0.5).softmax(-1) @ v[:, h] for h in heads], dim=1)
        x = x + linear(seen, f"{name}.attn.proj") * weights.get(f"{name}.ls1.gamma", 1)
        inner = torch.nn.functional.gelu(linear(normed(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + linear(inner, f"{name}.mlp.fc2") * weights.get(f"{name}.ls2.gamma", 1)
    x = normed(x, "norm")
    return x[0], x[1 + len(registers) :].reshape(height, width, WIDTH)
