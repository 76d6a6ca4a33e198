"""The comparison end to end at a small size: rows, report, resume, refusals; and its arithmetic."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.lm import LanguageModel
from agents.models import load_model
from baselines.ppo import PPOOptions
from benchmarks import arms
from benchmarks.arms import ABLATIONS, Row, Training, majority
from benchmarks.compare import compare, file_name, main, read_rows
from benchmarks.evaluate import main as evaluate
from benchmarks.presets import PRESETS, CompareOptions, preset
from benchmarks.report import findings, table_rows
from benchmarks.statistics import difference, interval
from benchmarks.train import main as train
from data import Audit, DataOptions, Splits
from refiner_env.errors import DataError, OptionError, RefinerError, UnknownNameError
from refiner_env.options import validate
from refiner_env.records import read_episodes
from refiner_env.replaying import main as replay
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Critic, Episode, Feedback, Problem, Scores, Task, Turn
from trainers.critic import CriticOptions
from trainers.learning import Run as TrainingRun
from trainers.learning import prepare
from trainers.refiner import RefinerOptions
from trainers.runs import Outcome, RunOptions, Spent
from trainers.warm_start import WarmStartOptions

Run = tuple[Path, list[dict[str, Any]], str]
"""(folder, rows, what was shown)."""

SMALL = CompareOptions(
    turns=2,
    critics=("learned", "oracle", "noisy(oracle, 0.5)", f"{__file__}:Broken"),
    ablations=True,
    critic_model="warm-start",
    data=DataOptions(n_train=120, n_dev=8, n_test=12),
    warm_start=WarmStartOptions(steps=3, batch_size=16, share=0.5),
    critic=CriticOptions(steps=3, batch_size=16, writes="solution"),
    refiner=RefinerOptions(steps=6, batch_size=16, turns=2, source="unseen"),
    ppo=PPOOptions(batch_size=8, epochs=2),
)


class Broken(Critic):
    """Fails on whatever it is shown; named by its file in the comparison."""

    def __init__(self, task: Task[Any]) -> None:
        pass

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        raise RuntimeError("no memory left")


@pytest.fixture(scope="module", autouse=True)
def short_generations() -> Iterator[None]:
    """Untrained models never stop by themselves: 16 tokens are enough to see the wiring."""
    real = LanguageModel.__init__

    def short(self: LanguageModel, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **{**kwargs, "max_new_tokens": 16})

    patch = pytest.MonkeyPatch()
    patch.setattr(LanguageModel, "__init__", short)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "small"
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: SIM115
    rows = compare(SMALL, folder, console)
    return folder, rows, console.export_text()


NAMED = (("noisy(oracle, 0.5)", "gold"), (f"{__file__}:Broken", "critic"))
"""Further critics, and who ends an episode: the word of one that sees gold counts as gold's."""
ACTING = ("refiner", "scripted", "scripted-remembering", *ABLATIONS.values())
"""Arms that read feedback."""


def test_every_arm_has_its_rows(run: Run) -> None:
    folder, rows, _ = run
    assert {(r["arm"], r["critic"], r["stop"], r["turns"]) for r in rows} == {
        ("supervised", "none", "never", 1),
        ("supervised+", "none", "never", 1),
        ("ppo", "none", "never", 1),
        ("critic-alone", "none", "never", 1),
        ("refiner", "none", "never", 1),
        *((arm, "learned", "critic", t) for arm in ACTING for t in (1, 2)),
        *((arm, "oracle", "gold", t) for arm in ACTING for t in (1, 2)),
        *((arm, critic, stop, t) for arm in ACTING[:3] for critic, stop in NAMED for t in (1, 2)),
        *((arm, "none", "never", 1) for arm in ABLATIONS.values()),
        *(("retries", "none", stop, t) for stop in ("never", "gold") for t in (1, 2)),
    }
    assert rows == read_rows(folder / "results.jsonl")
    for row in rows:
        assert set(row) == {f.name for f in fields(Row)}
        assert all(0 <= row[key] <= 1 for key in ("ir_exact", "ir_equivalent", "answer_acc", "unparsable"))
        assert row["n"] == 12 and row["train_tokens"] > 0


