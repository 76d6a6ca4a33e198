"""Encoder-decoders: T5, Flan-T5, UnifiedQA, BART and their like. The prompt is the encoder's input."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from agents.decoding import Batch
from agents.lm import Frame, LanguageModel

SIZES = {
    "tiny": {"d_model": 128, "d_ff": 512, "d_kv": 32, "num_heads": 4, "num_layers": 2},
    "mini": {"d_model": 128, "d_ff": 512, "d_kv": 16, "num_heads": 8, "num_layers": 3, "num_decoder_layers": 2},
    "small": {"d_model": 256, "d_ff": 1024, "d_kv": 32, "num_heads": 8, "num_layers": 5},
}
"""T5 shapes built from scratch: about 1, 1.4 and 10 M parameters with a 2,000-piece vocabulary."""


class EncoderDecoder(LanguageModel):
    """Any Hugging Face encoder-decoder."""

    @classmethod
    def build(cls, size: str, tokenizer: PreTrainedTokenizerBase, *, dropout: float = 0.0) -> EncoderDecoder:
        """A T5 from scratch in one of `SIZES`, randomly initialised from torch's global seed."""
        config = T5Config(
            vocab_size=len(tokenizer),
            dropout_rate=dropout,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            **SIZES[size],
        )
        return cls(T5ForConditionalGeneration(config), tokenizer)

    @property
    def start(self) -> dict[str, int]:
        return {**super().start, "decoder_start_token_id": int(self.model.config.decoder_start_token_id)}

    def frames(self) -> tuple[Frame, Frame]:
        plain, whole = self.ids(["a"])[0], self.tokenizer("a")["input_ids"]
        begin = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        both = Frame(whole[:begin], whole[begin + len(plain) :])
        return both, both

    def completions(self, sequences: torch.Tensor, width: int) -> torch.Tensor:
        return sequences[:, 1:]

    def teacher_forced(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**batch, decoder_input_ids=self._shifted(responses), use_cache=False).logits
        return logits

    def states(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        encoded = self.model.get_encoder()(**batch).last_hidden_state
        read = {"encoder_hidden_states": encoded, "encoder_attention_mask": batch["attention_mask"]}
        output = self.model.get_decoder()(input_ids=self._shifted(responses), **read, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def _shifted(self, responses: torch.Tensor) -> torch.Tensor:
        """What the decoder reads: each position the token before it."""
        start = torch.full_like(responses[:, :1], self.start["decoder_start_token_id"])
        return torch.cat([start, responses[:, :-1]], dim=1)
