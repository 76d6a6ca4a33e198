"""A language model with its tokenizer: text in, text out, and a loss.

Generator and critic are both one of these; what differs is the prompt. Encoder-decoders (`encoder_decoder.py`) and
decoder-only models (`decoder_only.py`) differ in how a prompt becomes input and where a completion begins, and in
nothing else. Every token that is generated or trained on is counted, because comparisons are made at equal tokens.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import CONTROL_TOKENS

IGNORED = -100
"""The label that cross-entropy leaves out: padding is never trained on."""

Batch = dict[str, torch.Tensor]
"""`input_ids` and `attention_mask` of prompts, each (N, P), on the model's device."""


@dataclass(frozen=True)
class Loss:
    """A loss with what it cost."""

    total: torch.Tensor
    """Cross-entropy summed over target tokens (or, with weights, over targets), scalar with gradient."""
    count: int
    """Of what it is summed over."""
    tokens: int
    """Prompt and target tokens passed forward, padding not counted."""

    @property
    def mean(self) -> torch.Tensor:
        """Cross-entropy per target token, or per target."""
        return self.total / self.count


@dataclass(frozen=True)
class Forced:
    """One teacher-forced pass over responses of R tokens."""

    logits: torch.Tensor
    """(N, R, V): position t predicts response token t."""
    states: torch.Tensor | None
    """(N, R, D): the last hidden states from which they come, where asked for."""


