"""The `refiner` command. Subcommands are loaded by name when they are called, so `--help` imports nothing heavy."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from refiner_env.errors import Interrupted, RefinerError, UnknownNameError
from refiner_env.trust import TRUST, remote_code

COMMANDS = {
    "compare": ("benchmarks.compare", "train supervised, PPO and REFINER on the same problems and print one table"),
    "train": ("benchmarks.train", "train one model: generator, critic, critic-rl, refiner or ppo"),
    "evaluate": ("benchmarks.evaluate", "let a generator and a critic refine together and print accuracy per turn"),
    "pretrain": ("benchmarks.pretrain", "train a small base model from scratch on procedural exercises"),
    "play": ("refiner_env.playing", "act in an environment yourself, as its generator or as its critic"),
    "replay": ("refiner_env.replaying", "let other critics review recorded episodes, and show where they disagree"),
    "merge": ("benchmarks.merge", "work a low-rank adapter into its base"),
    "critics": ("benchmarks.critics", "compare critics on the same hypotheses: what they find, and how fast"),
    "bench": ("benchmarks.throughput", "time rollouts and training steps, each figure beside its floor"),
    "new-critic": ("refiner_env.scaffold", "write a package with a critic of your own, and its test"),
    "envs": ("refiner_env.listing", "list environment ids, critics and rewards"),
    "data": ("data.cli", "load a corpus, audit it, and save it"),
}
CHECKOUT_PACKAGES = ("data", "agents", "trainers", "baselines", "benchmarks")
"""What the wheel does not ship, as other distributions may own these names."""
USAGE = """usage: refiner COMMAND [OPTIONS]

Train a language model to write intermediate representations and to mend them from a critic's feedback.

commands:
{commands}

`refiner COMMAND --help` explains its options and defaults. Every command takes --trust-remote-code, too: without it, no
Python code that comes with a model is run.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Errors of the person at the keyboard are one line on stderr and exit status 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = [arg for arg in given if arg != TRUST]
    usage = USAGE.format(commands="\n".join(f"  {name:<11}{text}" for name, (_, text) in COMMANDS.items()))
    if not args or args[0] in ("-h", "--help"):
        print(usage, end="")
        return 0 if args else 2
    if args[0] == "--version":
        from refiner_env import __version__

        print(f"refiner-env {__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise UnknownNameError("command", args[0], COMMANDS)
        with remote_code(TRUST in given):
            status: int = _load(COMMANDS[args[0]][0]).main(args[1:])
    except RefinerError as error:
        print(f"refiner: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"refiner: {stop}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("refiner: interrupted", file=sys.stderr)
        return 130
    return status


def _load(module: str) -> ModuleType:
    """Import a subcommand's module; say how to get it where only the wheel is installed.

    Raises:
        RefinerError: outside a checkout, or another distribution owns the folder's name.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        top = missing.partition(".")[0]
        if top not in CHECKOUT_PACKAGES:
            raise RefinerError(
                f"This command needs {missing!r}: pip install -e '.[train]' in a checkout of refiner-env."
            ) from None
        shadow = getattr(sys.modules.get(top), "__file__", None)
        if shadow and Path(shadow).parent.parent == Path(__file__).parent.parent:
            raise  # our own package, so this is a defect and not a mix-up of names
        if shadow:
            raise RefinerError(
                f"The name {top!r} is taken by {shadow}: run from a checkout of refiner-env, or remove that package."
            ) from None
        raise RefinerError(
            "This command runs from a checkout: get the sources of refiner-env, then pip install -e '.[train]' there."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
