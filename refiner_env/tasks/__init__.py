"""The tasks, by the name that stands in their environment ids, and by a short one."""

from refiner_env.registry import Registry
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.tasks.synthetic_reasoning import SyntheticReasoning
from refiner_env.types import Task

TASKS: Registry[type[Task]] = Registry("task")  # type: ignore[type-arg]
TASKS.register(MathWordProblem.name, MathWordProblem, short="mwp")
TASKS.register(SyntheticReasoning.name, SyntheticReasoning, short="snlr")

__all__ = ["TASKS", "MathWordProblem", "SyntheticReasoning"]
