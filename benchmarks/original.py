"""The official code's options (its scripts finetune.py, train_refiner.py and test_predict.py) as further names of ours.

In training its model-dir is where the model is saved, as the official code never reads weights from there, and
language-model is what training starts from; in an evaluation model-dir is what is evaluated, on the validation-file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refiner_env.options import Parser


@dataclass(frozen=True)
class Names:
    """What one of our commands makes of the official options."""

    same: Mapping[str, tuple[str, ...]]
    """Place of an option of ours -> further names of it."""
    idle: Mapping[str, str]
    """Options that are accepted without effect, and why."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Options without which something else would be done than was asked for, and why there are none."""

    def add(self, parser: Parser) -> None:
        """Add the options that are no names of ours."""
        group = parser.add_argument_group("further options of the official code")
        for action, options in (("idle", self.idle), ("refused", self.refused)):
            for name, why in options.items():
                group.add_argument(name, action=action, help=why)


_TRAINING = {
    "out": ("--model-dir",),
    "model": ("--language-model",),
    "data.train_file": ("--training-file",),
    "data.dev_file": ("--validation-file",),
    "train.batch_size": ("--batch-size",),
    "train.learning_rate": ("--lr",),
}
_NO_CRITIC = {"--critique-model-dir": "no critic takes part"}
_ONE_TURN = {"--number-turn": "one turn is trained"}
_NOT_SAMPLED = {"--exp-num": "no hypothesis is chosen among several"}

NAMES = {
    "generator": Names(_TRAINING, idle=_NO_CRITIC | _ONE_TURN | _NOT_SAMPLED),
    "critic": Names(
        _TRAINING | {"out": ("--model-dir", "--critique-model-dir"), "turns": ("--number-turn",)}, idle=_NOT_SAMPLED
    ),
    "critic-rl": Names(
        _TRAINING | {"model": ("--language-model", "--critique-model-dir")},
        idle=_ONE_TURN | _NOT_SAMPLED,
        refused={"--epochs": "is not counted in reinforcement learning: give --train.steps"},
    ),
    "refiner": Names(
        _TRAINING | {"critic": ("--critique-model-dir",), "train.turns": ("--number-turn",)},
        idle={"--exp-num": "one hypothesis is drawn, which is distributed like one of several chosen at random"},
    ),
    "ppo": Names(
        _TRAINING,
        idle=_NO_CRITIC | _ONE_TURN | _NOT_SAMPLED,
        refused={"--epochs": "is not counted in PPO: give --token-budget"},
    ),
    "evaluate": Names(
        {
            "generator": ("--model-dir",),
            "critic": ("--critique-model-dir",),
            "turns": ("--number-turn",),
            "data.train_file": ("--training-file",),
            "data.test_file": ("--validation-file",),
        },
        idle={
            "--language-model": "the model's folder names its base and holds its tokenizer",
            "--lora": "the model's folder says whether it holds an adapter",
            "--exp-num": "decoding is greedy",
            **dict.fromkeys(("--epochs", "--batch-size", "--lr"), "nothing is trained"),
        },
    ),
}
"""Our command -> its further names."""