def test_a_critic_that_fails_is_counted_and_stops_nothing(run: Run) -> None:
    _, rows, shown = run
    for row in rows:
        asked = row["n"] * row["turns"] if row["critic"].endswith(":Broken") else 0
        assert row["critic_failures"] == asked
    assert "the critic failed in 24 reviews" in shown


def test_controls_start_from_refiners_own_first_hypotheses(run: Run) -> None:
    folder, rows, _ = run
    arms = ("refiner", "scripted", "retries")
    first = [r for r in rows if r["turns"] == 1 and r["arm"] in arms]
    assert len({(r["ir_equivalent"], r["unparsable"]) for r in first}) == 1

    def hypotheses(name: str) -> list[str]:
        records = read_episodes(folder / "seed-0" / f"episodes-{name}.jsonl")
        assert len(records) == 12 and f"{records[0].critic}-{records[0].stop}" == name.partition("-")[2]
        return [record.episode.turns[0].hypothesis for record in records]

    assert hypotheses("refiner-oracle-gold") == hypotheses("scripted-oracle-gold") == hypotheses("retries-none-never")


def test_supervised_plus_and_ppo_spend_refiners_tokens(run: Run) -> None:
    folder, rows, _ = run
    tokens = {r["arm"]: r["train_tokens"] for r in rows}
    warm = tokens["supervised"]
    largest_batch = 16 * 200
    assert 0 <= (tokens["supervised+"] - warm) - (tokens["refiner"] - warm) < largest_batch
    assert 0 <= (tokens["ppo"] - warm) - (tokens["refiner"] - warm) < 2 * largest_batch
    spent = json.loads((folder / "seed-0/refiner/training.json").read_text())["spent"]
    assert tokens["refiner"] == warm + spent["tokens"]


def test_the_folder_explains_the_run(run: Run) -> None:
    folder, _, shown = run
    header = json.loads((folder / "run.json").read_text())
    assert header["options"]["refiner"]["steps"] == 6 and header["data_sizes"] == {"train": 120, "dev": 8, "test": 12}
    assert header["versions"]["trl"] and len(header["data_hash"]) == len(header["options_hash"]) == 16
    report = (folder / "report.md").read_text()
    for text in ("supervised+", "stops by gold, which", "PPO's mean reward", "Learned critic on", header["data_hash"]):
        assert text in report
    assert "vote" in shown
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "generator refiner-tiny, critic warm-start" in report  # which models were started from
    quality = json.loads((folder / "seed-0/critic-quality.json").read_text())
    assert quality["perturbed"]["n"] == quality["own"]["n"] == 12
    for stage in ("warm_start", "critic", "refiner", "supervised_plus", "ppo", *ABLATIONS):
        assert (folder / "seed-0" / stage / "model.safetensors").exists()
        assert (folder / "seed-0" / stage / "metrics.jsonl").read_text().count("\n") >= 3


