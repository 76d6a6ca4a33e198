"""Decoding back ends: tokens of prompts in, tokens of completions out.

`transformers` is the reference, the library's own `generate`. `leaving` decodes the same, but completions that have
ended leave the batch, so that one that goes on for long costs the others nothing. `compiled` decodes in compiled
graphs of fixed shapes. Models whose weights stay may be converted for `ctranslate2` (`agents/ctranslate2.py`) or given
to `vllm` (`agents/vllm.py`); which it is to be, `refiner_env/decoding.py` knows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CompileConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.generation import EncoderNoRepeatNGramLogitsProcessor, EncoderRepetitionPenaltyLogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from refiner_env.decoding import AUTO, FOLLOWING
from refiner_env.errors import OptionError

if TYPE_CHECKING:
    from agents.lm import LanguageModel

Row = list[int]
"""The tokens of one text."""
Batch = dict[str, torch.Tensor]
"""`input_ids` and `attention_mask` of prompts, each (N, P), on the model's device."""
DEFAULT, REFERENCE, COMPILED = FOLLOWING
PASS = {"cpu": 64}
"""What a pass costs beside its tokens, as if it were so many more: so much padding is worth another. Else it is 1,024,
a guess: a GPU may wait for the launch of a pass."""
LEAVE = 0.25
"""Completions leave the batch when this share of it has ended: taking rows out of the cache costs copies."""
NARROW = 32
"""Tokens among which a nucleus is looked for before all are sorted, which costs more than a decoder's step."""
LOOK = {"cuda": 8}
"""Tokens between two looks at what has ended, where a look waits for the device; else it is 1."""
WHOLE = (EncoderNoRepeatNGramLogitsProcessor, EncoderRepetitionPenaltyLogitsProcessor)
"""They hold the prompts of the whole batch, which none can leave."""


@dataclass(frozen=True)
class Decoding:
    """How prompts are continued.

    Args:
        max_new_tokens: the longest completion.
        top_p: nucleus sampling with this mass (arXiv 1904.09751); None decodes greedily.
        draws: where it samples, uniform numbers in [0, 1), (N, max_new_tokens): one for each token to come.
        not_first: a token with which no completion begins.
        never: a token that none has.
        temperature: where it samples, what logits are divided by.
    """

    max_new_tokens: int
    top_p: float | None = None
    draws: torch.Tensor | None = None
    not_first: int | None = None
    never: int | None = None
    temperature: float = 1.0


class Backend(ABC):
    """Writes completions, and says how likely given ones are."""

    name: str

    @abstractmethod
    def generate(self, lm: LanguageModel, prompts: Sequence[Row], decoding: Decoding) -> list[Row]:
        """The completion of each prompt, in order, with the token that ended it."""

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Row], targets: Sequence[Row]) -> list[float]:
        """For each prompt, in order, the log-probability that its whole completion is the target."""
        found = [0.0] * len(prompts)
        lengths = [len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True)]
        for places in lm.batches(lengths):
            responses = lm.padded([targets[i] for i in places])
            logits = lm.teacher_forced(lm.batch([prompts[i] for i in places]), responses)
            of_token = logits.float().log_softmax(-1).gather(-1, responses.unsqueeze(-1)).squeeze(-1)
            of_target = (of_token * (responses != lm.pad)).sum(1)
            for place, log in zip(places, of_target.tolist(), strict=True):
                found[place] = log
        return found


class Transformers(Backend):
    """The reference: `generate` of the library."""

    name = REFERENCE

    def options(self, lm: LanguageModel) -> dict[str, Any]:
        """What `generate` is told beside the decoding."""
        return {}

    def batches(self, lm: LanguageModel, prompts: Sequence[Row]) -> list[list[int]]:
        """Places of the prompts that are decoded together, the longest first."""
        return lm.batches([len(prompt) for prompt in prompts], lm.max_new_tokens)

    def read(self, lm: LanguageModel, prompts: Sequence[Row]) -> dict[str, Any]:
        """A batch as `generate` takes it; the first of its rows are those of the prompts."""
        return dict(lm.batch(prompts))

    def generate(self, lm: LanguageModel, prompts: Sequence[Row], decoding: Decoding) -> list[Row]:
        written: list[Row] = [[] for _ in prompts]
        options = {"do_sample": False, "num_beams": 1, "max_new_tokens": decoding.max_new_tokens, **self.options(lm)}
        if decoding.not_first is not None:
            options["begin_suppress_tokens"] = [decoding.not_first]
        if decoding.never is not None:
            options["suppress_tokens"] = [decoding.never]
        for places in self.batches(lm, prompts):
            read = self.read(lm, [prompts[i] for i in places])
            if decoding.top_p:
                assert decoding.draws is not None
                drawn = lm.placed(decoding.draws[places])
                drawn = F.pad(drawn, (0, 0, 0, len(read["attention_mask"]) - len(drawn)))
                options["logits_processor"] = [NucleusSampling(decoding.top_p, drawn, decoding.temperature)]
            output = lm.model.generate(**read, synced_gpus=False, **lm.start, **options)
            for place, row in zip(places, lm.completed(output, read["attention_mask"].shape[1]), strict=False):
                written[place] = row
        return written


