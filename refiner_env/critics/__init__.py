"""Critics: who says what is wrong with a hypothesis. Each is an environment of every task, by its name."""

from refiner_env.critics.basic import ExecutionCritic, NoCritic, OracleCritic
from refiner_env.critics.boundary import Boundary
from refiner_env.critics.caching import CachedCritic
from refiner_env.critics.human import HumanCritic
from refiner_env.critics.naming import (
    CRITIC_ACTS,
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
_API = """A language model behind an OpenAI-compatible endpoint, prompted: api(MODEL, URL). Never sees gold."""
_SELF = """The generator itself, prompted to criticise: self(FOLDER). Never sees gold."""

register_critic("oracle", OracleCritic)
register_critic("none", NoCritic)
register_critic("execution", ExecutionCritic)
register_critic("noisy", NoisyCritic)
register_critic("scalar", ScalarCritic)
register_critic("typed", TypedCritic)
register_critic("consensus", ConsensusCritic)
register_critic("learned", Deferred("agents.critic:learned", _LEARNED, "refiner-env", uses_gold=False))
register_critic(
    "api", Deferred("refiner_env.critics.api:api", _API, "refiner-env", uses_gold=False), deterministic=False
)
register_critic("self", Deferred("agents.self_critic:self_critic", _SELF, "refiner-env", uses_gold=False))
register_critic("human", HumanCritic)
# These say what their inner critic says, so they need no environments of their own.
CRITICS.register("timed", TimedCritic)
CRITICS.register("cached", CachedCritic)

__all__ = [
    "CRITICS",
    "CRITIC_ACTS",
    "Boundary",
    "CachedCritic",
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
