"""`python -m benchmarks.decoding`: a decoding back end against `transformers`, on math word problems.

What it writes greedily, how far its log-probabilities of gold are off, and how fast it is at both: in turn in one
process, the fastest of several rounds each, with the same number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from agents.decoding import BACKENDS, REFERENCE, Decoding, freeze
from benchmarks.timed_models import SIZES, timed_model
from refiner_env import ProceduralProblems
from refiner_env.decoding import DECODERS
from refiner_env.tasks import MathWordProblem
from trainers.progress import quiet_libraries


def main(argv: Sequence[str] | None = None) -> int:
    """Print the share of equal completions, those that differ, and the ratios of time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model",
        default="refiner-tiny",
        help=f"{', '.join(SIZES)}, or as --model of refiner train (default: %(default)s)",
    )
    parser.add_argument("--backend", default="ctranslate2", choices=DECODERS[1:], help="(default: %(default)s)")
    parser.add_argument("--problems", type=int, default=2_000, help="that are decoded (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="prompts that are timed (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=96, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each, in turn (default: %(default)s)")
    args = parser.parse_args(argv)
    quiet_libraries()
    task = MathWordProblem()
    problems = ProceduralProblems(task, seed=3, size=max(args.problems, args.batch_size))[:]
    torch.manual_seed(0)
    lm = timed_model(args.model)
    freeze(lm, args.backend)
    backends = {REFERENCE: BACKENDS[REFERENCE], args.backend: lm.backend}
    prompts, targets = lm.prompt_rows([p.text for p in problems]), lm.target_rows([p.gold or "" for p in problems])
    few, decoding = slice(args.batch_size), Decoding(args.max_new_tokens)
    with lm.inferring():
        wanted, found = (backend.generate(lm, prompts, decoding) for backend in backends.values())
        right, logs = (b.log_probabilities(lm, prompts[few], targets[few]) for b in backends.values())
        greedy = {name: partial(b.generate, lm, prompts[few], decoding) for name, b in backends.items()}
        scored = {name: partial(b.log_probabilities, lm, prompts[few], targets[few]) for name, b in backends.items()}
        times = {"greedy": fastest(greedy, args.rounds), "log-probabilities": fastest(scored, args.rounds)}
    differing = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]
    for i in differing:
        print(f"{problems[i].uid}\n  {lm.texts(wanted[i : i + 1])[0]}\n  {lm.texts(found[i : i + 1])[0]}")
    off = max(abs(a - b) for a, b in zip(right, logs, strict=True))
    parameters, n = lm.model.num_parameters() / 1e6, len(problems)
    print(f"{args.model}, {parameters:.1f} M parameters, {torch.get_num_threads()} threads, {args.backend}")
    print(f"equal completions: {1 - len(differing) / n:.2%} of {n}; log-probabilities of gold off by at most {off:.1e}")
    for work, seconds in times.items():
        ratio = seconds[REFERENCE] / seconds[args.backend]
        print(f"{work} of {args.batch_size}: {1e3 * seconds[args.backend]:.0f} ms, {ratio:.1f} times as fast")
    return 0


def fastest(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds that each takes, at best, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            started = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in taken.items()}


if __name__ == "__main__":
    raise SystemExit(main())
