"""Decoding back ends: tokens of prompts in, tokens of completions out.

`transformers` is the reference, the library's own `generate`. `leaving` decodes the same, but completions that have
ended leave the batch, and so do prompts whose beam search is over: one that goes on for long costs the others nothing.
`compiled` decodes in compiled graphs of fixed shapes. Models whose weights stay may be converted for `ctranslate2`
(`agents/ctranslate2.py`) or given to `vllm` (`agents/vllm.py`); which it is to be, `refiner_env/decoding.py` knows.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    CompileConfig,
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer
from transformers.generation import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    EosTokenCriteria,
    MaxLengthCriteria,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
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
PASS = defaultdict(lambda: 1024, cpu=64)
"""What a pass costs beside its tokens, as if it were so many more, by device: so much padding is worth another. 1,024
is a guess: a GPU may wait for the launch of a pass."""
LEAVE = 0.25
"""Completions leave the batch when this share of it has ended: taking rows out of the cache costs copies."""
NARROW = 32
"""Tokens among which a nucleus is looked for before all are sorted, which costs more than a decoder's step."""
LOOK = {"cuda": 8}
"""Tokens between two looks at what has ended, where a look waits for the device; else it is 1."""
WHOLE = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
"""They hold more of the whole batch than `Rows` knows of, so that none can leave it."""
HELD = ("draws", "prompt_ignore_length")
"""What other processors hold of each row."""
ENDS = (EosTokenCriteria, MaxLengthCriteria)
"""What ends a completion in our own loops."""
FAR = -1e9
"""In the library's beam search, what is added to the scores of all that may not be taken."""


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

    @abstractmethod
    def likeliest(self, lm: LanguageModel, prompts: Sequence[Row], count: int, max_new_tokens: int) -> list[list[Row]]:
        """For each prompt, in order, so many completions by a beam search of as many beams, likeliest first."""

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Row], targets: Sequence[Row]) -> list[float]:
        """For each prompt, in order, the log-probability that its whole completion is the target."""
        found = [0.0] * len(prompts)
        lengths = [len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True)]
        for places in lm.batches(lengths, lm.most_at_once):
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

    def batches(self, lm: LanguageModel, prompts: Sequence[Row], most: int) -> list[list[int]]:
        """Places of the prompts that are decoded together, at most so many, the longest first."""
        return lm.batches([len(prompt) for prompt in prompts], most, passes=lm.max_new_tokens)

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
        for places in self.batches(lm, prompts, lm.most_at_once):
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

    def likeliest(self, lm: LanguageModel, prompts: Sequence[Row], count: int, max_new_tokens: int) -> list[list[Row]]:
        found: list[list[Row]] = [[] for _ in prompts]
        beams = {"do_sample": False, "num_beams": count, "num_return_sequences": count, **self.options(lm)}
        for places in self.batches(lm, prompts, max(1, lm.most_at_once // count)):
            read = self.read(lm, [prompts[i] for i in places])
            output = lm.model.generate(**read, max_new_tokens=max_new_tokens, synced_gpus=False, **lm.start, **beams)
            written = lm.completed(output, read["attention_mask"].shape[1])
            for i, place in enumerate(places):
                found[place] = written[i * count : (i + 1) * count]
        return found


class Leaving(Transformers):
    """The reference's preparation with loops of our own, which ended completions leave.

    Prompts are read in parts of similar length, with little padding, and continued all together, since a step costs
    little more for many of them than for few.
    """

    name = DEFAULT

    def options(self, lm: LanguageModel) -> dict[str, Any]:
        # Whatever caches the model's own generation config asks for; rows leave this kind alone.
        return {"custom_generate": partial(leaving, lm), "use_cache": True, "cache_implementation": "dynamic"}

    def batches(self, lm: LanguageModel, prompts: Sequence[Row], most: int) -> list[list[int]]:
        if not self._in_parts(lm):
            return super().batches(lm, prompts, most)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        return [order[start : start + most] for start in range(0, len(order), most)]

    def read(self, lm: LanguageModel, prompts: Sequence[Row]) -> dict[str, Any]:
        if not lm.model.config.is_encoder_decoder or not self._in_parts(lm):  # prompts of a decoder, `Rows` reads
            return super().read(lm, prompts)
        lengths, states, masks = [len(prompt) for prompt in prompts], [], []
        for places in lm.batches(lengths, len(prompts)):  # the order stays
            batch, more = lm.batch([prompts[i] for i in places]), lengths[0] - lengths[places[0]]
            states.append(F.pad(lm.model.get_encoder()(**batch).last_hidden_state, (0, 0, 0, more)))
            masks.append(F.pad(batch["attention_mask"], (0, more)))
        return {"encoder_outputs": BaseModelOutput(torch.cat(states)), "attention_mask": torch.cat(masks)}

    @staticmethod
    def _in_parts(lm: LanguageModel) -> bool:
        """Whether what parts of a batch have read can be put together, and an encoder's `generate` may not know it."""
        if not lm.model.config.is_encoder_decoder:
            return joins(DynamicCache(config=lm.model.config))
        rules = lm.model.generation_config
        return (rules.encoder_repetition_penalty or 1.0) == 1.0 and not rules.encoder_no_repeat_ngram_size


class Compiled(Transformers):
    """The reference with static caches and a compiled decoder, on a GPU as CUDA graphs.

    Prompts are padded to a few shapes, and each is compiled once, in which the first batch of it takes up to a minute.
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

    def likeliest(self, lm: LanguageModel, prompts: Sequence[Row], count: int, max_new_tokens: int) -> list[list[Row]]:
        # It is asked of few prompts at a time: there are many shapes to compile, and little to gain.
        return BACKENDS[DEFAULT].likeliest(lm, prompts, count, max_new_tokens)


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
    lm: LanguageModel,
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: Any,
    **prepared: Any,
) -> torch.Tensor:
    """The decoding loop that `generate` is given: (N, longest), padded on the right.

    The library's own is taken where rows cannot leave: models with another cache, as Mamba, and processors of `WHOLE`;
    and where something else than `ENDS` ends a completion.

    Args:
        lm: whose `generate` it is given to, for its batches and counts.
        prepared: what `generate` has prepared: `attention_mask`, `past_key_values`, `encoder_outputs`.
    """
    alone = generation_config.num_beams == 1
    whole = any(isinstance(processor, WHOLE) for processor in logits_processor)
    if whole or "past_key_values" not in prepared or not all(isinstance(end, ENDS) for end in stopping_criteria):
        library = model._sample if alone else model._beam_search
        sequences: torch.Tensor = library(input_ids, logits_processor, stopping_criteria, generation_config, **prepared)
        return sequences
    search = greedy_search if alone else beam_search
    rows = Rows(lm, model, input_ids, logits_processor, prepared)
    return search(rows, input_ids, stopping_criteria.max_length, generation_config)


class Rows:
    """What a model holds of the texts that it continues, of which some may go on without the others.

    Args:
        texts: (N, L) tokens: prompts, or what a decoder begins with.
        prepared: see `leaving`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        model: PreTrainedModel,
        texts: torch.Tensor,
        processors: LogitsProcessorList,
        prepared: dict[str, Any],
    ) -> None:
        self.lm, self.model, self.processors = lm, model, processors
        self.cache, self.encoded = prepared["past_key_values"], prepared.get("encoder_outputs")
        read = texts if self.encoded is None else self.encoded.last_hidden_state[..., 0]
        mask = prepared.get("attention_mask")  # which is left out where it hides nothing
        self.mask = torch.ones_like(read, dtype=torch.long) if mask is None else mask
        self.look = LOOK.get(texts.device.type, 1)

    def logits(self, last: torch.Tensor) -> torch.Tensor:
        """Those of the next token (N, V), given the last ones (N, L) that were not given before."""
        begins = self.encoded is None and not self.cache.get_seq_length()
        return self._read(last) if begins and joins(self.cache) else self._passed(last)

    def _read(self, prompts: torch.Tensor) -> torch.Tensor:
        """The same of prompts (N, L), the longest first: those of similar length are passed together."""
        cache, mask, lengths = self.cache, self.mask, self.mask.sum(1).tolist()
        caches, logits = [], []
        for places in self.lm.batches(lengths, len(lengths)):  # the order stays
            part, width = slice(places[0], places[-1] + 1), lengths[places[0]]
            self.lm.padded_tokens -= len(places) * (lengths[0] - width)  # it was counted as one batch
            self.cache, self.mask = copy.deepcopy(cache), mask[part, -width:]
            logits.append(self._passed(prompts[part, -width:]))
            caches.append((self.cache, (0, 0, lengths[0] - width, 0)))
        for number in range(len(self.cache.layers)):
            keys, values = (
                torch.cat([F.pad(getattr(other.layers[number], what), more) for other, more in caches])
                for what in ("keys", "values")
            )
            cache.update(keys, values, number)
        self.cache, self.mask = cache, F.pad(mask, (0, 1), value=1)
        return torch.cat(logits)

    def _passed(self, last: torch.Tensor) -> torch.Tensor:
        if self.encoded is None:
            places = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -last.shape[1] :]  # not padding on the left
            inputs = {"input_ids": last, "attention_mask": self.mask, "position_ids": places, "logits_to_keep": 1}
            self.mask = F.pad(self.mask, (0, 1), value=1)
        else:
            inputs = {"encoder_outputs": self.encoded, "attention_mask": self.mask, "decoder_input_ids": last}
        logits: torch.Tensor = self.model(**inputs, past_key_values=self.cache, use_cache=True).logits[:, -1].float()
        return logits

    def select(self, rows: torch.Tensor) -> None:
        """Go on with these rows."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
        if self.encoded is not None:
            self.encoded.last_hidden_state = self.encoded.last_hidden_state[rows]
        for processor in self.processors:
            for name in HELD:
                if isinstance(held := getattr(processor, name, None), torch.Tensor):
                    setattr(processor, name, held[rows])

    def reorder(self, rows: torch.Tensor) -> None:
        """Go on with these rows, each in the place of one of the same prompt: what they have read stays."""
        if self.look > 1 or not torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            getattr(self.cache, "self_attention_cache", self.cache).reorder_cache(rows)


def joins(cache: Any) -> bool:
    """Whether what it holds of a prompt may be padded on the left: it keeps all tokens, each in its place."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def greedy_search(rows: Rows, texts: torch.Tensor, longest: int, config: Any) -> torch.Tensor:
    """The texts (N, L) with what follows, token by token the likeliest, (N, at most longest)."""
    end, pad = config.eos_token_id, config.pad_token_id
    whole = texts.new_full((len(texts), longest), pad)
    whole[:, : texts.shape[1]] = texts
    places, last = torch.arange(len(texts), device=texts.device), texts
    over = torch.zeros_like(places, dtype=torch.bool)
    while texts.shape[1] < longest and len(places):
        scores = rows.processors(texts, rows.logits(last))
        last = scores.argmax(-1, keepdim=True).masked_fill(over[:, None], pad)
        whole[places, texts.shape[1]] = last[:, 0]
        texts = torch.cat([texts, last], 1)
        over |= last[:, 0] == end
        if texts.shape[1] % rows.look == 0 and int(over.sum()) >= LEAVE * len(over):
            left = (~over).nonzero()[:, 0]
            places, texts, last, over = places[left], texts[left], last[left], over[left]
            rows.select(left)
    return whole[:, : texts.shape[1]]


