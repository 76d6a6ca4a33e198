"""The decoding back end vLLM (arXiv 2309.06180), for decoder-only models whose weights stay; it is made for GPUs.

It holds the weights a second time, beside the model itself, which goes on sampling by numbers drawn beforehand and
searching by beams. Each runs in a process of its own: in ours it would seed the generators, take hold of the threads
and open a process group, which the first engine that is given up closes for all others.
"""

from __future__ import annotations

import os
import signal
import warnings
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.conversion import LOOSE, check, kept
from agents.decoding import Decoding, Leaving, Row
from agents.lora import merged
from refiner_env.errors import OptionError, reason

if TYPE_CHECKING:
    from agents.lm import LanguageModel

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TRITON_F32_DEFAULT": "ieee",
}
"""Its environment variables, where they are not set: no further process, no notices, nothing told to its makers, and no
float32 rounded to TF32, which the model itself does not do."""
SHARE = 0.5
"""What it takes of the memory that is free on a GPU; the rest is for the next model."""
CPU_CACHE = 1 << 30
"""Bytes of keys and values on a CPU, where VLLM_CPU_KVCACHE_SPACE does not say otherwise."""
TOLERANCE = 1e-3
"""Within so much a token log-probabilities in float32 have to be those of the model itself."""


class VLLM(Leaving):
    """A model in vLLM.

    Args:
        lm: the model, as it is now.

    Raises:
        OptionError: the model cannot be decoded so; the message says why.
    """

    name = "vllm"

    def __init__(self, lm: LanguageModel) -> None:
        if lm.model.config.is_encoder_decoder:
            raise OptionError("vllm knows no encoder-decoders: take ctranslate2 on a CPU, else leaving.")
        if not find_spec("vllm"):
            raise OptionError("vllm is not installed: pip install -e '.[vllm]' in the checkout.")
        asked = lm.max_prompt_tokens + lm.max_new_tokens
        self.longest = min(asked, getattr(lm.model.config, "max_position_embeddings", None) or asked)
        options = {"dtype": str(lm.precision).removeprefix("torch."), "max_model_len": self.longest}
        if lm.model.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(lm.model.device)
            options["gpu_memory_utilization"] = SHARE * free / total
        else:
            options |= {"kv_cache_memory_bytes": CPU_CACHE, "enforce_eager": True}
        self.engine = ProcessPoolExecutor(1, get_context("spawn"))
        weakref.finalize(self, self.engine.shutdown)  # and not first when Python ends, which may find it half closed
        try:
            self.engine.submit(_start, str(kept(lm, "vllm", _save)), options).result()
            with lm.inferring():
                check(self, lm, TOLERANCE if lm.precision == torch.float32 else LOOSE)
        except OptionError:
            raise
        except Exception as error:  # somebody else's code, on a machine that may lack what it needs
            raise OptionError(f"vllm cannot run this model: {reason(error):.200}") from None

    def generate(self, lm: LanguageModel, prompts: Sequence[Row], decoding: Decoding) -> list[Row]:
        most, first, end = decoding.max_new_tokens, decoding.not_first, lm.start["eos_token_id"]
        if decoding.top_p or not self._fit(len(prompt) + most for prompt in prompts):
            return super().generate(lm, prompts, decoding)
        never = [] if decoding.never is None else [decoding.never]
        written = self._write(prompts, most, end, never)
        if first is not None:
            again = [i for i, row in enumerate(written) if row[0] == first]
            begun = self._write([prompts[i] for i in again], 1, end, [first, *never])
            longer = [prompts[i] + row for i, row in zip(again, begun, strict=True)]
            rests = self._write(longer, most - 1 or 1, end, never)
            for i, row, rest in zip(again, begun, rests, strict=True):
                written[i] = row if row == [end] else (row + rest)[:most]
        return written

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Row], targets: Sequence[Row]) -> list[float]:
        # It always writes a token more.
        if not self._fit(len(prompt) + len(target) + 1 for prompt, target in zip(prompts, targets, strict=True)):
            return super().log_probabilities(lm, prompts, targets)
        return self.engine.submit(_log_probabilities, prompts, targets).result()

    def _write(self, prompts: Sequence[Row], most: int, end: int, never: Sequence[int]) -> list[Row]:
        return self.engine.submit(_completions, prompts, most, end, never).result()

    def _fit(self, lengths: Iterable[int]) -> bool:
        return max(lengths, default=0) <= self.longest


def _save(lm: LanguageModel, folder: Path) -> None:
    merged(lm).save_pretrained(folder)


# --------------------------------------------------------------------------------------- in the engine's process

_ENGINE: list[Any] = []
"""The one that this process runs."""


def _start(folder: str, options: dict[str, Any]) -> None:
    """Load the model.

    Raises:
        OptionError: vLLM cannot; what it raised need not survive the way to another process.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends without a word
    warnings.simplefilter("ignore")
    try:
        from vllm import LLM

        _ENGINE.append(LLM(folder, skip_tokenizer_init=True, use_tqdm_on_load=False, **options))
    except Exception as error:
        raise OptionError(f"vllm cannot load this model: {reason(error):.200}") from None


def _completions(prompts: Sequence[Row], most: int, end: int, never: Sequence[int]) -> list[Row]:
    """Greedy completions without certain tokens; no other token ends them, whatever the model's config names."""
    ends = {"ignore_eos": True, "stop_token_ids": [end]}
    outputs = _run(prompts, max_tokens=most, logit_bias=dict.fromkeys(never, -torch.inf), **ends)
    return [list(output.outputs[0].token_ids) for output in outputs]


def _log_probabilities(prompts: Sequence[Row], targets: Sequence[Row]) -> list[float]:
    rows = [[*prompt, *target] for prompt, target in zip(prompts, targets, strict=True)]
    found = [output.prompt_logprobs for output in _run(rows, max_tokens=1, prompt_logprobs=0)]
    return [
        sum(at[token].logprob for at, token in zip(logs[-len(target) :], target, strict=True))
        for logs, target in zip(found, targets, strict=True)
    ]


def _run(rows: Sequence[Row], **options: Any) -> list[Any]:
    if not rows:
        return []
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, detokenize=False, **options)
    outputs: list[Any] = _ENGINE[0].generate([{"prompt_token_ids": row} for row in rows], sampling, use_tqdm=False)
    return outputs
