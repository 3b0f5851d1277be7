"""The network in training: OpenAI's CLIP holds the parameters, a faster forward pass written here uses them.

The names and shapes are those of ``clip.model.CLIP`` because it *is* one (Radford et al. 2021, arXiv
2103.00020), so whatever is trained loads there. The forward pass fuses the three attention inputs into one
product, runs in bfloat16 on float32 parameters, and compiles one block for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the two towers; heads are 64 wide, as ``clip.model.build_model`` assumes."""

    image: int = 64
    patch: int = 8
    width: int = 256
    layers: int = 6
    embed: int = 256
    text_width: int = 128
    text_layers: int = 2
    context: int = 77


def make_clip(shape: Shape, vocabulary: int, seed: int) -> CLIP:
    """A CLIP with freshly drawn parameters; global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            shape.embed,
            shape.image,
            shape.layers,
            shape.width,
            shape.patch,
            shape.context,
            vocabulary,
            shape.text_width,
            shape.text_width // 64,
            shape.text_layers,
        )
        _initialise_visual(model.visual, shape)
    return model.float()


def _initialise_visual(visual: Any, shape: Shape) -> None:
    """Sine positions and attention that starts as trained attention looks (Trockman & Kolter 2023, arXiv 2305.09828).

    With forty thousand pictures a transformer spends most of its time finding locality; this start hands it
    over.
    """
    width, grid = shape.width, shape.image // shape.patch
    with torch.no_grad():
        visual.positional_embedding.zero_()
        visual.positional_embedding[1:] = sine_positions(grid, width)
        visual.class_embedding.normal_(std=0.02)
        nn.init.xavier_uniform_(visual.conv1.weight.view(width, -1))
        for block in visual.transformer.resblocks:
            _mimetic(block.attn, width)
            for linear in (block.mlp.c_fc, block.mlp.c_proj):
                nn.init.xavier_uniform_(linear.weight)
                linear.bias.zero_()


def _mimetic(attn: nn.MultiheadAttention, width: int) -> None:
    """Query-key products near 0.7 (I + noise), value-output products near 0.4 (noise - I)."""
    heads, dim = width // 64, 64
    eye = torch.eye(width)
    queries, keys = [], []
    for _ in range(heads):
        u, s, vh = torch.linalg.svd(0.7 * torch.randn(width, width) / math.sqrt(width) + 0.7 * eye)
        queries.append((u[:, :dim] * s[:dim].sqrt()).T)
        keys.append(vh[:dim] * s[:dim, None].sqrt())
    u, s, vh = torch.linalg.svd(0.4 * torch.randn(width, width) / math.sqrt(width) - 0.4 * eye)
    values = vh * s[:, None].sqrt()
    attn.in_proj_weight.copy_(torch.cat([*queries, *keys, values]))
    attn.out_proj.weight.copy_(u * s.sqrt())
    attn.in_proj_bias.zero_()
    attn.out_proj.bias.zero_()


def sine_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine positions (grid * grid, width)."""
    quarter = width // 4
    frequency = 1 / 10000 ** (torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in (row.float(), column.float())]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


@lru_cache(maxsize=16)
def position_resize(old: int, new: int) -> Tensor:
    """The matrix (new * new, old * old) of a bilinear resize of a grid of positions."""
    basis = torch.eye(old * old).view(old * old, 1, old, old)
    resized = F.interpolate(basis, size=(new, new), mode="bilinear", align_corners=False)
    return resized.view(old * old, new * new).T.contiguous()


def block_forward(x: Tensor, p: list[Tensor], heads: int, mask: Tensor | None, keep: Tensor | None) -> Tensor:
    """One pre-norm residual block; x (B, L, W), p the block's twelve parameters in state-dict order, keep (2, B)."""
    in_w, in_b, out_w, out_b, ln1_w, ln1_b, fc_w, fc_b, proj_w, proj_b, ln2_w, ln2_b = (part.to(x.dtype) for part in p)
    batch, length, width = x.shape
    h = F.layer_norm(x, (width,), ln1_w, ln1_b, 1e-5)
    qkv = F.linear(h, in_w, in_b).view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = (qkv[0] * (width // heads) ** -0.5) @ qkv[1].transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    h = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(batch, length, width)
    h = F.linear(h, out_w, out_b)
    x = x + (h if keep is None else h * keep[0].view(-1, 1, 1))
    h = F.linear(F.layer_norm(x, (width,), ln2_w, ln2_b, 1e-5), fc_w, fc_b)
    h = F.linear(h * torch.sigmoid(1.702 * h), proj_w, proj_b)
    return x + (h if keep is None else h * keep[1].view(-1, 1, 1))


compiled_block = torch.compile(block_forward, dynamic=False)


def encode_image(
    model: CLIP, x: Tensor, dtype: torch.dtype, keep: Tensor | None = None, compiled: bool = False
) -> Tensor:
    """Normalised pictures (B, 3, s, s), s any multiple of the patch -> float32 embeddings (B, E), not normalised.

    ``keep`` (layers, 2, B) is stochastic depth's scaled mask. Positions are resized when s is not the final
    size.
    """
    visual: Any = model.visual
    width, patch = visual.conv1.weight.shape[0], visual.conv1.weight.shape[-1]
    grid = x.shape[-1] // patch
    # The convolution's stride is its size: cut patches and multiply, in the order (channel, row, column).
    tokens = x.to(dtype).unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5)
    tokens = F.linear(tokens.reshape(len(x), grid * grid, -1), visual.conv1.weight.view(width, -1).to(dtype))
    places = visual.positional_embedding
    trained = math.isqrt(len(places) - 1)
    if trained != grid:
        places = torch.cat([places[:1], position_resize(trained, grid).to(places.device) @ places[1:]])
    head = visual.class_embedding.to(dtype).expand(len(x), 1, width)
    h = torch.cat([head, tokens], dim=1) + places.to(dtype)
    h = F.layer_norm(h, (width,), visual.ln_pre.weight.to(dtype), visual.ln_pre.bias.to(dtype), 1e-5)
    run = compiled_block if compiled else block_forward
    for i, block in enumerate(visual.transformer.resblocks):
        h = run(h, list(block.parameters()), width // 64, None, None if keep is None else keep[i])
    h = F.layer_norm(h[:, 0].float(), (width,), visual.ln_post.weight, visual.ln_post.bias, 1e-5)
    embedding: Tensor = h @ visual.proj
    return embedding


def encode_text(model: CLIP, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Token ids (P, L), L at most the context -> float32 text embeddings (P, E), not normalised."""
    end = tokens.argmax(dim=-1)
    length = int(end.max()) + 1  # attention is causal: what follows the last end-of-text changes nothing
    h = (model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]).to(dtype)
    mask = torch.full((length, length), float("-inf"), device=tokens.device, dtype=dtype).triu(1)
    blocks: Any = model.transformer.resblocks
    for block in blocks:
        h = block_forward(h, list(block.parameters()), h.shape[-1] // 64, mask, None)
    h = h[torch.arange(len(tokens), device=tokens.device), end].float()
    h = F.layer_norm(h, (h.shape[-1],), model.ln_final.weight, model.ln_final.bias, 1e-5)
    embedding: Tensor = h @ model.text_projection
    return embedding
