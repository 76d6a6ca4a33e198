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
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import CONTROL_TOKENS

IGNORED = -100
"""The label that cross-entropy leaves out: padding is never trained on."""

Batch = dict[str, torch.Tensor]
"""`input_ids` and `attention_mask` of prompts, each (N, P), on the model's device."""


@dataclass(frozen=True)
class Loss:
    """A loss with what it cost."""

    mean: torch.Tensor
    """Cross-entropy per target token, scalar with gradient."""
    tokens: int
    """Prompt and target tokens passed forward, padding not counted."""


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
        """Write model (safetensors) and tokenizer so that `from_pretrained` reads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

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
        other.added = list(self.added)
        return other

    def generate(
        self, prompts: Sequence[str], *, top_p: float | None = None, not_first: str = "", batch_size: int = 256
    ) -> list[str]:
        """One completion per prompt, in order, with dropout off.

        Args:
            top_p: nucleus sampling with this mass; None decodes greedily.
            not_first: no completion begins with the first token of this text.
            batch_size: prompts per forward pass, grouped by length.
        """
        options: dict[str, Any] = {"do_sample": True, "top_p": top_p, "top_k": 0} if top_p else {"do_sample": False}
        if not_first:
            options["begin_suppress_tokens"] = self.ids(not_first)[:1]
        return [text for (text,) in self._decode(prompts, batch_size, num_beams=1, **options)]

    def likeliest(self, prompts: Sequence[str], count: int, *, batch_size: int = 64) -> list[list[str]]:
        """For each prompt, in order, `count` completions by beam search, likeliest first."""
        options = {"do_sample": False, "num_beams": count, "num_return_sequences": count}
        return self._decode(prompts, batch_size, **options)

    def _decode(self, prompts: Sequence[str], batch_size: int, **options: Any) -> list[list[str]]:
        """The completions of each prompt, in order, with dropout off."""
        texts: list[list[str]] = [[] for _ in prompts]
        with self.evaluating(), torch.inference_mode():
            for places in self._by_length(prompts, batch_size):
                batch = self.encode([prompts[i] for i in places])
                output = self.model.generate(**batch, max_new_tokens=self.max_new_tokens, **self.start, **options)
                written = self.completions(output, batch)
                self.generated_tokens += int((written != self.pad).sum())
                decoded = self.tokenizer.batch_decode(written, skip_special_tokens=True)
                each = len(decoded) // len(places)
                for i, place in enumerate(places):
                    texts[place] = decoded[i * each : (i + 1) * each]
        return texts

    def probabilities(self, prompts: Sequence[str], targets: Sequence[str], *, batch_size: int = 256) -> list[float]:
        """For each prompt, in order, the probability that its whole completion is the target."""
        found = [0.0] * len(prompts)
        with self.evaluating(), torch.inference_mode():
            for places in self._by_length(prompts, batch_size):
                responses = self.encode_targets([targets[i] for i in places])
                logits = self.teacher_forced(self.encode([prompts[i] for i in places]), responses).logits
                of_token = logits.float().log_softmax(-1).gather(-1, responses.unsqueeze(-1)).squeeze(-1)
                of_target = (of_token * (responses != self.pad)).sum(1)
                for place, probability in zip(places, of_target.exp().tolist(), strict=True):
                    found[place] = probability
        return found

    def loss(self, prompts: Sequence[str], targets: Sequence[str], weights: Sequence[float] | None = None) -> Loss:
        """Cross-entropy of the targets given the prompts, averaged over target tokens.

        Args:
            weights: one factor per target, as advantages in policy gradients; then each target's own average counts
                with its factor, and they are averaged over targets.
        """
        batch, responses = self.encode(prompts), self.encode_targets(targets)
        live = responses != self.pad
        logits = self.teacher_forced(batch, responses).logits
        of_token = F.cross_entropy(
            logits.flatten(0, 1),
            responses.masked_fill(~live, IGNORED).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(responses)
        if weights is None:
            mean = of_token.sum() / live.sum()
        else:
            of_target = of_token.sum(1) / live.sum(1).clamp(min=1)
            mean = (of_target * torch.tensor(weights, device=of_target.device)).mean()
        return Loss(mean, int(batch["attention_mask"].sum()) + int(live.sum()))

    @staticmethod
    def _by_length(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
        """Places of the prompts in batches of similar length."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, no special ones added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off inside, the previous mode restored after."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)
