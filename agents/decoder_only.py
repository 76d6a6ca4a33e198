"""Decoder-only models: Llama, Qwen, GPT-2 and their like. The prompt stands before the completion in one sequence.

Where the tokenizer has a chat template, the prompt is a user's message and the completion the assistant's; else
`<answer>` parts the two. Prompts are padded on the left, so that all completions of a batch begin at one place. Only
completions are trained on.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from agents.decoding import Batch
from agents.lm import Frame, LanguageModel
from agents.prompts import ANSWER, CONTROL_TOKENS

SIZES = {
    "decoder-tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4},
    "decoder-small": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 9, "num_attention_heads": 8},
}
"""Llama shapes built from scratch: about 1.3 and 10 M parameters with a 2,000-piece vocabulary."""


class DecoderOnly(LanguageModel):
    """Any Hugging Face causal language model."""

    marks = (*CONTROL_TOKENS, ANSWER)
    padding_side = "left"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **lengths: Any) -> None:
        super().__init__(model, tokenizer, **lengths)
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
            tokenizer.add_special_tokens({"pad_token": "<pad>"})  # the end of a completion must not look like padding
            self.fit_vocabulary()

    @classmethod
    def build(cls, size: str, tokenizer: PreTrainedTokenizerBase, *, dropout: float = 0.0) -> DecoderOnly:
        """A Llama from scratch in one of `SIZES`, randomly initialised from torch's global seed."""
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            attention_dropout=dropout,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            **SIZES[size],
        )
        return cls(LlamaForCausalLM(config), tokenizer)

    def completions(self, sequences: torch.Tensor, width: int) -> torch.Tensor:
        return sequences[:, width:]

    def teacher_forced(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        begin = batch["input_ids"].shape[1] - 1  # no logits over the prompt: vocabularies are large
        kept = torch.arange(begin, begin + responses.shape[1], device=responses.device)
        logits: torch.Tensor = self.model(**self._whole(batch, responses), logits_to_keep=kept).logits
        return logits

    def states(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model.get_decoder()(**self._whole(batch, responses)).last_hidden_state
        return states[:, batch["input_ids"].shape[1] - 1 : -1]

    def _whole(self, batch: Batch, responses: torch.Tensor) -> dict[str, Any]:
        """Prompts and responses in one sequence, as the model's input."""
        ids = torch.cat([batch["input_ids"], responses], dim=1)
        mask = torch.cat([batch["attention_mask"], (responses != self.pad).long()], dim=1)
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)  # padding on the left counts for nothing
        return {"input_ids": ids, "attention_mask": mask, "position_ids": places, "use_cache": False}

    def frames(self) -> tuple[Frame, Frame]:
        end = int(self.tokenizer.eos_token_id)
        if self.tokenizer.chat_template:
            return Frame.of(self._chat("a"), self._chat("b")), Frame([], [end])
        bos = self.tokenizer.bos_token_id
        before = [bos] if bos is not None and self.tokenizer("a")["input_ids"][0] == bos else []
        return Frame(before, self.ids([ANSWER])[0]), Frame([], [end])

    def _chat(self, text: str) -> list[int]:
        messages = [{"role": "user", "content": text}]
        ids: list[int] = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return ids