def test_a_run_cut_short_goes_on_where_it_stopped(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in PPO's training and again in evaluation, it ends with the rows of the uninterrupted run."""
    folder = tmp_path / "cut"
    quiet = Console(file=open(os.devnull, "w"))  # noqa: SIM115
    with monkeypatch.context() as patch:
        patch.setattr(arms, "train_ppo", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compare(SMALL, folder, quiet)
    assert not (folder / "results.jsonl").exists() and (folder / "seed-0/supervised_plus/training.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(arms, "majority", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compare(SMALL, folder, quiet, resume=True)
    results = folder / "results.jsonl"
    finished = read_rows(results)
    assert 0 < len(finished) < len(run[1]) and finished[-1]["turns"] == 2
    text = results.read_text()
    results.write_text(text[:-40])  # as a process leaves it that was killed while it wrote
    assert read_rows(results) == finished[:-1]
    rows = compare(SMALL, folder, quiet, resume=True)
    timeless = [{k: v for k, v in row.items() if k != "wall_s"} for row in rows]
    assert timeless == [{k: v for k, v in row.items() if k != "wall_s"} for row in run[1]]


def test_a_line_that_is_no_row_is_named_before_anything_is_trained(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "spoiled"
    shutil.copytree(run[0], folder)
    shutil.rmtree(folder / "seed-0")
    results = folder / "results.jsonl"
    first, *rest = results.read_text().splitlines(keepends=True)
    for spoiled in ("{}\n", "[]\n", "not a row\n", first[:20] + "\n"):
        results.write_text(first + spoiled + "".join(rest))
        with pytest.raises(DataError, match=r"results\.jsonl, line 2 is no row of results: .* --overwrite\.$"):
            compare(SMALL, folder, Console(file=open(os.devnull, "w")), resume=True)  # noqa: SIM115
    assert not (folder / "seed-0").exists()


def test_every_critic_has_files_of_its_own() -> None:
    critics = [
        "oracle",
        "noisy",
        "noisy(oracle, 0.5)",
        "noisy(oracle; 0.5)",
        "noisy-oracle-0.5",
        "a/b.py:C",
        "a-b.py-C",
    ]
    names = [file_name(critic) for critic in critics]
    assert len(set(names)) == len(critics) and names[0] == "oracle"
    assert all(set(name).isdisjoint("/\\:(), ;") for name in names)


def test_random_critics_are_seeded_for_each_evaluation(
    task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing hangs on what was evaluated before, as after a resume; and a critic that is named twice counts once."""
    heard: list[list[Feedback]] = []

    def listen(*args: Any, critic: Critic, **options: Any) -> list[Episode]:
        heard.append(critic.critique(train[:20], [task.guess] * 20))
        return []

    monkeypatch.setattr(arms, "play", listen)
    options = replace(SMALL, critics=("noisy(oracle, 0.5)",) * 2, ablations=False)
    models: Any = defaultdict(lambda: (None, None, {}))

    def refine(seed: int) -> Callable[[], list[Episode]]:
        found = list(arms.evaluations(options, task, Splits("", train, train, train, Audit()), seed, models))
        (noisy,) = [e for e in found if (e.arm, e.critic) == ("refiner", "noisy(oracle, 0.5)")]
        return noisy.play

    again = refine(0)
    for play in (again, again, refine(0), refine(1)):
        play()
    assert heard[0] == heard[1] == heard[2] != heard[3]


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_existing_folders_are_refused_unless_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, quiet = run[0], Console(file=open(os.devnull, "w"))  # noqa: SIM115
    with pytest.raises(RefinerError, match="--resume to go on, --overwrite"):
        compare(SMALL, folder, quiet)
    with pytest.raises(RefinerError, match="other options"):
        compare(replace(SMALL, turns=3), folder, quiet, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.compare.files_hash", lambda spec: "trained anew")
        with pytest.raises(RefinerError, match="other models"):
            compare(SMALL, folder, quiet, resume=True)
    (tmp_path / "precious.txt").write_text("not ours")
    with pytest.raises(RefinerError, match="not deleted"):
        compare(SMALL, tmp_path, quiet, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "not ours"


@pytest.mark.parametrize(
    ("argv", "error", "text"),
    [
        (["--preset", "quik"], UnknownNameError, "Did you mean 'quick'"),
        (["--refiner.turns", "0"], OptionError, "--refiner.turns is 0: it must be between 1 and 16"),
        (["--refiner.source", "polcy"], UnknownNameError, "Did you mean 'policy'"),
        (["--ppo.reward", "bleau"], UnknownNameError, "Did you mean 'bleu'"),
        (["--refiner.source", "unseen", "--warm-start.share", "1"], OptionError, "below 1"),
        (["--data.source", "svmp"], UnknownNameError, "Did you mean 'svamp'"),
        (["--task", "MathWordProblm"], UnknownNameError, "Did you mean 'MathWordProblem'"),
        (["--generator-model", "scratch:tny"], UnknownNameError, "Did you mean 'tiny'"),
    ],
)
def test_bad_options_are_named_before_any_training(
    tmp_path: Path, argv: list[str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        main([*argv, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_presets_are_within_their_own_ranges() -> None:
    for options in PRESETS.values():
        validate(options)


def test_a_saved_model_can_be_evaluated_and_trained_on(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, rows, _ = run
    generator, critic = str(folder / "seed-0/refiner"), str(folder / "seed-0/critic")
    data = ["--data.n-train", "120", "--data.n-dev", "8", "--data.n-test", "12"]
    out, episodes = tmp_path / "figures.jsonl", tmp_path / "episodes.jsonl"
    files = ["--out", str(out), "--episodes", str(episodes)]
    assert evaluate(["--generator", generator, "--critic", critic, "--turns", "2", *files, *data]) == 0
    records = read_episodes(episodes)
    assert len(records) == 12 and {(r.task, r.critic, r.stop) for r in records} == {
        ("MathWordProblem", critic, "critic")
    }
    assert replay([str(episodes), "--critic", critic, "--critic", "oracle"]) == 0
    with pytest.raises(RefinerError, match=r"--episodes .* exists"):
        evaluate(["--generator", generator, "--episodes", str(episodes)])
    figures = [json.loads(line) for line in out.read_text().splitlines()]
    same = [r for r in rows if (r["arm"], r["critic"]) == ("refiner", "learned")]
    for key in ("turns", "n", "ir_equivalent", "fixed", "broken", "mean_turns"):
        assert [f[key] for f in figures] == [r[key] for r in same], key
    assert "equivalent" in capsys.readouterr().out
    smallest = ["--train.batch-size", "8", *data]
    for what, extra in {
        "generator": ["--train.steps", "1"],
        "critic": ["--train.steps", "1", "--model", critic],
        "refiner": ["--train.steps", "1", "--train.turns", "2", "--model", generator, "--critic", critic],
        "ppo": ["--token-budget", "100", "--train.epochs", "1", "--model", generator],
    }.items():
        assert train([what, *smallest, *extra, "--out", str(tmp_path / what)]) == 0
        record = json.loads((tmp_path / what / "training.json").read_text())
        assert record["what"] == what and record["spent"]["tokens"] > 0
        assert load_model(tmp_path / what).generate(["text"])
    with pytest.raises(RefinerError, match="--overwrite"):
        train(["generator", *smallest, "--out", str(tmp_path / "generator")])
    with pytest.raises(OptionError, match="needs --model"):
        train(["ppo", "--out", str(tmp_path / "x")])
    with pytest.raises(UnknownNameError, match="Did you mean 'refiner'"):
        train(["refner", "--out", str(tmp_path / "x")])


# ------------------------------------------------------------------------------------------------ arithmetic


def test_intervals_over_seeds_are_students_t_and_over_problems_wilsons() -> None:
    three = interval([0.40, 0.50, 0.60], 1000)
    assert three.mean == pytest.approx(0.5)
    assert three.high - three.mean == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)
    one = interval([0.5], 100)
    assert (one.low, one.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert interval([0.0], 10).low == 0.0


def test_a_majority_stands_by_the_most_frequent_hypothesis_so_far() -> None:
    def turn(text: str) -> Turn:
        return Turn(text, Feedback(False, ""), Scores(False, False, False, 0.0), 0.0, None)

    a, b, b_too = "junk", "#0: add ( number0, number1 ) | EOS", "#0: add ( number1, number0 ) | EOS"
    episode = Episode(Problem("u", "x", "b", 1.0), tuple(map(turn, (a, b, b_too, a, a))))
    stands = majority(MathWordProblem(), episode)
    assert [t.hypothesis for t in stands.turns] == [a, a, b, a, a]


def test_the_table_and_findings_average_over_seeds(run: Run) -> None:
    folder, rows, _ = run
    other = [{**r, "seed": 1, "ir_equivalent": 1.0, "fixed": 10} for r in rows]
    zeros = [{**r, "ir_equivalent": 0.0, "fixed": 0} for r in rows]
    line = next(x for x in table_rows(zeros + other) if x[:3] == ("refiner", "oracle*", "2"))
    assert line[3].startswith("50.0 [0.0, 100.0]") and line[5] == "5/0"
    notes = findings(folder, zeros + other)
    assert any("T=1 to T=2: 50.0% to 50.0% (+0.0 points" in note for note in notes)
    same = "refiner (oracle*, T=2) minus supervised+ (none, T=1): +0.0 points [+0.0, +0.0], paired over 2 seeds."
    assert same in notes
    better = [{**r, "ir_equivalent": 1.0 if r["critic"] == "oracle" else 0.25} for r in rows]
    alone = "refiner (oracle*, T=2) minus supervised+ (none, T=1): +75.0 points, one seed."
    assert alone in findings(folder, better)


def test_a_difference_is_paired_by_seed() -> None:
    d = difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    assert (d.mean, d.low, d.high) == pytest.approx((0.1, 0.1, 0.1))
    d = difference([0.3, 0.5], [0.2, 0.2])  # t(0.975, 1) = 12.706; standard error 0.1
    assert (d.mean, d.high - d.mean) == pytest.approx((0.2, 1.2706), abs=1e-4)


def test_training_is_seeded_per_stage(tmp_path: Path, run: Run) -> None:
    """A model trained after others were read back is the one trained in the same breath."""
    source = run[0]
    shutil.copytree(source, tmp_path / "again")
    shutil.rmtree(tmp_path / "again/seed-0/refiner")
    from data import load_splits
    from trainers.progress import Progress

    task = MathWordProblem()
    training = Training(SMALL, task, load_splits(task, SMALL.data), 0, tmp_path / "again/seed-0", Progress())
    training.run()
    first, second = ((root / "seed-0/refiner/model.safetensors").read_bytes() for root in (source, tmp_path / "again"))
    assert first == second


def test_a_stage_is_the_same_trained_just_now_or_read_back(
    tmp_path: Path, lm: LanguageModel, task: MathWordProblem
) -> None:
    """In what it computes, too; those with REFINER's budget have no patience, and no checkpoints are left over."""
    from data import load_splits
    from trainers.progress import Progress

    options = replace(SMALL, run=RunOptions(precision="bf16", patience=2))
    training = Training(options, task, load_splits(task, SMALL.data), 0, tmp_path, Progress())

    def train_one(run: TrainingRun) -> arms.Result:
        model = lm.clone()
        prepare(model, run.options)
        return model, Outcome(Spent(steps=1), [], {}), {"patience": run.options.patience}

    for name, patience in {"refiner": 2, "supervised_plus": 0, "ppo": 0}.items():
        fresh = training._stage(name, train_one)
        (tmp_path / name / "checkpoints").mkdir()  # killed before they were deleted
        again = training._stage(name, train_one)
        assert fresh[0].precision == again[0].precision and fresh[0].model.training == again[0].model.training
        assert fresh[1:] == again[1:] == (Spent(steps=1), {"patience": patience})
        assert not (tmp_path / name / "checkpoints").exists()


def test_the_command_prints_one_line_for_a_persons_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refiner_env.cli", "compare", "--preset", "quik"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("refiner: Unknown preset 'quik'. Did you mean 'quick'?")


def test_a_preset_belongs_to_its_task() -> None:
    assert preset("quick").task == preset("quick", "mwp").task == "MathWordProblem"
    with pytest.raises(UnknownNameError, match=r"preset of SyntheticReasoning 'svamp'.* Known: quick"):
        preset("svamp", "snlr")
    with pytest.raises(UnknownNameError, match=r"task 'snrl'. Did you mean 'snlr'"):
        preset("quick", "snrl")
    for (_, task), options in PRESETS.items():
        assert options.task == task
