"""A person at the terminal as the critic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.text import Text

from refiner_env.rendering import marked, problem_text, terminal
from refiner_env.types import Critic, Feedback, Problem, Task

HELP = "?"
QUIT = "q"
Reader = Callable[[str], str]
"""Shows a prompt and gives one line, without its end; raises EOFError where there are no more."""


def read_line(prompt: str) -> str:
    """A line of standard input; the prompt is shown to a person only, not where lines are piped in."""
    if not sys.stdin.isatty():
        return input()
    with suppress(ImportError):
        import readline  # noqa: F401  (gives `input` line editing, and earlier lines back; not on every system)
    return input(prompt)


class HumanCritic(Critic):
    """A person, who reads problem and hypothesis and types feedback; Enter alone accepts, ? helps, q stops the run.

    Feedback is read as a model's is: the task's sentences become typed faults, other words `other` faults. Where
    standard input is no terminal, its lines are the feedback. End of input stops the run as q does.

    Args:
        read: where lines come from.
        console: where problems and hypotheses are shown; standard output by default.

    Raises:
        KeyboardInterrupt: from `critique`, when the person stops.
    """

    deterministic = False

    def __init__(self, task: Task[Any], read: Reader = read_line, console: Console | None = None) -> None:
        self.task, self.read, self.console = task, read, console or terminal()
        self._shown: str | None = None

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [self._ask(problem, hypothesis) for problem, hypothesis in zip(problems, hypotheses, strict=True)]

    def _ask(self, problem: Problem, hypothesis: str) -> Feedback:
        if problem.text != self._shown:
            self.console.print("\n", problem_text(problem.text), sep="")
            self._shown = problem.text
        self.console.print("z   ", marked(hypothesis), sep="")
        while True:
            try:
                line = self.read("feedback (Enter accepts, ? helps): ").strip()
            except EOFError:
                raise KeyboardInterrupt("end of input") from None
            if line == QUIT:
                raise KeyboardInterrupt("stopped by the critic")
            if line != HELP:
                return written(self.task, line)
            self.console.print(sentences(self.task))


def written(task: Task[Any], line: str) -> Feedback:
    """A person's line as feedback: nothing typed accepts, and a last sentence may lack its full stop."""
    if not line:
        return task.feedback(())
    return task.read_feedback(line if line.endswith((".", "!", "?")) else f"{line}.")


def sentences(task: Task[Any]) -> Text:
    """The kinds of faults of a task with their sentences, for a person who writes feedback."""
    rows = [f"  {kind:<18}{sentence}" for kind, sentence in task.phrases.templates.items()]
    slots = [f"  {{slot}} is one of: {', '.join(task.phrases.slots)}"] if task.phrases.slots else []
    head = "Enter alone accepts. Own words will do; these are understood as typed faults:"
    return Text("\n".join([head, *rows, *slots]))
