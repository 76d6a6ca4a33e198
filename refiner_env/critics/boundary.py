"""The one boundary between critics and the loop: whatever a critic does wrong ends here.

A critic that raises, hangs or gives something else than one feedback per hypothesis has failed. Either that stops the
run with one line, or the problems concerned get a feedback that says so (`Feedback.failure`), accepts nothing and has
no text, and the loop goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import TIMEOUT_MAX, Thread
from typing import Any

from refiner_env.errors import CriticError, OptionError, UnknownNameError
from refiner_env.types import Critic, Fault, Feedback, Problem

ON_FAILURE = ("stop", "record")


class _NoFeedbackError(Exception):
    """What the boundary itself finds wrong with an answer."""


class _HangsError(_NoFeedbackError):
    """There is none in time."""


class Boundary:
    """Asks a critic.

    Args:
        on_failure: "stop" raises `CriticError`; "record" puts the failure into the feedback.
        timeout: seconds for one call, whatever its size; None waits for ever. A thread cannot be killed: a call that
            hangs is left behind, and until it ends the critic counts as busy, and the next calls wait for it.
    """

    def __init__(self, critic: Critic, on_failure: str = "stop", timeout: float | None = None) -> None:
        if on_failure not in ON_FAILURE:
            raise UnknownNameError("value of on_critic_failure", on_failure, ON_FAILURE)
        if timeout is not None and not (isinstance(timeout, int | float) and 0 < timeout <= TIMEOUT_MAX):
            raise OptionError(f"critic_timeout is {timeout!r}: give a number of seconds above 0, or None for no limit.")
        self.critic, self.on_failure, self.timeout = critic, on_failure, timeout
        self._running: Thread | None = None

    def ask(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        """One feedback per hypothesis, in order. Gold is hidden from critics that may not see it.

        A batch that fails, but does not hang, is asked again one by one, so that one hypothesis costs no other its
        feedback.

        Raises:
            CriticError: the critic failed, and `on_failure` is "stop".
        """
        if not hypotheses:
            return []
        visible = problems if self.critic.uses_gold else [problem.without_gold() for problem in problems]
        try:
            feedback = self._ask(visible, hypotheses)
        except Exception as error:
            if self.on_failure == "stop" or isinstance(error, _HangsError) or len(hypotheses) == 1:
                feedback = [self._failure(error)] * len(hypotheses)
            else:
                pairs = zip(visible, hypotheses, strict=True)
                return [self.ask([problem], [hypothesis])[0] for problem, hypothesis in pairs]
        failed = next((f.failure for f in feedback if f.failure), "")
        if failed and self.on_failure == "stop":
            raise CriticError(f"The critic failed: {failed}. To go on without it: on_critic_failure='record'.")
        return feedback

    def _ask(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        feedback = self._within(lambda: self.critic.critique(problems, hypotheses))
        if not isinstance(feedback, list | tuple) or len(feedback) != len(hypotheses):
            count = f"{len(feedback)} feedbacks" if isinstance(feedback, list | tuple) else f"{feedback!r:.80}"
            raise _NoFeedbackError(f"gave {count} for {len(hypotheses)} hypotheses")
        for one in feedback:
            if why := _malformed(one):
                raise _NoFeedbackError(f"gave {one!r:.80}, {why}")
        return list(feedback)

    def _within(self, call: Callable[[], list[Feedback]]) -> list[Feedback]:
        if self.timeout is None:
            return call()
        if self._running:
            self._running.join(self.timeout)
            if self._running.is_alive():
                raise _HangsError(f"still busy with an earlier call after another {self.timeout:g} s")
        outcome: list[list[Feedback] | BaseException] = []

        def run() -> None:
            try:
                outcome.append(call())
            except BaseException as error:  # raised below, in the thread that asked
                outcome.append(error)

        self._running = Thread(target=run, daemon=True)  # a daemon, so that a hung critic does not keep Python alive
        self._running.start()
        self._running.join(self.timeout)
        if not outcome:
            raise _HangsError(f"no feedback within {self.timeout:g} s")
        self._running = None
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _failure(self, error: Exception) -> Feedback:
        said = " ".join(str(error).split())[:300]
        kind = "" if isinstance(error, _NoFeedbackError) else type(error).__name__
        reason = ": ".join(filter(None, (kind, said)))
        return Feedback(accepted=False, text="", failure=f"{type(self.critic).__name__} {reason}")


def _malformed(said: Any) -> str:
    """What keeps an answer from being a feedback; "" for nothing."""
    if not isinstance(said, Feedback) or not isinstance(said.text, str):
        return "which is no Feedback with a text"
    if not isinstance(said.accepted, bool) or (said.accepted and said.failure):
        return f"in which accepted is {said.accepted!r}: it must be True or False, and False with a failure"
    if not all(isinstance(fault, Fault) for fault in said.faults):
        return "in which faults holds something else"
    likely = said.accept_probability
    if likely is not None and not (isinstance(likely, int | float) and 0 <= likely <= 1):
        return f"in which accept_probability is {likely!r}: it must be None or a Python number in [0, 1]"
    return ""
