"""What a person reads of a comparison: a table on the terminal, report.md and a plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.statistics import Interval, difference, interval
from refiner_env.agreement import CriticFigures
from refiner_env.records import read_object

CRITIC_QUALITY = "critic-quality.json"
"""In a seed's folder: the learned critic's figures."""

Record = dict[str, Any]
"""One line of results.jsonl."""
Key = tuple[str, str, str]
"""(arm, critic, stop)."""

BY_GOLD = "* The episode stops by gold, which is not there at inference: an upper bound."
MATCH = 0.02
"""Training tokens of arms may differ by this fraction; the excess is one batch."""
COSTS = "Mtok, s: the generator's training in millions of tokens and in seconds, the warm start included."
HEADINGS = ("arm", "critic", "T", "equivalent % [95%]", "answer", "fixed/broken", "Mtok", "s")


PLUS: Key = ("supervised+", "none", "never")
ORACLE: Key = ("refiner", "oracle", "gold")
COMPARED: tuple[tuple[Key, Key], ...] = (
    (("ppo", "none", "never"), ("supervised", "none", "never")),
    (("refiner", "none", "never"), PLUS),
    (("refiner", "learned", "critic"), PLUS),
    (ORACLE, PLUS),
    (ORACLE, ("scripted", "oracle", "gold")),
    (ORACLE, ("scripted-remembering", "oracle", "gold")),
)
"""Arms whose difference is reported, each after its last turn."""


def by_arm(rows: Sequence[Record]) -> dict[Key, dict[int, list[Record]]]:
    """Rows by (arm, critic, stop) and turn, in the order in which they were written."""
    arms: dict[Key, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        arms[row["arm"], row["critic"], row["stop"]][row["turns"]].append(row)
    return arms


def critic_label(arm: str, critic: str, stop: str) -> str:
    """The critic as the table names it: starred where gold ends the episode; samples without one may vote."""
    if (arm, stop) == ("retries", "never"):
        return "vote"
    return f"{critic}*" if stop == "gold" else critic


def table_rows(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    """One line per arm and turn, as text."""
    lines: list[tuple[str, ...]] = []
    for (arm, critic, stop), turns in by_arm(rows).items():
        for turn, seeds in turns.items():
            share = _equivalent(seeds)
            lines.append(
                (
                    arm,
                    critic_label(arm, critic, stop),
                    str(turn),
                    f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
                    f"{100 * _mean(seeds, 'answer_acc'):.1f}",
                    f"{_mean(seeds, 'fixed'):.0f}/{_mean(seeds, 'broken'):.0f}" if turn > 1 else "",
                    f"{_mean(seeds, 'train_tokens') / 1e6:.2f}",
                    f"{_mean(seeds, 'wall_s'):.0f}",
                )
            )
    return lines


def findings(folder: Path, rows: Sequence[Record]) -> list[str]:
    """What else a reader asks for: the critic's quality, the oracle's gain, PPO's reward, the token match."""
    arms = by_arm(rows)
    lines = []
    stages = _stage_records(folder)
    critics = [read_object(path) for path in sorted(folder.glob(f"seed-*/{CRITIC_QUALITY}"))]
    for kind, label in (("perturbed", "perturbed and right test hypotheses"), ("own", "REFINER's own first ones")):
        if records := [critic[kind] for critic in critics]:
            names = [f.name for f in fields(CriticFigures) if f.name != "n"]
            figures = CriticFigures(records[0]["n"], *(_mean(records, name) for name in names))
            lines.append(f"Learned critic on {label}: {figures}.")
    for arm, critic, stop in (
        ("refiner", "oracle", "gold"),
        ("scripted", "oracle", "gold"),
        ("refiner", "learned", "critic"),
    ):
        if turns := arms.get((arm, critic, stop)):
            last = max(turns)
            first_share, last_share = _equivalent(turns[1]).mean, _equivalent(turns[last]).mean
            lines.append(
                f"{arm} with the {critic} critic, T=1 to T={last}: {100 * first_share:.1f}% to {100 * last_share:.1f}% "
                f"({100 * (last_share - first_share):+.1f} points; fixed {_mean(turns[last], 'fixed'):.0f}, "
                f"broken {_mean(turns[last], 'broken'):.0f} of {turns[last][0]['n']})."
            )
    for (arm, critic, _), turns in arms.items():
        last = max(turns)
        if failures := sum(row["critic_failures"] for row in turns[last]):
            lines.append(f"{arm} with {critic}: the critic failed in {failures} reviews; nothing was said or accepted.")
    lines += [line for a, b in COMPARED if (line := _compared(arms, a, b))]
    if ppo := stages["ppo"]:
        lines.append(
            f"PPO's mean reward ({ppo[0]['reward']}) in rollouts: first quarter {_mean(ppo, 'first_reward'):.3f}, "
            f"last quarter {_mean(ppo, 'last_reward'):.3f}."
        )
    for name, label in (("supervised_plus", "supervised+"), ("ppo", "PPO")):
        if records := stages[name]:
            ratio = sum(r["tokens"] / r["budget"] for r in records) / len(records)
            apart = "" if abs(ratio - 1) <= MATCH else f", more than {MATCH:.0%} apart: too short a training to match"
            lines.append(f"Training tokens of {label} after the warm start, over REFINER's: {ratio:.3f}{apart}.")
    return lines


