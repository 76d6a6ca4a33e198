"""The tasks, by the name that stands in their environment ids, and by a short one."""

from typing import Any

from refiner_env.errors import OptionError
from refiner_env.registry import Registry
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.tasks.moral_stories import MoralStories
from refiner_env.tasks.synthetic_reasoning import SyntheticReasoning
from refiner_env.types import Task

TASKS: Registry[type[Task]] = Registry("task")  # type: ignore[type-arg]
TASKS.register(MathWordProblem.name, MathWordProblem, short="mwp")
TASKS.register(SyntheticReasoning.name, SyntheticReasoning, short="snlr")
TASKS.register(MoralStories.name, MoralStories, short="moral")


def resolve_task(task: str | Task[Any]) -> Task[Any]:
    """A task from its name, its short name, `module:class` or `file.py:class`, or itself.

    Raises:
        OptionError: what is named is no task; UnknownNameError: nothing is named so.
    """
    named: Any = TASKS.resolve(task) if isinstance(task, str) else task
    found = named() if isinstance(named, type) and issubclass(named, Task) else named
    if not isinstance(found, Task):
        raise OptionError(f"task is {task!r}: give a task's name, or a class or object that is a Task.")
    return found


__all__ = ["TASKS", "MathWordProblem", "MoralStories", "SyntheticReasoning", "resolve_task"]
