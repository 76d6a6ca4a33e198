"""`refiner new-critic NAME`: a small package that brings a critic, with a test that holds it to the contract."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template

from refiner_env.critics import CRITIC_ACTS, CRITICS
from refiner_env.errors import DuplicateNameError, OptionError
from refiner_env.options import Parser

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "The critic $name for refiner-env"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["refiner-env"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."refiner_env.critics"]
"$name" = "$module:$cls"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]
"""

CRITIC = '''\
"""The critic `$name` for refiner-env."""

import re

from refiner_env import Critic, Fault, Feedback


class $cls(Critic):
    """Says what shows without gold; and where nothing does, which number of the problem is not used."""

    def __init__(self, task):
        self.task = task

    def critique(self, problems, hypotheses):
        return [self.review(problem, hypothesis) for problem, hypothesis in zip(problems, hypotheses, strict=True)]

    def review(self, problem, hypothesis) -> Feedback:
        faults = self.task.check(problem, hypothesis)
        used = set(re.findall(r"number[0-9]+", hypothesis))
        unused = [number for number in re.findall(r"number[0-9]+", problem.text) if number not in used]
        if not faults and unused:
            faults = (Fault("other", hint=f"Look again at the question: {unused[0]} is not used."),)
        return self.task.feedback(faults)
'''

TEST = '''\
"""The critic `$name` holds to the contract of critics, and says what it is made to say."""

from refiner_env import TASKS
from refiner_env.testing import CriticContract

from $module import $cls


class TestContract(CriticContract):
    spec = "$name"  # as it is installed


def test_it_points_at_a_number_that_is_not_used():
    task = TASKS.resolve("MathWordProblem")()
    problem = task.generate(0, 1).without_gold()
    (feedback,) = $cls(task).critique([problem], ["#0: add ( number0, number1 ) | EOS"])
    assert not feedback.accepted and "number2" in feedback.text
'''

README = """\
# $distribution

The critic `$name` for refiner-env. It is in `src/$module/__init__.py`.

    pip install -e '.[test]'    # install it
    pytest                      # hold it to the contract of critics
    refiner envs                # its environments, by name

```python
import gymnasium as gym

env = gym.make("refiner_env:Refiner/MathWordProblem.$name-v0")
env.reset(options={"index": 1})
env.step("#0: add ( number0, number1 ) | EOS")[0]["feedback"]
```
"""

FILES = {
    "pyproject.toml": PYPROJECT,
    "src/$module/__init__.py": CRITIC,
    "tests/test_critic.py": TEST,
    "README.md": README,
}


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(
        prog="refiner new-critic", description="Write a package with a critic of your own, its test and its README."
    )
    parser.add_argument("name", metavar="NAME", help="what the critic will be called, in environment ids too")
    parser.add_argument("--out", type=Path, default=None, help="the folder (default: refiner-critic-NAME)")
    args = parser.parse_args(argv)
    folder = args.out or Path(distribution(args.name))
    for path in write(args.name, folder):
        print(f"wrote {path}")
    print(f"\nNext:\n  pip install -e {shlex.quote(f'{folder}[test]')}\n  pytest {shlex.quote(str(folder))}")
    return 0


def distribution(name: str) -> str:
    """The name of the package that brings a critic.

    Raises:
        OptionError: the critic's name gives no package's; DuplicateNameError: there is such a critic.
    """
    if not re.fullmatch(r"[A-Za-z]([\w.-]*[A-Za-z0-9])?", name, re.ASCII):
        nearest = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lstrip("-0123456789") or "my-critic"
        raise OptionError(
            f"The critic name {name!r} makes no package: start with a letter, go on with letters, digits, '_', '-' "
            f"and '.', end with a letter or digit, as in {nearest!r}."
        )
    if name in (*CRITICS.names(), CRITIC_ACTS):
        raise DuplicateNameError(
            f"There is a critic {name!r}: choose another name than {', '.join(sorted(CRITICS.names()))}."
        )
    return "refiner-critic-" + re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, folder: Path) -> list[Path]:
    """Write the package of a critic into a folder that is new or empty; the files written.

    Raises:
        OptionError: there is something in the folder, or it cannot be written.
    """
    package = distribution(name)
    words = {
        "name": name,
        "distribution": package,
        "module": package.replace("-", "_"),
        "cls": "".join(word.capitalize() for word in package.split("-")[2:]) + "Critic",
    }
    written = []
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OptionError(f"--out {folder} is there and not empty: name another folder, or empty it.")
        for place, text in FILES.items():
            path = folder / Template(place).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(text).substitute(words), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise OptionError(f"--out {folder} cannot be written: {error.strerror}.") from None
    return written
