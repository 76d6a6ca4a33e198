"""How a turn looks on a terminal: the problem, the hypothesis with its faulty places marked, the feedback, the scores.

Hypotheses and feedback come from models. Nothing in them reaches the terminal as a command: characters that do not
print are shown as Python escapes (`\\x1b`), markup is text, and what is longer than `MAX_SHOWN` is clipped and says so.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from rich.console import Console
from rich.text import Text

from refiner_env.types import Episode, Fault, Feedback, Scores

MAX_SHOWN = 2_000
"""Characters of one text that are shown."""
FAULTY = "bold red underline"
"""The style of faulty places, the only one here."""
INDENT = " " * 4


def visible(text: str, keep: str = "") -> str:
    """A text with every character that does not print as an escape, but for those in `keep`; clipped."""
    shown = "".join(c if c.isprintable() or c in keep else _escape(c) for c in text[:MAX_SHOWN])
    return shown + _clipped(text)


def marked(hypothesis: str, faults: Sequence[Fault] = ()) -> Text:
    """A hypothesis, visible and clipped, with the spans of faults in `FAULTY`. Spans may overlap or lie outside."""
    if not hypothesis.strip(" "):
        return Text("(blank)")
    length = min(len(hypothesis), MAX_SHOWN)
    spans = [fault.span for fault in faults if fault.span]
    faulty = {i for start, end in spans for i in range(max(start, 0), min(end, length))}
    shown = Text()
    for wrong, places in groupby(range(length), faulty.__contains__):
        shown.append(visible("".join(hypothesis[i] for i in places)), FAULTY if wrong else None)
    return shown.append(_clipped(hypothesis))


def problem_text(text: str) -> Text:
    """A problem, its line breaks kept."""
    return Text(visible(text, keep="\n"))


def review_text(feedback: Feedback, scores: Scores | None = None) -> Text:
    """Verdict and feedback, the faults that have no place, and the scores where given; indented lines."""
    lines = _said(feedback) + ([_scored(scores)] if scores else [])
    return Text("\n".join(INDENT + line for line in lines))


def turn_text(hypothesis: str, feedback: Feedback | None, turn: int, scores: Scores | None = None) -> Text:
    """One turn (1-based): the hypothesis, and below it its review where there is one."""
    shown = Text(f"[{turn}] ") + marked(hypothesis, feedback.faults if feedback else ())
    return Text("\n").join([shown, review_text(feedback, scores)]) if feedback else shown


def rendered(
    problem: str, hypothesis: str = "", feedback: Feedback | None = None, turn: int = 0, scores: Scores | None = None
) -> Text:
    """The problem, and the last of `turn` turns where any was taken."""
    shown = problem_text(problem)
    return Text("\n").join([shown, turn_text(hypothesis, feedback, turn, scores)]) if turn else shown


def episode_text(episode: Episode, *, scores: bool = True) -> Text:
    """The problem and all turns, with their scores if wished."""
    turns = [
        turn_text(t.hypothesis, t.feedback, i, t.scores if scores else None) for i, t in enumerate(episode.turns, 1)
    ]
    return Text("\n").join([problem_text(episode.problem.text), *turns])


def to_ansi(text: Text) -> str:
    """A text as a plain string, for the render mode "ansi": colour codes at marks only, no blanks at the ends of lines.

    It is the same on every machine: width, terminal and environment variables make no difference.
    """
    lines = text.split("\n", allow_blank=True)
    for line in lines:
        line.rstrip()
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False, width=80, _environ={}
    )
    with console.capture() as capture:
        console.print(Text("\n").join(lines), soft_wrap=True, end="")
    return capture.get()


def terminal() -> Console:
    """Standard output for a person: no colours and no line breaks of its own where it is piped.

    From then on no character makes standard input or output raise, whatever their encoding.
    """
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != errors:
            with suppress(io.UnsupportedOperation):  # somebody has read from it before
                stream.reconfigure(errors=errors)
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def _said(feedback: Feedback) -> list[str]:
    if feedback.failure:
        return [f"The critic failed: {visible(feedback.failure)}"]
    probability = feedback.accept_probability
    verdict = "accepted" if feedback.accepted else "rejected"
    verdict += "" if probability is None else f" (right with probability {probability:.2f})"
    said = [f"{verdict}: {visible(feedback.text)}" if feedback.text else verdict]
    listed = "; ".join(filter(None, (_unsaid(fault, feedback.text) for fault in feedback.faults)))
    return [*said, f"faults: {visible(listed)}"] if listed else said


def _unsaid(fault: Fault, text: str) -> str:
    """What neither a mark nor the feedback's text says of a fault, as `missing_step at #1`; "" for nothing."""
    hint = f" ({fault.hint})" if fault.hint and fault.hint not in text else ""
    step = "" if fault.step is None else f" at #{fault.step}"
    told = fault.span or (text.strip() if fault.step is None else f"#{fault.step}" in text)
    return f"{fault.kind}{step}{hint}" if hint or not told else ""


def _scored(scores: Scores) -> str:
    def word(right: bool) -> str:
        return "yes" if right else "no"

    return (
        f"equivalent {word(scores.ir_equivalent)}, exact {word(scores.ir_exact)}, "
        f"answer {word(scores.answer)}, similarity {scores.similarity:.2f}"
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _clipped(text: str) -> str:
    return f" ... ({len(text)} characters)" if len(text) > MAX_SHOWN else ""
