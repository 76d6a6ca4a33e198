"""A small T5 inside a larger one: the arithmetic of the large shape, the texts of the small model.

Random weights never end a completion and solve nothing, so they time nothing that happens. The small model's weights
lie in a corner of the larger ones with zeros around, and every layer beyond its own adds zero to what it is given.
"""

from __future__ import annotations

import math

import torch
from transformers import T5Config, T5ForConditionalGeneration

SHAPES = {
    "60m": {"d_model": 512, "d_ff": 2048, "d_kv": 64, "num_heads": 8, "num_layers": 6, "num_decoder_layers": 6},
    "220m": {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12, "num_layers": 12, "num_decoder_layers": 12},
}
"""T5-small's and T5-base's."""
PIECES = 32_128
"""Their vocabulary."""
FAR = 100.0
"""Puts logits out of reach; squared, also where the states before the last norm are large."""


def widened(small: T5ForConditionalGeneration, pieces: int = PIECES, **shape: int) -> T5ForConditionalGeneration:
    """A model of this shape with the probabilities of `small`, on the CPU. It is for timing: what it learns is its own.

    One further dimension of its states holds a constant, the same for every piece of `small`. In the mean of squares it
    takes the place of the norms' epsilon; after the last norm it makes the pieces that `small` lacks impossible.

    Args:
        small: a T5 with tied embeddings.
        pieces: of the vocabulary.
        shape: entries of the config: `d_model` larger than that of `small`, the others no smaller.
    """
    narrow, constant = small.config, small.config.d_model
    share = narrow.d_model / shape["d_model"]
    changes = {**shape, "vocab_size": pieces, "layer_norm_epsilon": 0.0}
    large = T5ForConditionalGeneration(T5Config(**{**narrow.to_dict(), **changes}))
    weights = dict(large.named_parameters())
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
        for name, given in small.named_parameters():
            source, place = _by_head(name, given, narrow), _by_head(name, weights[name], large.config)
            # A norm takes the mean over all of d_model, zeros included.
            place[tuple(map(slice, source.shape))] = source * (math.sqrt(share) if "norm" in name else 1.0)
        embeddings, last = weights["shared.weight"], weights["decoder.final_layer_norm.weight"]
        if narrow.scale_decoder_outputs:  # by d_model ** -0.5
            last /= math.sqrt(share)
        height = math.sqrt(narrow.layer_norm_epsilon * narrow.d_model)
        last[constant] = FAR / height
        embeddings[: narrow.vocab_size, constant] = height
        embeddings[narrow.vocab_size :, constant] = -FAR * FAR
    return large.eval()


def _by_head(name: str, weight: torch.Tensor, config: T5Config) -> torch.Tensor:
    """A view with an axis for the heads and one inside them, where a weight has such."""
    kind = name.split(".")[-2]
    if kind in ("q", "k", "v"):
        return weight.view(config.num_heads, config.d_kv, -1)
    return weight.view(-1, config.num_heads, config.d_kv) if kind == "o" else weight
