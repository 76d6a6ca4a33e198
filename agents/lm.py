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
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.decoding import BACKENDS, DEFAULT, PASS, Batch, Decoding, Row, by_length, draws
from agents.prompts import CONTROL_TOKENS

REMEMBERED = 1 << 15
"""Texts whose tokens are remembered."""
IGNORED = -100
"""The label that cross-entropy leaves out: padding is never trained on."""


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
class Frame:
    """The special tokens around a text."""

    before: Row
    after: Row

    @classmethod
    def of(cls, a: Row, b: Row) -> Frame:
        """What two texts of different tokens have in common, in their frames."""
        return cls(_shared(a, b), _shared(a[::-1], b[::-1])[::-1])

    def around(self, ids: Row) -> Row:
        """Tokens in the frame."""
        return [*self.before, *ids, *self.after]


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
    padding_side = "right"
    """Of prompts; of targets it is the right."""

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
        self.passed_tokens = self.padded_tokens = 0  # of prompts, without padding and with it
        self.backend = BACKENDS[DEFAULT]
        self.most_at_once = 64  # prompts in one pass of `generate` and its like
        self.precision = torch.float32  # of what is computed; weights stay as they are
        self.added: list[int] = []  # tokens that the model did not know before
        self._known: dict[str, Row] = {}
        self.add_tokens(self.marks)
        self.prompt_frame, self.target_frame = self.frames()

    @property
    def pad(self) -> int:
        """The id of padding, which no text has."""
        return int(self.tokenizer.pad_token_id)

    @property
    def start(self) -> dict[str, int]:
        """What `generate` has to be told of the special tokens."""
        return {"pad_token_id": self.pad, "eos_token_id": int(self.tokenizer.eos_token_id)}

    @abstractmethod
    def frames(self) -> tuple[Frame, Frame]:
        """What stands before and after the tokens of a prompt, and of a target."""

    @abstractmethod
    def completions(self, sequences: torch.Tensor, width: int) -> torch.Tensor:
        """What `generate` wrote beyond prompts of this width, (N, R)."""

    def completed(self, sequences: torch.Tensor, width: int) -> list[Row]:
        """The same without what follows the token that ended it."""
        end = self.start["eos_token_id"]
        rows: list[Row] = self.completions(sequences, width).tolist()
        return [row[: row.index(end) + 1] if end in row else row for row in rows]

    @abstractmethod
    def teacher_forced(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        """One pass over prompts and their responses (N, R), padded on the right.

        Returns:
            Logits (N, R, V): position t predicts response token t.
        """

    @abstractmethod
    def states(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        """The last hidden states (N, R, D) of the same pass, without the vocabulary's logits that come from them."""

    def ids(self, texts: Sequence[str]) -> list[Row]:
        """The tokens of texts, no special ones added; those that were asked for lately are remembered."""
        known = self._known
        if len(known) > REMEMBERED:
            known.clear()
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(new, self.tokenizer(new, add_special_tokens=False)["input_ids"], strict=True))
        return [known[text] for text in texts]

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """The texts that tokens spell, without special ones."""
        # The library takes no rows for one row.
        texts: list[str] = self.tokenizer.batch_decode(rows, skip_special_tokens=True) if rows else []
        return texts

    def fits(self, prompt: str) -> bool:
        """Whether it reads the whole prompt."""
        return len(self.ids([prompt])[0]) <= self._room(self.prompt_frame)

    def prompt_rows(self, prompts: Sequence[str]) -> list[Row]:
        """The tokens of prompts in their frame; those that are cut are counted."""
        room, ids = self._room(self.prompt_frame), self.ids(prompts)
        self.cut_prompts += sum(len(row) > room for row in ids)
        return [self.prompt_frame.around(row[:room]) for row in ids]

    def target_rows(self, targets: Sequence[str]) -> list[Row]:
        """The tokens of targets in their frame, cut as prompts are."""
        room = self._room(self.target_frame)
        return [self.target_frame.around(row[:room]) for row in self.ids(targets)]

    def _room(self, frame: Frame) -> int:
        return self.max_prompt_tokens - len(frame.before) - len(frame.after)

    def encode(self, prompts: Sequence[str]) -> Batch:
        """Prompts as input, each (N, longest prompt)."""
        return self.batch(self.prompt_rows(prompts))

    def batch(self, prompts: Sequence[Row], width: int = 0) -> Batch:
        """The same of their tokens, at least so wide."""
        ids, lengths = self.padded(prompts, self.padding_side, width), torch.tensor([len(row) for row in prompts])
        places = torch.arange(ids.shape[1])
        mask = (places if self.padding_side == "right" else places.flip(0)) < lengths[:, None]
        self.passed_tokens += sum(map(len, prompts))
        self.padded_tokens += ids.numel()
        return {"input_ids": ids, "attention_mask": self.placed(mask.long())}

    def padded(self, rows: Sequence[Row], side: str = "right", width: int = 0) -> torch.Tensor:
        """Rows as one tensor, (N, longest) or wider, on the model's device."""
        width = max([width, *map(len, rows)])
        fillings = [[self.pad] * (width - len(row)) for row in rows]
        pairs = zip(rows, fillings, strict=True)
        padded = [row + filling if side == "right" else filling + row for row, filling in pairs]
        return self.placed(torch.tensor(padded, dtype=torch.long))

    def placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the model's device; what was given to a GPU before need not be done."""
        return tensor.to(self.model.device, non_blocking=True)

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Make sure that the tokenizer has these marks: where it cannot spell one, all become tokens of their own."""
        # A piece may stand in the vocabulary with its leading space (our own tokenizers) or without (hub ones).
        if any(self.tokenizer.unk_token_id in ids for ids in self.ids(tokens)):
            known = len(self.tokenizer)
            self.tokenizer.add_tokens(list(tokens))
            self._known.clear()
            self.added += range(known, len(self.tokenizer))
            self.fit_vocabulary()

    def fit_vocabulary(self) -> None:
        """Give every token of the tokenizer an embedding."""
        if len(self.tokenizer) > self.model.get_input_embeddings().num_embeddings:
            self.model.resize_token_embeddings(len(self.tokenizer))
            self.backend = BACKENDS.get(self.backend.name, BACKENDS[DEFAULT])  # a converted model lacks them

    def save(self, folder: str | Path) -> None:
        """Write model (safetensors) and tokenizer for `from_pretrained`; each file whole or not at all."""
        unfinished = Path(folder) / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.model.save_pretrained(unfinished)
        self.tokenizer.save_pretrained(unfinished)
        mode = (unfinished / "tokenizer_config.json").stat().st_mode
        for file in unfinished.iterdir():
            if file.suffix == ".safetensors":  # made for the owner alone
                file.chmod(mode)
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
        other.backend = self.backend
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
        if top_p and seeds is None:
            seeds = torch.randint(2**62, (len(prompts),)).tolist()
        decoding = Decoding(
            self.max_new_tokens,
            top_p,
            draws(seeds, self.max_new_tokens) if top_p and seeds is not None else None,
            self.ids([not_first])[0][0] if not_first else None,
        )
        with self.inferring():
            written = self.backend.generate(self, self.prompt_rows(prompts), decoding)
        self.generated_tokens += sum(map(len, written))
        return self.texts(written)

    def likeliest(self, prompts: Sequence[str], count: int) -> list[list[str]]:
        """For each prompt, in order, `count` completions by beam search, likeliest first."""
        with self.inferring():
            written = self.backend.likeliest(self, self.prompt_rows(prompts), count, self.max_new_tokens)
        self.generated_tokens += sum(len(row) for rows in written for row in rows)
        return [self.texts(rows) for rows in written]

    def probabilities(self, prompts: Sequence[str], targets: Sequence[str]) -> list[float]:
        """For each prompt, in order, the probability that its whole completion is the target."""
        with self.inferring():
            logs = self.backend.log_probabilities(self, self.prompt_rows(prompts), self.target_rows(targets))
        return [math.exp(log) for log in logs]

    def loss(self, prompts: Sequence[str], targets: Sequence[str], weights: Sequence[float] | None = None) -> Loss:
        """Cross-entropy of the targets given the prompts, over target tokens.

        Args:
            weights: one factor per target, as advantages in policy gradients; then each target's own average counts
                with its factor, and the loss is over targets.
        """
        rows, wanted = self.prompt_rows(prompts), self.target_rows(targets)
        batch, responses = self.batch(rows), self.padded(wanted)
        live = responses != self.pad
        with self.computing():
            logits = self.teacher_forced(batch, responses)
        of_token = F.cross_entropy(
            logits.float().flatten(0, 1),
            responses.masked_fill(~live, IGNORED).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(responses)
        if weights is None:
            total, count = of_token.sum(), sum(map(len, wanted))
        else:
            of_target = of_token.sum(1) / live.sum(1).clamp(min=1)
            total, count = (of_target * self.placed(torch.tensor(weights))).sum(), len(weights)
        return Loss(total, count, sum(map(len, rows)) + sum(map(len, wanted)))

    def loss_count(self, targets: Sequence[str], weights: Sequence[float] | None = None) -> int:
        """The `count` of the loss of all these targets, before any of it is computed."""
        return sum(map(len, self.target_rows(targets))) if weights is None else len(targets)

    def batches(self, lengths: Sequence[int], most: int, passes: int = 1) -> list[list[int]]:
        """Places of texts, the longest first, in batches of at most so many that are worth their passes (`by_length`).

        Args:
            passes: of each batch, where tokens are written one after the other.
        """
        return by_length(lengths, most, passes * PASS[self.model.device.type])

    def parts(self, lengths: Sequence[int], most: int | None) -> list[list[int]]:
        """Places of texts in parts to be learned from one by one, each of at most so many; None for no limit.

        On a CPU, where arithmetic is what costs, parts hold texts of similar length. A GPU may wait longer for one more
        pass to be launched than padding costs it: there parts follow the order that is given, and are as few as can be.
        """
        most = most or max(1, len(lengths))
        if self.model.device.type == "cpu":
            return by_length(lengths, most, 3 * PASS["cpu"])  # forward, and backward through inputs and weights
        return [list(range(len(lengths)))[start : start + most] for start in range(0, len(lengths), most)]

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What training changes, by name: all of a model, or its adapter."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast to `precision` inside, where it is not that of the weights."""
        reduced = self.precision != torch.float32
        return torch.autocast(self.model.device.type, self.precision, enabled=reduced, cache_enabled=False)

    @contextlib.contextmanager
    def inferring(self) -> Iterator[None]:
        """Neither dropout nor gradients inside."""
        with self.evaluating(), torch.inference_mode(), self.computing():
            yield

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off inside, the previous mode restored after."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)


def _shared(a: Row, b: Row) -> Row:
    """What two rows begin with."""
    return [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]
