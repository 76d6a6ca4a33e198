"""What `refiner compare` runs: its options, and the presets that set them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.models import BASE
from baselines.ppo import PPOOptions
from data import DataOptions
from refiner_env.errors import UnknownNameError
from refiner_env.options import option, section
from refiner_env.tasks import TASKS, resolve_task
from trainers.critic import CriticOptions
from trainers.refiner import RefinerOptions
from trainers.rollout import CRITIC_TIMEOUT, ON_CRITIC_FAILURE
from trainers.runs import RunOptions
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
        BASE,
        "refiner-tiny, scratch:SIZE (tiny, mini, small, decoder-tiny, decoder-small), a folder or a Hugging Face id",
    )
    critic_model: str = option(BASE, "the same for the learned critic, or warm-start: the warm-started generator")
    critics: tuple[str, ...] = option(
        ("learned", "oracle"),
        "who gives feedback at evaluation: learned is the critic trained here; any other as critics are named",
    )
    on_critic_failure: str = ON_CRITIC_FAILURE
    critic_timeout: float = CRITIC_TIMEOUT
    dropout: float = option(0.0, "dropout of refiner-tiny and of models built from scratch", low=0.0, high=0.9)
    ablations: bool = option(False, "also train REFINER without exploration, and without a critic in training")
    retry_top_p: float = option(0.9, "nucleus mass of the retries control", low=0.01, high=1.0)
    data: DataOptions = section(DataOptions, "problems")
    warm_start: WarmStartOptions = section(WarmStartOptions, "supervised warm start")
    critic: CriticOptions = section(CriticOptions, "learned critic")
    refiner: RefinerOptions = section(RefinerOptions, "REFINER training")
    ppo: PPOOptions = section(PPOOptions, "TRL PPO")
    run: RunOptions = section(RunOptions, "how every arm is trained")


PRESETS = {
    ("quick", "MathWordProblem"): CompareOptions(
        data=DataOptions(seed=4, n_train=500, n_dev=250, n_test=400),
        warm_start=WarmStartOptions(steps=340, batch_size=16),
        critic=CriticOptions(steps=800, batch_size=16, variation_share=1.0, writes="solution"),
        refiner=RefinerOptions(steps=300, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
    ("quick", "SyntheticReasoning"): CompareOptions(
        task="SyntheticReasoning",
        data=DataOptions(level="easy", seed=4, n_train=4_000, n_dev=100, n_test=300),
        warm_start=WarmStartOptions(steps=450, batch_size=16),
        critic=CriticOptions(steps=300, batch_size=16, own_share=0.0),
        refiner=RefinerOptions(steps=150, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
    ("quick", "MoralStories"): CompareOptions(
        task="MoralStories",
        generator_model="scratch:tiny",
        critic_model="scratch:tiny",
        data=DataOptions(seed=4, n_train=1_000, n_dev=200, n_test=400),
        warm_start=WarmStartOptions(steps=250, batch_size=16),
        critic=CriticOptions(steps=500, batch_size=16),
        refiner=RefinerOptions(steps=60, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
    ("svamp", "MathWordProblem"): CompareOptions(
        data=DataOptions(source="svamp"),
        warm_start=WarmStartOptions(steps=240, batch_size=16),
        critic=CriticOptions(steps=700, batch_size=16, variation_share=0.75, writes="solution"),
        refiner=RefinerOptions(steps=360, batch_size=16, learning_rate=1e-3, turns=2),
        ppo=PPOOptions(learning_rate=5e-5),
    ),
}
"""By name and task. `quick`: procedural problems in minutes on two cores; `svamp`: MAWPS and ASDiv-A to train, SVAMP to
test."""
NAMES = tuple(dict.fromkeys(name for name, _ in PRESETS))


def preset(name: str, task: str = "mwp") -> CompareOptions:
    """The options of a preset for a task.

    Raises:
        UnknownNameError: no such preset or task, or none of that name for the task; the message offers the closest.
    """
    if name not in NAMES:
        raise UnknownNameError("preset", name, NAMES)
    task_name = resolve_task(task).name
    if task_name not in TASKS.names():  # a task of the user's own
        return replace(PRESETS[name, "MathWordProblem"], task=task)
    if (name, task_name) not in PRESETS:
        known = [other for other, its_task in PRESETS if its_task == task_name]
        raise UnknownNameError(f"preset of {task_name}", name, known)
    return PRESETS[name, task_name]