class Leaving(Transformers):
    """The reference's preparation with a loop of our own, which ended completions leave.

    An encoder reads prompts in parts of similar length, without padding; a decoder writes for all of them together,
    since a step costs it little more for many than for few.
    """

    name = DEFAULT

    def options(self, lm: LanguageModel) -> dict[str, Any]:
        # Whatever caches the model's own generation config asks for; rows leave this kind alone.
        return {"custom_generate": leaving, "use_cache": True, "cache_implementation": "dynamic"}

    def batches(self, lm: LanguageModel, prompts: Sequence[Row]) -> list[list[int]]:
        if not self._reads(lm):
            return super().batches(lm, prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        return [order[start : start + lm.most_at_once] for start in range(0, len(order), lm.most_at_once)]

    def read(self, lm: LanguageModel, prompts: Sequence[Row]) -> dict[str, Any]:
        if not self._reads(lm):
            return super().read(lm, prompts)
        width, states, masks = len(prompts[0]), [], []
        for places in lm.batches([len(prompt) for prompt in prompts]):  # the order stays
            batch = lm.batch([prompts[i] for i in places])
            hidden, more = lm.model.get_encoder()(**batch).last_hidden_state, width - len(prompts[places[0]])
            states.append(F.pad(hidden, (0, 0, 0, more)))
            masks.append(F.pad(batch["attention_mask"], (0, more)))
        encoded = BaseModelOutput(last_hidden_state=torch.cat(states))
        return {"encoder_outputs": encoded, "attention_mask": torch.cat(masks)}

    @staticmethod
    def _reads(lm: LanguageModel) -> bool:
        """Whether there is an encoder, and `generate` need not know what it reads."""
        rules = lm.model.generation_config
        asks = (rules.encoder_repetition_penalty or 1.0) != 1.0 or rules.encoder_no_repeat_ngram_size
        return bool(lm.model.config.is_encoder_decoder and not asks)


class Compiled(Transformers):
    """The reference with static caches and a compiled decoder, on a GPU as CUDA graphs.

    Prompts are padded to a few shapes, and each is compiled once, in which the first batch of it takes a minute.
    """

    name = COMPILED
    inductor = "inductor"

    def options(self, lm: LanguageModel) -> dict[str, Any]:
        mode = "reduce-overhead" if lm.model.device.type == "cuda" else "default"
        compiling = CompileConfig(backend=self.inductor, mode=mode, dynamic=False, fullgraph=False)
        compiling._compile_all_devices = True  # not on GPUs alone
        return {"cache_implementation": "static", "compile_config": compiling}

    def read(self, lm: LanguageModel, prompts: Sequence[Row]) -> dict[str, Any]:
        rows, width = (1 << max(6, (n - 1).bit_length()) for n in (len(prompts), len(prompts[0])))
        return dict(lm.batch([*prompts, *[prompts[0]] * (rows - len(prompts))], width))


def by_length(lengths: Sequence[int], most: int, cost: int) -> list[list[int]]:
    """Places of texts, the longest first, in batches of at most so many: those that cost least to pass.

    Args:
        cost: of a batch beside its tokens and their padding, in tokens.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    least = [(0, 0)]  # of so many texts: what they cost, and where the last of their batches begins
    for end in range(1, len(order) + 1):
        starts = range(max(0, end - most), end)
        least.append(min((least[start][0] + lengths[order[start]] * (end - start) + cost, start) for start in starts))
    batches, end = [], len(order)
    while end:
        start = least[end][1]
        batches.append(order[start:end])
        end = start
    return batches[::-1]


def leaving(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: Any,
    **prepared: Any,
) -> torch.Tensor:
    """The decoding loop that `generate` is given: (N, longest), padded on the right.

    The library's own is taken where rows cannot leave: models with another cache, as Mamba, and processors of `WHOLE`.

    Args:
        prepared: what `generate` has prepared: `attention_mask`, `past_key_values`, `encoder_outputs`.
    """
    if "past_key_values" not in prepared or any(isinstance(processor, WHOLE) for processor in logits_processor):
        sequences: torch.Tensor = model._sample(
            input_ids, logits_processor, stopping_criteria, generation_config, **prepared
        )
        return sequences
    end, pad, most = generation_config.eos_token_id, generation_config.pad_token_id, stopping_criteria.max_length
    cache, encoded = prepared["past_key_values"], prepared.get("encoder_outputs")
    read = input_ids if encoded is None else encoded.last_hidden_state[..., 0]
    mask = prepared.get("attention_mask")  # which is left out where it hides nothing
    mask = torch.ones_like(read, dtype=torch.long) if mask is None else mask
    whole = input_ids.new_full((len(input_ids), most), pad)
    whole[:, : input_ids.shape[1]] = input_ids
    rows, text, last = torch.arange(len(input_ids), device=input_ids.device), input_ids, input_ids
    over, look = torch.zeros_like(rows, dtype=torch.bool), LOOK.get(input_ids.device.type, 1)
    while text.shape[1] < most and len(rows):
        if encoded is None:
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -last.shape[1] :]  # padding on the left counts for nothing
            inputs = {"input_ids": last, "attention_mask": mask, "position_ids": places, "logits_to_keep": 1}
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        else:
            inputs = {"encoder_outputs": encoded, "attention_mask": mask, "decoder_input_ids": last}
        logits = model(**inputs, past_key_values=cache, use_cache=True).logits[:, -1].float()
        last = logits_processor(text, logits).argmax(-1, keepdim=True).masked_fill(over[:, None], pad)
        whole[rows, text.shape[1]] = last[:, 0]
        text = torch.cat([text, last], 1)
        over |= last[:, 0] == end
        if text.shape[1] % look == 0 and int(over.sum()) >= LEAVE * len(over):
            left = (~over).nonzero()[:, 0]
            rows, text, last, mask, over = rows[left], text[left], last[left], mask[left], over[left]
            cache.batch_select_indices(left)
            if encoded is not None:
                encoded.last_hidden_state = encoded.last_hidden_state[left]
            for processor in logits_processor:
                if isinstance(processor, NucleusSampling):
                    processor.draws = processor.draws[left]
    return whole[:, : text.shape[1]]


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Transformers(), Leaving(), Compiled())}


def freeze(lm: LanguageModel, choice: str) -> str:
    """Give a model whose weights stay the back end that is chosen, one of `refiner_env.decoding.DECODERS`.

    Returns:
        Why it is not a faster one, where `auto` could not take that; else "".

    Raises:
        OptionError: the back end that is asked for cannot decode this model.
    """
    if choice in BACKENDS:
        lm.backend = BACKENDS[choice]
        return ""
    if choice == "vllm":
        from agents.vllm import VLLM

        lm.backend = VLLM(lm)
        return ""
    from agents.ctranslate2 import CTranslate2

    try:
        lm.backend = CTranslate2(lm, "int8" if choice == "ctranslate2-int8" else "float32")
    except OptionError as error:
        if choice != AUTO:
            raise
        lm.backend = BACKENDS[DEFAULT]
        return str(error)
    return ""


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
        temperature: what the scores are divided by.
    """

    def __init__(self, top_p: float, draws: torch.Tensor, temperature: float = 1.0) -> None:
        self.top_p, self.draws, self.temperature, self.place = top_p, draws, temperature, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (N, V) in which only the sampled token is left, so that a greedy search takes it."""
        chances = (scores.float() / self.temperature).softmax(-1)
        drawn = self.draws[:, self.place, None].to(scores.device)
        self.place += 1
        # A GPU would have to wait to learn that so few are not enough.
        chosen = self._chosen(chances, drawn, NARROW if scores.device.type == "cpu" else scores.shape[-1])
        return torch.full_like(scores, -math.inf).scatter(-1, chosen, 0.0)

    def _chosen(self, chances: torch.Tensor, drawn: torch.Tensor, most: int) -> torch.Tensor:
        """The sampled tokens (N, 1), each from the likeliest `most` if its nucleus is among them, else from all."""
        if self.top_p >= 1:  # all are in the nucleus, in any order
            ordered, tokens = chances, torch.arange(chances.shape[-1], device=chances.device).expand_as(chances)
        elif most >= chances.shape[-1]:
            ordered, tokens = chances.sort(descending=True, stable=True)
        else:
            ordered, tokens = chances.topk(most)
        reached = ordered.cumsum(-1)
        last = (reached - ordered < self.top_p).sum(-1, keepdim=True) - 1
        below = (reached <= drawn * reached.gather(-1, last)).sum(-1, keepdim=True)  # in float32 some draws are 1
        chosen = tokens.gather(-1, below.minimum(last))
        if ordered.shape[-1] < chances.shape[-1] and len(wide := (reached[:, -1] < self.top_p).nonzero()[:, 0]):
            chosen[wide] = self._chosen(chances[wide], drawn[wide], chances.shape[-1])
        return chosen
