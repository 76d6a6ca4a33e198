"""Critics: who says what is wrong with a hypothesis. Each is an environment of every task, by its name."""

from refiner_env.critics.basic import ExecutionCritic, NoCritic, OracleCritic
from refiner_env.critics.boundary import Boundary
from refiner_env.critics.human import HumanCritic
from refiner_env.critics.naming import (
    CRITICS,
    Deferred,
    register_critic,
    register_entry_points,
    register_environment,
    resolve_critic,
)
from refiner_env.critics.wrappers import (
    ConsensusCritic,
    CriticWrapper,
    NoisyCritic,
    ScalarCritic,
    TimedCritic,
    TypedCritic,
)

_LEARNED = """A language model trained to say what is wrong: learned(FOLDER), or the folder alone. Never sees gold."""

register_critic("oracle", OracleCritic)
register_critic("none", NoCritic)
register_critic("execution", ExecutionCritic)
register_critic("noisy", NoisyCritic)
register_critic("scalar", ScalarCritic)
register_critic("typed", TypedCritic)
register_critic("consensus", ConsensusCritic)
register_critic("learned", Deferred("agents.critic:learned", _LEARNED, "refiner-env", uses_gold=False))
CRITICS.register("timed", TimedCritic)  # says what its inner critic says, so it needs no environment of its own
CRITICS.register("human", HumanCritic)  # nor does a person: whatever steps through all environments would wait for one

__all__ = [
    "CRITICS",
    "Boundary",
    "ConsensusCritic",
    "CriticWrapper",
    "Deferred",
    "ExecutionCritic",
    "HumanCritic",
    "NoCritic",
    "NoisyCritic",
    "OracleCritic",
    "ScalarCritic",
    "TimedCritic",
    "TypedCritic",
    "register_critic",
    "register_entry_points",
    "register_environment",
    "resolve_critic",
]
