"""What `refiner compare` runs: its options, and the presets that set them."""

from __future__ import annotations

from dataclasses import dataclass

from agents.models import BASE
from baselines.ppo import PPOOptions
from data import DataOptions
from refiner_env.errors import UnknownNameError
from refiner_env.options import option, section
from trainers.critic import CriticOptions
from trainers.refiner import RefinerOptions
from trainers.warm_start import WarmStartOptions

WARM_START = "warm-start"
"""The critic model that goes on from the warm-started generator."""


@dataclass(frozen=True)
class CompareOptions:
    """A comparison of arms on the same problems, splits, seeds and budget."""

    task: str = option("MathWordProblem", "the task")
    seeds: tuple[int, ...] = option((0,), "seeds of training; one run of all arms each", low=0)
    turns: int = option(3, "turns at evaluation", low=1, high=16)
    generator_model: str = option(
        BASE, "refiner-tiny, scratch:tiny, scratch:mini, scratch:small, a folder or a Hugging Face id"
    )
    critic_model: str = option(BASE, "the same for the learned critic, or warm-start: the warm-started generator")
    dropout: float = option(0.0, "dropout of refiner-tiny and of models built from scratch", low=0.0, high=0.9)
    ablations: bool = option(False, "also train REFINER without exploration, and without a critic in training")
    retry_top_p: float = option(0.9, "nucleus mass of the retries control", low=0.01, high=1.0)
    data: DataOptions = section(DataOptions, "problems")
    warm_start: WarmStartOptions = section(WarmStartOptions, "supervised warm start")
    critic: CriticOptions = section(CriticOptions, "learned critic")
    refiner: RefinerOptions = section(RefinerOptions, "REFINER training")
    ppo: PPOOptions = section(PPOOptions, "TRL PPO")


PRESETS = {
    "quick": CompareOptions(
        data=DataOptions(seed=4, n_train=500, n_dev=250, n_test=400),
        warm_start=WarmStartOptions(steps=340, batch_size=16),
        critic=CriticOptions(steps=800, batch_size=16, variation_share=1.0, writes="solution"),
        refiner=RefinerOptions(steps=300, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
    "svamp": CompareOptions(
        data=DataOptions(source="svamp"),
        warm_start=WarmStartOptions(steps=240, batch_size=16),
        critic=CriticOptions(steps=700, batch_size=16, variation_share=0.75, writes="solution"),
        refiner=RefinerOptions(steps=360, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
}
"""`quick`: built-in stories in minutes on two cores; `svamp`: MAWPS and ASDiv-A to train, SVAMP to test."""


def preset(name: str) -> CompareOptions:
    """The options of a preset.

    Raises:
        UnknownNameError: no such preset; the message offers the closest.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
