"""Feedback as sentences: one template for each kind of fault, to write and to read."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from refiner_env.types import Fault, Feedback

NO_HINT = "No hint."
"""The accepting phrase (REFINER, arXiv 2304.01904, section 3)."""

_FIELDS = {"step": r"(?P<step>[0-9]{1,4})", "slot": r"(?P<slot>\w+)", "hint": r"(?P<hint>[^\"]*)"}
_SENTENCE = re.compile(r".+?(?:(?<=\.)(?=\s)|$)", re.DOTALL)


class Phrases:
    """The sentences of one task.

    Args:
        templates: fault kind -> sentence with `{step}`, `{slot}` or `"{hint}"` in it.
        slots: what `{slot}` may be.
        slot_of: fault kind -> its slot, where the sentence does not tell.
    """

    def __init__(
        self, templates: Mapping[str, str], slots: Sequence[str] = (), slot_of: Mapping[str, str] | None = None
    ) -> None:
        self.templates, self.slots, self.slot_of = templates, slots, slot_of or {}
        self._fields = {kind: frozenset(re.findall(r"\{(\w+)\}", text)) for kind, text in templates.items()}
        self._readers = [(kind, re.compile(_pattern(text) + r"(?=\s|$)")) for kind, text in templates.items()]

    def describe(self, faults: Sequence[Fault]) -> str:
        """One sentence per fault; the accepting phrase for none.

        A fault that has no sentence, or lacks what its sentence needs, is written as its hint, or else its kind.
        """
        return " ".join(map(self._sentence, faults)) if faults else NO_HINT

    def read(self, text: str) -> Feedback:
        """The inverse of `describe`, for text that a model wrote. Sentences of no template become `other` faults."""
        if text.strip().rstrip(".").lower() == NO_HINT.rstrip(".").lower():
            return Feedback(True, text)
        faults: list[Fault] = []
        rest = text.strip()
        while rest:
            fault, end = self._first(rest)
            faults.append(fault)
            rest = rest[end:].lstrip()
        return Feedback(False, text, tuple(faults) or (Fault("other", hint=text),))

    def draw(self, rng: random.Random, steps: int, words: Sequence[str]) -> Fault:
        """A fault at random: any kind, at one of so many steps, its hint one of these words."""
        kind = rng.choice(list(self.templates))
        fields = self._fields[kind]
        step = rng.randrange(steps) if "step" in fields else None
        slot = rng.choice(self.slots) if "slot" in fields else self.slot_of.get(kind)
        hint = rng.choice(words).replace('"', "'") if "hint" in fields else None
        return Fault(kind, step, slot, hint)

    def _sentence(self, fault: Fault) -> str:
        given = {"step": fault.step, "slot": fault.slot, "hint": fault.hint and fault.hint.replace('"', "'")}
        fields = self._fields.get(fault.kind)
        if fields is None or any(given[name] is None for name in fields):
            return fault.hint or fault.kind
        return self.templates[fault.kind].format(**given)

    def _first(self, text: str) -> tuple[Fault, int]:
        """The fault of the first sentence, and where that ends."""
        for kind, reader in self._readers:
            if match := reader.match(text):
                groups = match.groupdict()
                slot = groups.get("slot", self.slot_of.get(kind))
                if "slot" not in groups or slot in self.slots:
                    step = int(groups["step"]) if "step" in groups else None
                    return Fault(kind, step, slot, groups.get("hint")), match.end()
        sentence = _SENTENCE.match(text)
        end = sentence.end() if sentence else len(text)
        return Fault("other", hint=text[:end].rstrip()), end


def _pattern(template: str) -> str:
    return re.sub(r"\\\{(\w+)\\\}", lambda field: _FIELDS[field[1]], re.escape(template))
