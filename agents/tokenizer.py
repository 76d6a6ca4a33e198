"""A SentencePiece tokenizer trained on the task's own text, in the T5 tokenizer's format.

Numbers of the problem, step marks, operators and control tokens are whole pieces of the vocabulary, so
that a program of one step is a dozen tokens and copying a number is copying one token.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from transformers import T5Tokenizer

from agents.prompts import CONTROL_TOKENS
from refiner_env.errors import OptionError
from refiner_env.tasks.program import OPERATORS

MAX_NUMBERS, MAX_STEPS = 16, 16
_SPECIAL = ("<pad>", "</s>", "<unk>")

WHOLE_PIECES = (
    *CONTROL_TOKENS,
    *(f"number{i}" for i in range(MAX_NUMBERS)),
    *(f"#{k}" for k in range(MAX_STEPS)),
    *(f"#{k}:" for k in range(MAX_STEPS)),
    *OPERATORS,
    "(",
    ")",
    "|",
    "EOS",
)
"""Words that are one token each; a leading space belongs to the piece."""
_MARKS = (",", ":", ".", *"0123456789")
"""Always there, so that constants and labels beyond the whole pieces can be spelled."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2_000, marks: Sequence[str] = ()) -> T5Tokenizer:
    """Train a unigram vocabulary on `texts` and put the whole pieces in.

    Args:
        texts: sentences of the training split only.
        vocab_size: upper bound on learned pieces; small corpora give fewer.
        marks: further words that are one token each.

    Raises:
        OptionError: the texts are too few to train on.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="unigram",
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise OptionError(f"Cannot train a tokenizer of {vocab_size} pieces on these texts: {error}") from None
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    whole = {f"▁{word}": 0.0 for word in (*WHOLE_PIECES, *marks)} | dict.fromkeys(_MARKS, -1.0)
    learned = {
        pieces.id_to_piece(i): pieces.get_score(i)
        for i in range(len(_SPECIAL), pieces.get_piece_size())
        if pieces.id_to_piece(i) not in whole
    }
    vocab = [(token, 0.0) for token in _SPECIAL] + list(whole.items()) + list(learned.items())
    return T5Tokenizer(vocab=vocab, extra_ids=0, additional_special_tokens=[])
