"""Stand-in until the real one is merged."""

from __future__ import annotations

from refiner_env.referees import State


def draw(state: State) -> str:
    """The episode so far."""
    last = state.turns[-1] if state.turns else None
    said = f"{last.hypothesis}\n    {last.feedback.text}" if last else ""
    return f"{state.problem.text}\n[{len(state.turns)}] {said}"


def show(state: State) -> None:
    """Print it."""
    print(draw(state))