def write_report(folder: Path, rows: Sequence[Record], console: Console) -> None:
    """Print the table; write report.md and accuracy.png."""
    header = read_object(folder / "run.json")
    lines, notes = table_rows(rows), findings(folder, rows)
    seeds = sorted({row["seed"] for row in rows})
    over = "problems" if len(seeds) == 1 else "seeds"
    options, n_test = header["options"], header["data_sizes"]["test"]
    title = (
        f"{options['task']} ({header['data_name']}), {n_test} test problems, seeds {seeds}, "
        f"intervals over {over}; generator {options['generator_model']}, critic {options['critic_model']}"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("arm", "critic") else "right", no_wrap=True)
    last_turn = str(max(row["turns"] for row in rows))
    for line in lines:
        table.add_row(*line, end_section=line[2] == last_turn)
    console.print(table)
    console.print(f"{BY_GOLD} {COSTS}", highlight=False, soft_wrap=True)
    for note in notes:
        console.print(f"- {note}", highlight=False, soft_wrap=True)
    (folder / "report.md").write_text(_markdown(header, title, lines, notes), encoding="utf-8")
    plot(folder / "accuracy.png", rows, title)
    console.print(f"\nWritten to {folder}: results.jsonl, report.md, accuracy.png, run.json", highlight=False)


def plot(path: Path, rows: Sequence[Record], title: str) -> None:
    """Accuracy per turn, one line per arm with a critic and one point per arm without."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)  # type: ignore[attr-defined]  # a listed colormap
    arms = by_arm(rows)
    for i, ((arm, critic, stop), turns) in enumerate(arms.items()):
        shares = [_equivalent(seeds) for seeds in turns.values()]
        errors = [[100 * (s.mean - s.low) for s in shares], [100 * (s.high - s.mean) for s in shares]]
        label = f"{arm}, {critic_label(arm, critic, stop)}"
        places = [t + 0.025 * (i - len(arms) / 2) for t in turns]  # side by side, so that intervals can be told apart
        style = "--" if arm.startswith(("scripted", "retries")) else "-"
        axes.errorbar(places, [100 * s.mean for s in shares], yerr=errors, label=label, marker="o", ls=style, capsize=2)
    axes.set(xlabel="turns (* stops by gold)", ylabel="hypotheses equivalent to gold, %")
    axes.set_title(title.replace("; ", "\n"), fontsize=9)
    axes.set_xticks(sorted({r["turns"] for r in rows}))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)


def _markdown(header: dict[str, Any], title: str, lines: Sequence[tuple[str, ...]], notes: Sequence[str]) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    return "\n".join(
        [
            f"# {title}",
            "",
            row(HEADINGS),
            row(["---"] * len(HEADINGS)),
            *map(row, lines),
            "",
            *(f"- {note}" for note in notes),
            "",
            "`fixed` and `broken` count problems against the same arm's first hypothesis. Accuracy is the share of",
            f"hypotheses equivalent to gold. {COSTS}",
            "",
            BY_GOLD.replace("*", "\\*"),
            "",
            "![Accuracy per turn](accuracy.png)",
            "",
            f"Preset {header['preset']}, options {header['options_hash']}, data {header['data_hash']}, "
            f"commit {header['commit']}; {versions}.",
            "",
        ]
    )


def _stage_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Figures and costs that the stages left, by stage, one per seed."""
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("seed-*/*/training.json")):
        record = read_object(path)
        records[path.parent.name].append({**record["spent"], **record["figures"]})
    return records


def _equivalent(seeds: Sequence[Record]) -> Interval:
    return interval([row["ir_equivalent"] for row in seeds], seeds[0]["n"])


def _compared(arms: Mapping[Key, Mapping[int, Sequence[Record]]], a: Key, b: Key) -> str | None:
    """The difference of two arms after their last turns; None where one is missing."""
    if a not in arms or b not in arms:
        return None
    labels, shares = [], []
    for key in (a, b):
        last = max(arms[key])
        labels.append(f"{key[0]} ({critic_label(*key)}, T={last})")
        shares.append({r["seed"]: float(r["ir_equivalent"]) for r in arms[key][last]})
    seeds = sorted(shares[0].keys() & shares[1].keys())
    first, second = ([share[seed] for seed in seeds] for share in shares)
    if len(seeds) == 1:
        return f"{labels[0]} minus {labels[1]}: {100 * (first[0] - second[0]):+.1f} points, one seed."
    d = difference(first, second)
    return (
        f"{labels[0]} minus {labels[1]}: {100 * d.mean:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], "
        f"paired over {len(seeds)} seeds."
    )


def _mean(records: Sequence[dict[str, Any]], key: str) -> float:
    return sum(float(r[key]) for r in records) / len(records)
