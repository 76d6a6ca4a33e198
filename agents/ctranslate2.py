"""The decoding back end CTranslate2, for models on a CPU whose weights stay.

A model is converted once, from its weights in memory, and kept in a cache. There its vocabulary is "0", "1", "2" and so
on, the numbers of the tokens, so that what a tokenizer holds or lacks makes no difference. Sampling by numbers drawn
beforehand is not CTranslate2's, and stays with the model itself; so does beam search.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.conversion import check, kept
from agents.decoding import Decoding, Leaving, Row
from agents.lora import merged
from refiner_env.errors import OptionError, reason

if TYPE_CHECKING:
    from agents.lm import LanguageModel

SCORED = 16
"""Texts that are scored at once, at most: smaller batches hold less padding, and every token is computed at once."""
TOLERANCE = {"float32": 1e-3, "int8": 0.5}
"""Within so much a token log-probabilities have to be those of the model itself."""


class CTranslate2(Leaving):
    """A converted model.

    Args:
        lm: the model, as it is now.
        compute_type: float32, or int8 for weights of 8 bits.

    Raises:
        OptionError: the model cannot be decoded so; the message says why.
    """

    def __init__(self, lm: LanguageModel, compute_type: str = "float32") -> None:
        self.name = "ctranslate2" if compute_type == "float32" else f"ctranslate2-{compute_type}"
        if lm.model.device.type != "cpu":
            raise OptionError(f"{self.name} is for models on a CPU, and this one is on {lm.model.device}.")
        if not find_spec("ctranslate2"):
            raise OptionError(f"{self.name} is not installed: pip install -e '.[fast]' in the checkout.")
        from ctranslate2 import Generator, Translator, __version__

        self.translates = bool(lm.model.config.is_encoder_decoder)
        self.threads = torch.get_num_threads()
        self.tokens = _numbers(lm)
        folder = kept(lm, f"ctranslate2-{__version__}", _convert)
        kind = Translator if self.translates else Generator
        try:
            self.model: Any = kind(str(folder), compute_type=compute_type, inter_threads=self.threads, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            raise OptionError(f"{self.name} cannot read {folder}: {reason(error)} Delete that folder.") from None
        try:
            with lm.inferring():
                check(self, lm, TOLERANCE[compute_type])
        except OptionError:
            raise
        except (RuntimeError, ValueError) as error:
            raise OptionError(f"{self.name} cannot run this model: {reason(error)}") from None

    def generate(self, lm: LanguageModel, prompts: Sequence[Row], decoding: Decoding) -> list[Row]:
        if decoding.top_p:
            return super().generate(lm, prompts, decoding)
        most, first = decoding.max_new_tokens, decoding.not_first
        written = [row for (row,) in self._write(lm, prompts, most)]
        forbidden = [i for i, row in enumerate(written) if row[0] == first]
        again = [prompts[i] for i in forbidden]
        if self.translates:  # the two likeliest first tokens, each with its greedy completion
            both = self._write(lm, again, most, num_hypotheses=2, return_alternatives=True)
            others = [next(row for row in rows if row[0] != first) for rows in both]
        else:  # of decoder-only models it returns parts of longer prompts as alternatives
            others = super().generate(lm, again, decoding)
        for i, row in zip(forbidden, others, strict=True):
            written[i] = row
        return written

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Row], targets: Sequence[Row]) -> list[float]:
        options = {"max_batch_size": self._shared(min(SCORED, lm.most_at_once), prompts), "max_input_length": 0}
        if self.translates:  # which adds the end by itself
            end = lm.start["eos_token_id"]
            rows = [target[:-1] if target[-1:] == [end] else target for target in targets]
            scores = self.model.score_batch(self._named(prompts), self._named(rows), **options)
            return [sum(s.log_probs[: len(target)]) for s, target in zip(scores, targets, strict=True)]
        rows = [[*prompt, *target] for prompt, target in zip(prompts, targets, strict=True)]
        scores = self.model.score_batch(self._named(rows), **options)
        return [sum(s.log_probs[-len(target) :]) for s, target in zip(scores, targets, strict=True)]

    def _write(self, lm: LanguageModel, prompts: Sequence[Row], most: int, **options: Any) -> list[list[Row]]:
        """Greedy completions of each prompt."""
        at_once = self._shared(lm.most_at_once, prompts)
        options |= {"beam_size": 1, "return_end_token": True, "max_batch_size": at_once}
        named = self._named(prompts)
        if self.translates:
            lengths = {"max_decoding_length": most, "min_decoding_length": 0, "max_input_length": 0}
            found = [result.hypotheses for result in self.model.translate_batch(named, **lengths, **options)]
        else:  # longer ones where others of the batch have longer prompts
            options |= {"max_length": most, "include_prompt_in_result": False}
            found = [result.sequences for result in self.model.generate_batch(named, **options)]
        return [[[int(token) for token in row[:most]] for row in rows] for rows in found]

    def _named(self, rows: Sequence[Row]) -> list[list[str]]:
        return [[self.tokens[token] for token in row] for row in rows]

    def _shared(self, most: int, prompts: Sequence[Row]) -> int:
        """How many of the prompts make a batch, so that every thread has one to work at."""
        return max(1, min(most, -(-len(prompts) // self.threads)))


def _convert(lm: LanguageModel, folder: Path) -> None:
    """Write the converted model, of float32 weights, into a new folder, and its config beside that.

    Raises:
        OptionError: CTranslate2 does not know such models.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        """Converts what is in memory."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            # Weights are shared, but modules are not: the converter takes them apart.
            model = merged(lm)
            return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return Numbers(lm)

        def _load(self) -> Any:
            spec = super()._load()
            # It reads from tie_word_embeddings whether a T5 scales, which transformers 5 sets in every one.
            config = lm.model.config
            if not getattr(config, "scale_decoder_outputs", config.model_type != "mt5"):
                spec.decoder.scale_outputs = 1.0
            return spec

    lm.model.config.save_pretrained(folder.parent)
    try:
        Converter(str(folder.parent)).convert(str(folder))
    except OSError:
        raise
    except Exception as error:  # somebody else's code, which knows some models and transformers alone
        kind = type(lm.model.config).__name__.removesuffix("Config")
        raise OptionError(f"ctranslate2 cannot convert models of the kind {kind}: {reason(error):.200}") from None


class Numbers:
    """In the tokenizer's place where a model is converted: every token is called by its number."""

    def __init__(self, lm: LanguageModel) -> None:
        self.tokens, start = _numbers(lm), lm.start
        self.eos_token, self.pad_token = str(start["eos_token_id"]), str(lm.pad)
        self.bos_token = self.unk_token = self.pad_token  # neither is written

    def get_vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def convert_ids_to_tokens(self, token: int) -> str:
        return str(token)


def _numbers(lm: LanguageModel) -> list[str]:
    return [str(i) for i in range(lm.model.get_input_embeddings().num_embeddings)]
