"""An encoder-decoder language model with its tokenizer: text in, text out, and a loss.

Generator and critic are both one of these; what differs is the prompt. Every token that is generated
or trained on is counted, because comparisons are made at equal tokens.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from agents.prompts import CONTROL_TOKENS
from refiner_env.errors import CheckpointError, did_you_mean

SIZES = {
    "tiny": {"d_model": 128, "d_ff": 512, "d_kv": 32, "num_heads": 4, "num_layers": 2},
    "mini": {"d_model": 128, "d_ff": 512, "d_kv": 16, "num_heads": 8, "num_layers": 3, "num_decoder_layers": 2},
    "small": {"d_model": 256, "d_ff": 1024, "d_kv": 32, "num_heads": 8, "num_layers": 5},
}
"""T5 shapes built from scratch: about 1, 1.4 and 10 M parameters with a 2,000-piece vocabulary."""

IGNORED = -100
"""The label that cross-entropy leaves out: padding is never trained on."""


@dataclass(frozen=True)
class Loss:
    """A loss with what it cost."""

    mean: torch.Tensor
    """Cross-entropy per target token, scalar with gradient."""
    tokens: int
    """Prompt and target tokens passed forward, padding not counted."""


def _refuse_missing(path: Path) -> None:
    """Refuse a folder that is not there, before a hub is asked for it: where it would lie, or no id has its form.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not path.exists() and (len(path.parts) > 2 or (len(path.parts) == 2 and path.parent.is_dir())):
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no such folder.{did_you_mean(path.name, beside)}")


class Seq2Seq:
    """A model, its tokenizer and its token counts.

    Args:
        model: any Hugging Face encoder-decoder.
        tokenizer: its tokenizer; control tokens that it lacks are added to it and to the model.
        max_prompt_tokens: longer prompts are cut at the end, and counted in `cut_prompts`; so are targets.
        max_new_tokens: the longest generation.
    """

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
        self.add_tokens(CONTROL_TOKENS)

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Make sure that the tokenizer has these marks: where it cannot spell one, all become tokens of their own."""
        # A piece may stand in the vocabulary with its leading space (our own tokenizers) or without (hub ones).
        if any(self.tokenizer.unk_token_id in self._ids(token) for token in tokens):
            self.tokenizer.add_tokens(list(tokens))
            if len(self.tokenizer) > self.model.get_input_embeddings().num_embeddings:
                self.model.resize_token_embeddings(len(self.tokenizer))

    @classmethod
    def build(cls, size: str, tokenizer: PreTrainedTokenizerBase, *, dropout: float = 0.0) -> Seq2Seq:
        """A T5 from scratch in one of `SIZES`, randomly initialised from torch's global seed."""
        config = T5Config(
            vocab_size=len(tokenizer),
            dropout_rate=dropout,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            **SIZES[size],
        )
        return cls(T5ForConditionalGeneration(config).to(pick_device()), tokenizer)

    @classmethod
    def load(cls, name_or_path: str | Path, **config: Any) -> Seq2Seq:
        """A model and tokenizer from a folder or a Hugging Face id.

        Args:
            config: entries of the model's config to load it with, such as `dropout_rate` of a T5.

        Raises:
            CheckpointError: nothing there, or not an encoder-decoder.
        """
        try:
            _refuse_missing(Path(name_or_path))
            model = AutoModelForSeq2SeqLM.from_pretrained(str(name_or_path), dtype=torch.float32, **config)
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"Cannot load an encoder-decoder model from {str(name_or_path)!r}: {reason}"
                " Give a folder written by refiner train, a Hugging Face id of a T5, refiner-tiny or scratch:tiny."
            ) from None
        return cls(model.to(pick_device()), tokenizer)

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

    def fits(self, prompt: str) -> bool:
        """Whether it reads the whole prompt."""
        return len(self.tokenizer(prompt)["input_ids"]) <= self.max_prompt_tokens

    def clone(self) -> Seq2Seq:
        """An independent copy with fresh counts."""
        lengths = {"max_prompt_tokens": self.max_prompt_tokens, "max_new_tokens": self.max_new_tokens}
        return Seq2Seq(copy.deepcopy(self.model), self.tokenizer, **lengths)

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
            options["begin_suppress_tokens"] = self._ids(not_first)[:1]
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
                output = self.model.generate(**batch, max_new_tokens=self.max_new_tokens, **options)
                self.generated_tokens += int((output[:, 1:] != self.tokenizer.pad_token_id).sum())
                decoded = self.tokenizer.batch_decode(output, skip_special_tokens=True)
                each = len(decoded) // len(places)
                for i, place in enumerate(places):
                    texts[place] = decoded[i * each : (i + 1) * each]
        return texts

    def probabilities(self, prompts: Sequence[str], targets: Sequence[str], *, batch_size: int = 256) -> list[float]:
        """For each prompt, in order, the probability that its whole completion is the target."""
        found = [0.0] * len(prompts)
        with self.evaluating(), torch.inference_mode():
            for places in self._by_length(prompts, batch_size):
                batch, labels = self.encode([prompts[i] for i in places]), self._labels([targets[i] for i in places])
                logs = self.model(**batch, labels=labels).logits.float().log_softmax(-1)
                written = labels != IGNORED
                of_target = logs.gather(-1, labels.where(written, 0).unsqueeze(-1)).squeeze(-1) * written
                for place, probability in zip(places, of_target.sum(1).exp().tolist(), strict=True):
                    found[place] = probability
        return found

    def loss(self, prompts: Sequence[str], targets: Sequence[str], weights: Sequence[float] | None = None) -> Loss:
        """Cross-entropy of the targets given the prompts, averaged over target tokens.

        Args:
            weights: one factor per target, as advantages in policy gradients; then each target's own average counts
                with its factor, and they are averaged over targets.
        """
        batch, labels = self.encode(prompts), self._labels(targets)
        output = self.model(**batch, labels=labels)
        mean = output.loss
        if weights is not None:
            of_token = torch.nn.functional.cross_entropy(
                output.logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
            )
            of_target = of_token.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)
            mean = (of_target * torch.tensor(weights, device=of_target.device)).mean()
        tokens = int(batch["attention_mask"].sum()) + int((labels != IGNORED).sum())
        return Loss(mean, tokens)

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, each (len(prompts), longest prompt), on the model's device."""
        batch = self._tokenize(prompts, self.max_prompt_tokens)
        if batch["input_ids"].shape[1] == self.max_prompt_tokens:
            self.cut_prompts += int(batch["attention_mask"].all(dim=1).sum())
        return {key: batch[key].to(self.model.device) for key in ("input_ids", "attention_mask")}

    def _labels(self, targets: Sequence[str]) -> torch.Tensor:
        labels = self._tokenize(targets, self.max_prompt_tokens)["input_ids"].to(self.model.device)
        labels[labels == self.tokenizer.pad_token_id] = IGNORED
        return labels

    @staticmethod
    def _by_length(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
        """Places of the prompts in batches of similar length."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def _tokenize(self, texts: Sequence[str], max_length: int) -> dict[str, torch.Tensor]:
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        return dict(batch)

    def _ids(self, text: str) -> list[int]:
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


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