def beam_search(rows: Rows, texts: torch.Tensor, longest: int, config: Any) -> torch.Tensor:
    """The library's beam search, which a prompt leaves with all its beams when its own search is over.

    Args:
        texts: (N * B, L): each of N once for every beam.

    Returns:
        (N * B, longest): for each of them B texts with what follows, likeliest first.
    """
    beams, begin, penalty = config.num_beams, texts.shape[1], config.length_penalty
    every = torch.arange(len(texts), device=texts.device)
    rows.select(every[::beams])  # the beams of a prompt begin alike
    logits = rows.logits(texts[::beams])[every // beams]
    rows.select(every // beams)
    whole = texts.new_full((len(texts) // beams, beams, longest), config.pad_token_id)
    texts, places = texts.view(len(whole), beams, begin), every[: len(whole)]
    scores = torch.full((len(whole), beams), FAR, device=texts.device)
    ended, ended_scores = texts, scores.clone()
    scores[:, 0], over = 0.0, torch.zeros_like(places, dtype=torch.bool)
    while True:
        each, size = torch.arange(len(texts), device=texts.device)[:, None], logits.shape[-1]
        logs = rows.processors(texts.flatten(0, 1), logits.log_softmax(-1)).view(-1, beams, size)
        # Of twice as many continuations as there are beams, enough do not end.
        sums, chosen = (logs + scores[..., None]).flatten(1).topk(2 * beams)
        beam, token = chosen // size, chosen % size
        longer = torch.cat([texts[each, beam], token[..., None]], -1)
        length, last = longer.shape[-1] - begin, longer.shape[-1] == longest
        ends = (token == config.eos_token_id) | last
        scores, best = (sums + FAR * ends).topk(beams)
        texts, beam = longer[each, best], beam[each, best]
        ends[:, beams:] = False  # the other half is there to be continued
        final = sums / length**penalty + FAR * (~ends | over[:, None])
        ended_scores, best = torch.cat([ended_scores, final], 1).topk(beams)
        ended = torch.cat([F.pad(ended, (0, 1), value=config.pad_token_id), longer], 1)[each, best]
        # A search is over when its likeliest text, if it ended now ("never": whenever), would not be among the best
        # that have ended; with `early_stopping` as soon as there are enough of these.
        hoped = longest - begin if config.early_stopping == "never" and penalty > 0 else length
        over |= ~(scores[:, 0] / hoped**penalty > ended_scores[:, -1])
        if config.early_stopping is True:
            over |= ended_scores[:, -1] > FAR / 2
        if last or (longer.shape[-1] % rows.look == 0 and bool(over.any())):
            over |= last
            whole[places[over], :, : longer.shape[-1]] = ended[over]
            left = (~over).nonzero()[:, 0]
            if not len(left):
                return whole.flatten(0, 1)
            rows.select((each * beams + beam)[left].flatten())
            kept = (places, texts, scores, ended, ended_scores, over)
            places, texts, scores, ended, ended_scores, over = (tensor[left] for tensor in kept)
        else:
            rows.reorder((each * beams + beam).flatten())
        logits = rows.logits(texts[..., -1:].flatten(0, 1))


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