class LanguageModel(ABC):
    """A model, its tokenizer and its token counts.

    Args:
        model: any Hugging Face model of the kind.
        tokenizer: its tokenizer; control tokens that it lacks are added to it and to the model.
        max_prompt_tokens: longer prompts are cut at the end, and counted in `cut_prompts`; so are targets.
        max_new_tokens: the longest generation.
    """

    marks: tuple[str, ...] = CONTROL_TOKENS
    """The control tokens of its prompts."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt_tokens: int = 1024,
        max_new_tokens: int = 96,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_prompt_tokens, self.max_new_tokens = max_prompt_tokens, max_new_tokens
        self.generated_tokens = self.cut_prompts = 0
        self.most_at_once = 256  # prompts in one pass of `generate` and its like
        self.precision = torch.float32  # of what is computed; weights stay as they are
        self.added: list[int] = []  # tokens that the model did not know before
        self.add_tokens(self.marks)

    @property
    def pad(self) -> int:
        """The id of padding, which no text has."""
        return int(self.tokenizer.pad_token_id)

    @property
    def start(self) -> dict[str, int]:
        """What `generate` has to be told of the special tokens."""
        return {"pad_token_id": self.pad, "eos_token_id": int(self.tokenizer.eos_token_id)}

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Batch:
        """Prompts as input, each (len(prompts), longest prompt); those that are cut are counted."""

    @abstractmethod
    def encode_targets(self, targets: Sequence[str]) -> torch.Tensor:
        """Targets as responses, (N, R): their tokens with the end of sequence, padded on the right."""

    @abstractmethod
    def completions(self, sequences: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What `generate` wrote beyond the batch, (N, R)."""

    @abstractmethod
    def teacher_forced(self, batch: Batch, responses: torch.Tensor, *, states: bool = False) -> Forced:
        """One pass over prompts and their responses (N, R), padded on the right."""

    @abstractmethod
    def fits(self, prompt: str) -> bool:
        """Whether it reads the whole prompt."""

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Make sure that the tokenizer has these marks: where it cannot spell one, all become tokens of their own."""
        # A piece may stand in the vocabulary with its leading space (our own tokenizers) or without (hub ones).
        if any(self.tokenizer.unk_token_id in self.ids(token) for token in tokens):
            known = len(self.tokenizer)
            self.tokenizer.add_tokens(list(tokens))
            self.added += range(known, len(self.tokenizer))
            self.fit_vocabulary()

    def fit_vocabulary(self) -> None:
        """Give every token of the tokenizer an embedding."""
        if len(self.tokenizer) > self.model.get_input_embeddings().num_embeddings:
            self.model.resize_token_embeddings(len(self.tokenizer))

    def save(self, folder: str | Path) -> None:
        """Write model (safetensors) and tokenizer for `from_pretrained`; each file whole or not at all."""
        unfinished = Path(folder) / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.model.save_pretrained(unfinished)
        self.tokenizer.save_pretrained(unfinished)
        for file in unfinished.iterdir():
            file.replace(Path(folder) / file.name)
        unfinished.rmdir()

    @property
    def identity(self) -> str:
        """What distinguishes it from models that write something else: a hash of weights, vocabulary and lengths."""
        settings = [sorted(self.tokenizer.get_vocab().items()), self.max_prompt_tokens, self.max_new_tokens]
        found = hashlib.sha256(json.dumps(settings).encode())
        for name, weights in self.model.named_parameters():
            found.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
            found.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()[:32]

    def clone(self) -> Self:
        """An independent copy with fresh counts."""
        lengths = {"max_prompt_tokens": self.max_prompt_tokens, "max_new_tokens": self.max_new_tokens}
        other = type(self)(copy.deepcopy(self.model), self.tokenizer, **lengths)
        other.added, other.precision, other.most_at_once = list(self.added), self.precision, self.most_at_once
        return other

    def generate(
        self,
        prompts: Sequence[str],
        *,
        top_p: float | None = None,
        seeds: Sequence[int] | None = None,
        not_first: str = "",
    ) -> list[str]:
        """One completion per prompt, in order, with dropout off.

        Args:
            top_p: nucleus sampling with this mass; None decodes greedily.
            seeds: one for each prompt, from which its sample follows whatever else is in the batch; None draws them
                from torch's global generator.
            not_first: no completion begins with the first token of this text.
        """
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        if not_first:
            options["begin_suppress_tokens"] = self.ids(not_first)[:1]
        nucleus = None
        if top_p:
            seeds = torch.randint(2**62, (len(prompts),)).tolist() if seeds is None else seeds
            nucleus = top_p, draws(seeds, self.max_new_tokens)
        return [text for (text,) in self._decode(prompts, self.most_at_once, nucleus, **options)]

    def likeliest(self, prompts: Sequence[str], count: int) -> list[list[str]]:
        """For each prompt, in order, `count` completions by beam search, likeliest first."""
        options: dict[str, Any] = {"do_sample": False, "num_beams": count, "num_return_sequences": count}
        return self._decode(prompts, max(1, self.most_at_once // count), **options)

    def _decode(
        self,
        prompts: Sequence[str],
        batch_size: int,
        nucleus: tuple[float, torch.Tensor] | None = None,
        **options: Any,
    ) -> list[list[str]]:
        """The completions of each prompt, in order, with dropout off."""
        texts: list[list[str]] = [[] for _ in prompts]
        with self.evaluating(), torch.inference_mode(), self.computing():
            for places in self._by_length(prompts, batch_size):
                batch = self.encode([prompts[i] for i in places])
                if nucleus:
                    options["logits_processor"] = [NucleusSampling(nucleus[0], nucleus[1][places])]
                output = self.model.generate(
                    **batch, max_new_tokens=self.max_new_tokens, synced_gpus=False, **self.start, **options
                )
                written = self.completions(output, batch)
                self.generated_tokens += int((written != self.pad).sum())
                decoded = self.tokenizer.batch_decode(written, skip_special_tokens=True)
                each = len(decoded) // len(places)
                for i, place in enumerate(places):
                    texts[place] = decoded[i * each : (i + 1) * each]
        return texts

    def probabilities(self, prompts: Sequence[str], targets: Sequence[str]) -> list[float]:
        """For each prompt, in order, the probability that its whole completion is the target."""
        found = [0.0] * len(prompts)
        with self.evaluating(), torch.inference_mode(), self.computing():
            for places in self._by_length(prompts, self.most_at_once):
                responses = self.encode_targets([targets[i] for i in places])
                logits = self.teacher_forced(self.encode([prompts[i] for i in places]), responses).logits
                of_token = logits.float().log_softmax(-1).gather(-1, responses.unsqueeze(-1)).squeeze(-1)
                of_target = (of_token * (responses != self.pad)).sum(1)
                for place, probability in zip(places, of_target.exp().tolist(), strict=True):
                    found[place] = probability
        return found

    def loss(self, prompts: Sequence[str], targets: Sequence[str], weights: Sequence[float] | None = None) -> Loss:
        """Cross-entropy of the targets given the prompts, over target tokens.

        Args:
            weights: one factor per target, as advantages in policy gradients; then each target's own average counts
                with its factor, and the loss is over targets.
        """
        batch, responses = self.encode(prompts), self.encode_targets(targets)
        live = responses != self.pad
        with self.computing():
            logits = self.teacher_forced(batch, responses).logits
        of_token = F.cross_entropy(
            logits.float().flatten(0, 1),
            responses.masked_fill(~live, IGNORED).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(responses)
        if weights is None:
            total, count = of_token.sum(), int(live.sum())
        else:
            of_target = of_token.sum(1) / live.sum(1).clamp(min=1)
            total, count = (of_target * torch.tensor(weights, device=of_target.device)).sum(), len(weights)
        return Loss(total, count, int(batch["attention_mask"].sum()) + int(live.sum()))

    def loss_count(self, targets: Sequence[str], weights: Sequence[float] | None = None) -> int:
        """The `count` of the loss of all these targets, before any of it is computed."""
        return int((self.encode_targets(targets) != self.pad).sum()) if weights is None and targets else len(targets)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What training changes, by name: all of a model, or its adapter."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @staticmethod
    def _by_length(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
        """Places of the prompts in batches of similar length."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, no special ones added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast to `precision` inside, where it is not that of the weights."""
        reduced = self.precision != torch.float32
        return torch.autocast(self.model.device.type, self.precision, enabled=reduced, cache_enabled=False)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off inside, the previous mode restored after."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)


def draws(seeds: Sequence[int], length: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), (N, length): row by row from the seeds, the same on every device and in any batch."""
    return torch.from_numpy(
        np.array([np.random.default_rng(seed).random(length) for seed in seeds]).reshape(-1, length)
    )


class NucleusSampling(LogitsProcessor):
    """Nucleus sampling (arXiv 1904.09751) by numbers drawn beforehand: what a row samples depends on no other row.

    Args:
        top_p: the mass of the nucleus: the fewest likeliest tokens that reach it.
        draws: (N, length) in [0, 1), one for each token to come.
    """

    def __init__(self, top_p: float, draws: torch.Tensor) -> None:
        self.top_p, self.draws, self.place = top_p, draws, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (N, V) in which only the sampled token is left, so that a greedy search takes it."""
        ordered, tokens = scores.float().softmax(-1).sort(descending=True, stable=True)
        reached = ordered.cumsum(-1)
        last = (reached - ordered < self.top_p).sum(-1, keepdim=True) - 1
        drawn = self.draws[:, self.place, None].to(scores.device, torch.float32) * reached.gather(-1, last)
        self.place += 1
        chosen = tokens.gather(-1, (reached <= drawn).sum(-1, keepdim=True).minimum(last))
        return torch.full_like(scores, -math.inf).scatter(-1, chosen, 0.0)
