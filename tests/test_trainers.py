"""Supervised, critic and REFINER training, rollouts and their figures."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Seen
from gymnasium.vector import AutoresetMode

from agents.critic import LearnedCritic
from agents.encoder_decoder import EncoderDecoder
from agents.generator import Generator, Retrier
from agents.lm import LanguageModel
from agents.prompts import HINT, PREVIOUS, critic_prompts, generator_prompt
from data.negatives import CriticPair, critic_pairs
from refiner_env import NoCritic, OracleCritic, RefinerVectorEnv
from refiner_env.errors import OptionError
from refiner_env.referees import Rules
from refiner_env.tasks import MathWordProblem
from refiner_env.tasks.program import Program
from refiner_env.types import Agent, Episode, Feedback, Observations, Problem, Scores, StopReason, Turn
from trainers import calibration, refiner
from trainers.batches import batch, share_of
from trainers.calibration import calibrated
from trainers.critic import CriticOptions, attempts, critic_batches, solution_batches, train_critic
from trainers.evaluation import critic_figures, turn_figures
from trainers.learning import BestWeights, Learner, fit, supervised
from trainers.refiner import (
    RefinerOptions,
    check_options,
    hypothesis_source,
    refiner_step,
    train_refiner,
    turn_weights,
)
from trainers.rollout import play, rollout, select
from trainers.runs import Run
from trainers.warm_start import WarmStartOptions, supervised_batches, warm_start, warm_start_share


class Script(Agent):
    """Says what it is told, per problem text and turn."""

    def __init__(self, lines: dict[str, list[str]]) -> None:
        self.lines, self.seen = lines, Counter[str]()

    def act(self, observations: Observations) -> list[str]:
        rows = list(zip(observations["problem"], observations["turn"], strict=True))
        self.seen.update(problem for problem, _ in rows)
        return [self.lines[problem][turn] for problem, turn in rows]


@pytest.fixture
def scripted(dev: list[Problem]) -> tuple[list[Problem], Script]:
    """Three problems: right at once; wrong, then right; right, but spoiled later."""
    a, b, c = dev[:3]
    wrong = "number9 EOS"
    lines = {
        a.text: [a.gold or ""] * 3,
        b.text: [wrong, "nonsense", b.gold or ""],
        c.text: [c.gold or "", wrong, wrong],
    }
    return [a, b, c], Script(lines)


# ------------------------------------------------------------------------------------------------- rollouts


def test_finished_episodes_leave_the_batch(task: MathWordProblem, scripted: tuple[list[Problem], Script]) -> None:
    problems, agent = scripted
    episodes = play(agent, task, problems, critic="oracle", turns=3, stop="critic", num_envs=2)
    assert [len(e.turns) for e in episodes] == [1, 3, 1]
    assert [agent.seen[p.text] for p in problems] == [1, 3, 1]
    assert [e.stop for e in episodes] == [StopReason.ACCEPTED, StopReason.ACCEPTED, StopReason.ACCEPTED]
    assert [e.problem.uid for e in episodes] == [p.uid for p in problems]


class Crowd(Agent):
    """Always wrong; notes how many it is asked at once, and of which turns."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def act(self, observations: Observations) -> list[str]:
        self.asked.append(sorted(observations["turn"].tolist()))
        return ["number9 EOS"] * len(observations["problem"])


def test_the_next_episode_takes_the_place_of_one_that_has_ended(
    task: MathWordProblem, scripted: tuple[list[Problem], Script]
) -> None:
    problems, agent = scripted
    env = RefinerVectorEnv(
        2, task=task, problems=problems, stop="critic", max_turns=3, autoreset_mode=AutoresetMode.DISABLED
    )
    ended = list(rollout(env, agent, [0, 1, 2, 0]))
    assert [number for number, _ in ended] == [0, 2, 3, 1]
    assert [e.problem.uid for _, e in ended] == [problems[i].uid for i in (0, 2, 0, 1)]
    assert [len(e.turns) for _, e in ended] == [1, 1, 1, 3]


def test_a_stream_without_end_keeps_all_places_busy(task: MathWordProblem, dev: list[Problem]) -> None:
    crowd, taken = Crowd(), itertools.count()
    env = RefinerVectorEnv(
        4, task=task, problems=dev, critic="none", stop="never", max_turns=2, autoreset_mode=AutoresetMode.DISABLED
    )
    episodes = rollout(env, crowd, (next(taken) % len(dev) for _ in iter(int, 1)))
    first = [next(episodes)[0] for _ in range(10)]
    assert first == list(range(10)) and {len(turns) for turns in crowd.asked} == {4}
    assert next(taken) == 12, "no problem is asked for before there is a place for it"


def test_retries_of_several_turns_are_asked_side_by_side(lm: LanguageModel, dev: list[Problem]) -> None:
    agent, texts = Retrier(lm.clone(), 0.9), [p.text for p in dev[:3]]
    greedy = lm.clone().generate([generator_prompt(text) for text in texts])
    blank = [""] * 3
    mixed: Observations = {"problem": texts, "hypothesis": blank, "feedback": blank, "turn": np.array([0, 1, 0])}
    written = agent.act(mixed)
    assert (written[0], written[2]) == (greedy[0], greedy[2])


def test_stops_by_gold_and_by_critic_are_told_apart(
    task: MathWordProblem, scripted: tuple[list[Problem], Script]
) -> None:
    problems, agent = scripted
    by_gold = play(agent, task, problems, critic="none", turns=3, stop="gold")
    assert [e.stop for e in by_gold] == [StopReason.SOLVED, StopReason.SOLVED, StopReason.SOLVED]
    never = play(agent, task, problems, critic="oracle", turns=3, stop="never")
    assert {e.stop for e in never} == {StopReason.MAX_TURNS} and {len(e.turns) for e in never} == {3}


def test_figures_count_fixed_broken_and_unparsable(
    task: MathWordProblem, scripted: tuple[list[Problem], Script]
) -> None:
    problems, agent = scripted
    episodes = play(agent, task, problems, critic="none", turns=3, stop="never")
    first, second, third = (turn_figures(task, episodes, t) for t in (1, 2, 3))
    assert (first.ir_equivalent, first.fixed, first.broken) == (pytest.approx(2 / 3), 0, 0)
    assert (second.ir_equivalent, second.fixed, second.broken) == (pytest.approx(1 / 3), 0, 1)
    assert (third.ir_equivalent, third.fixed, third.broken) == (pytest.approx(2 / 3), 1, 1)
    assert (second.unparsable, third.mean_turns, third.n) == (pytest.approx(1 / 3), 3.0, 3)


# ------------------------------------------------------------------------------------------------- learning


def test_batches_are_full_and_use_every_index_once_a_pass() -> None:
    drawn = [i for number in range(5) for i in batch(10, 4, 0, number)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_a_share_is_seeded_and_of_its_size() -> None:
    assert share_of(range(100), 0.1, random.Random(1)) == share_of(range(100), 0.1, random.Random(1))
    assert len(share_of(range(100), 0.1, random.Random(0))) == 10


def test_training_lowers_the_loss_and_counts_tokens(lm: LanguageModel, train: list[Problem], seen: Seen) -> None:
    model = lm.clone()
    batches = supervised_batches(train[:16], 16, 0)
    spent = fit(model, supervised(batches), Run(0, seen), learning_rate=2e-3, steps=25).spent
    losses = [m["loss"] for m in seen.metrics]
    assert losses[-1] < 0.5 * losses[0]
    whole = batches(0)
    assert spent.tokens == 25 * model.loss(whole.prompts, whole.targets).tokens and spent.steps == 25


def test_a_token_budget_is_met_within_one_batch(lm: LanguageModel, train: list[Problem]) -> None:
    step = supervised(supervised_batches(train, 8, 0))
    spent = fit(lm.clone(), step, Run(), learning_rate=1e-4, token_budget=6_000).spent
    assert 6_000 <= spent.tokens < 6_000 + 8 * 200


def test_the_best_weights_are_kept(lm: LanguageModel, train: list[Problem]) -> None:
    model, scores = lm.clone(), iter([0.2, 0.9, 0.1, 0.3])
    learner, kept = Learner(model, 1e-3), []
    best = BestWeights(learner, lambda: {"dev": next(scores)})
    for step in range(1, 5):
        learner.backward(["u"], [train[0].text], [train[0].gold or ""])
        learner.step(step / 4)
        best.check(step)
        kept.append(model.model.get_input_embeddings().weight.detach().clone())
    best.restore()
    assert torch.equal(model.model.get_input_embeddings().weight, kept[1])
    assert best.best == {"step": 2, "dev": 0.9} and best.stale == 2


def test_scoring_is_not_counted_as_rollout(lm: LanguageModel) -> None:
    model = lm.clone()
    BestWeights(Learner(model, 1e-3), lambda: {"dev": float(len(model.generate(["some text"])))}).check(1)
    assert model.generated_tokens == 0


def test_a_gradient_that_is_not_finite_leaves_the_weights(lm: LanguageModel, train: list[Problem]) -> None:
    model = lm.clone()
    learner = Learner(model, 1e-3)
    learner.backward(["u"], [train[0].text], [train[0].gold or ""], weight=float("inf"))
    assert not learner.step(0.5) and learner.spent.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(model.model.parameters(), lm.model.parameters(), strict=True))


def test_the_warm_start_sees_its_share_only(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], dev: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = lm.clone(), set[str]()
    loss = LanguageModel.loss
    monkeypatch.setattr(LanguageModel, "loss", lambda self, p, t, w: (prompts.update(p), loss(self, p, t, w))[1])
    options = WarmStartOptions(steps=8, batch_size=8, share=0.1)
    warm_start(model, task, train, dev[:4], options, Run(5))
    assert prompts == {train[i].text for i in warm_start_share(len(train), 0.1, 5)} and len(prompts) == 20


# --------------------------------------------------------------------------------------------------- critic


def test_critic_pairs_have_the_oracles_feedback_and_the_asked_share(
    task: MathWordProblem, train: list[Problem]
) -> None:
    pairs = critic_pairs(task, train * 5, random.Random(0), no_hint_share=0.25)
    accepted = [p for p in pairs if task.read_feedback(p.feedback).accepted]
    assert 0.2 < len(accepted) / len(pairs) < 0.3
    for pair in pairs[:200]:
        assert pair.feedback == OracleCritic(task).critique([pair.problem], [pair.hypothesis])[0].text
        assert task.score(pair.problem, pair.hypothesis).ir_equivalent is task.read_feedback(pair.feedback).accepted
    assert pairs == critic_pairs(task, train * 5, random.Random(0), no_hint_share=0.25)


def test_critic_figures_against_hand_counted_feedback(task: MathWordProblem, train: list[Problem]) -> None:
    operator, step = "The operator in #0 is incorrect.", "Step #0 is not needed."
    said = ["No hint.", "No hint.", operator, f"{step} {operator}"]
    right = ["No hint.", operator, "No hint.", f"{operator} {step}"]

    class Fixed(LearnedCritic):
        def critique(self, problems: object, hypotheses: object) -> list[object]:  # type: ignore[override]
            return [self.task.read_feedback(text) for text in said]

    pairs = [CriticPair(p, "z", text) for p, text in zip(train, right, strict=False)]
    figures = critic_figures(task, Fixed(None, task), pairs)  # type: ignore[arg-type]
    assert figures.exact == 0.5  # the first, and the last in another order
    assert (figures.accept_precision, figures.accept_recall) == (0.5, 0.5)
    assert (figures.reject_precision, figures.reject_recall) == (0.5, 0.5)


def test_the_oracle_has_perfect_figures(task: MathWordProblem, train: list[Problem]) -> None:
    pairs = critic_pairs(task, train, random.Random(0), no_hint_share=0.3)
    figures = critic_figures(task, OracleCritic(task), pairs)
    right = sum(task.score(p.problem, p.hypothesis).ir_equivalent for p in pairs) / len(pairs)
    assert figures.accepted == figures.right == right
    assert {figures.exact, figures.accept_precision, figures.accept_recall, figures.reject_recall} == {1.0}


def test_a_critic_that_accepts_nothing_is_said_to(task: MathWordProblem, train: list[Problem]) -> None:
    pairs = critic_pairs(task, train[:20], random.Random(0), no_hint_share=0.5)
    figures = critic_figures(task, NoCritic(task), pairs)
    assert figures.accepted == figures.accept_precision == 0.0 and figures.reject_recall == 1.0
    assert "accepts none of them" in str(figures) and "rejects 100% of them" in str(figures)


def test_a_critic_learns_the_words_and_the_frequency_of_accepting(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    """Which hypotheses are right takes it far longer."""
    model = lm.clone()
    options = CriticOptions(steps=60, batch_size=16, learning_rate=2e-3, no_hint_share=0.5)

    def said() -> tuple[float, set[str]]:
        """(mean probability of accepting, kinds of faults in what it writes otherwise)."""
        strict = LearnedCritic(model, task, 2.0)
        feedback = strict.critique(train[:8], [p.gold or "" for p in train[:8]])
        return sum(f.accept_probability or 0.0 for f in feedback) / 8, {x.kind for f in feedback for x in f.faults}

    probability, kinds = said()
    assert probability < 0.01 and kinds == {"other"}
    spent = train_critic(model, task, train[:8], train[:8], options).spent
    probability, kinds = said()
    assert 0.2 < probability < 0.8 and kinds and "other" not in kinds
    assert spent.steps == 60


def test_a_critic_learns_from_the_generators_own_errors(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    pairs = attempts(lm, task, train[:6], 0.9)
    assert [p.problem.uid for p in pairs] == [p.uid for p in train[:6]]
    assert all(p.feedback == OracleCritic(task).critique([p.problem], [p.hypothesis])[0].text for p in pairs)
    options = CriticOptions(batch_size=6, own_share=1.0)
    own = [[p] for p in pairs]
    found = critic_batches(task, train[:6], options, 0, own)(0)
    prompts = critic_prompts([p.problem.text for p in pairs], [p.hypothesis for p in pairs])
    assert sorted(found.prompts) == sorted(prompts) and sorted(found.targets) == sorted(p.feedback for p in pairs)


def test_a_solving_critic_learns_gold_of_varied_problems(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    plain = CriticOptions(batch_size=len(train), variation_share=0.0, writes="solution")
    found = solution_batches(task, train, plain, 0)(0)
    assert sorted(zip(found.prompts, found.targets, strict=True)) == sorted((p.text, p.gold or "") for p in train)
    prompts = solution_batches(task, train, replace(plain, variation_share=1.0), 0)(0).prompts
    assert sum(p.text in prompts for p in train) < 0.3 * len(train) and len(set(prompts)) == len(train)
    model = lm.clone()
    options = CriticOptions(steps=2, batch_size=8, learning_rate=1e-3, writes="solution")
    assert train_critic(model, task, train, train[:4], options).spent.steps == 2
    before, after = lm.model.state_dict(), model.model.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_variations_reach_the_critic_by_their_share(task: MathWordProblem, train: list[Problem]) -> None:
    def told_as_they_are(share: float) -> int:
        options = CriticOptions(batch_size=200, variation_share=share)
        prompts = critic_batches(task, train, options, 0)(0).prompts
        texts = {p.text for p in train}
        return sum(prompt.split(f" {PREVIOUS}")[0] in texts for prompt in prompts)

    assert told_as_they_are(0.0) == 200
    assert 80 < told_as_they_are(0.5) < 150
    assert told_as_they_are(1.0) < 60


def test_what_stands_was_accepted_or_is_likeliest_or_last(train: list[Problem]) -> None:
    def standing(*turns: tuple[str, float | None, StopReason | None]) -> str:
        made = [
            Turn(z, Feedback(False, "x", accept_probability=p), Scores(False, False, False, 0.0), 0.0, s)
            for z, p, s in turns
        ]
        return Episode(train[0], tuple(made)).at(len(made)).hypothesis

    assert standing(("a", 0.3, None), ("b", 0.1, None), ("c", 0.2, StopReason.MAX_TURNS)) == "a"
    assert standing(("a", 0.3, None), ("b", 0.3, StopReason.MAX_TURNS)) == "b"
    assert standing(("a", 0.9, None), ("b", 0.1, StopReason.SOLVED)) == "b"
    assert standing(("a", 0.9, None), ("b", 0.1, StopReason.ACCEPTED)) == "b"
    assert standing(("a", None, None), ("b", None, StopReason.MAX_TURNS)) == "b"


class Oracular(LearnedCritic):
    """Knows what is right with a probability that tells nothing of it below 0.5, and everything above."""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        feedback = []
        for hypothesis in hypotheses:
            sure = hypothesis == "#0: add ( number0, number1 ) | EOS"
            probability = 0.8 if sure else 0.4
            accepted = probability >= self.threshold
            feedback.append(Feedback(accepted, "No hint." if accepted else "x", accept_probability=probability))
        return feedback


def test_the_threshold_is_the_lowest_with_most_right_on_development_problems(
    task: MathWordProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = "#0: add ( number0, number1 ) | EOS"
    wrong = "#0: multiply ( number0, number1 ) | EOS"
    dev = [Problem(f"u{i}", f"p{i} number0 number1", gold, 3.0, {"numbers": (1.0, 2.0)}) for i in range(4)]

    def threshold(lines: dict[str, list[str]]) -> float:
        with monkeypatch.context() as patch:
            patch.setattr(calibration, "Generator", lambda lm: Script(lines))
            return calibrated(Oracular(None, task), None, task, dev, 2).threshold  # type: ignore[arg-type]

    mends = {p.text: [wrong, gold] for p in dev[:2]} | {p.text: [gold, wrong] for p in dev[2:]}
    assert 0.4 < threshold(mends) <= 0.8  # wrong ones go on, right ones stay
    spoils = {p.text: [wrong, wrong] for p in dev[:2]} | {p.text: [gold, wrong] for p in dev[2:]}
    assert threshold(spoils) == 0.0  # nothing to gain: everything is left alone


def test_a_threshold_is_chosen_with_the_history_that_the_generator_reads(
    task: MathWordProblem, dev: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader(Generator):
        def act(self, observations: Observations) -> list[str]:
            assert len(observations["history"]) == 2
            return [task.guess] * len(observations["problem"])

    monkeypatch.setattr(calibration, "Generator", Reader)
    calibrated(Oracular(None, task), None, task, dev[:2], 3, history=3)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- REFINER

SMALL = RefinerOptions(steps=3, batch_size=8, turns=3, learning_rate=1e-3)


def loop(task: MathWordProblem, train: list[Problem], turns: int = 3, history: int = 1) -> RefinerVectorEnv:
    rules: Rules = {"task": task, "problems": train, "max_turns": turns, "stop": "gold", "history": history}
    return RefinerVectorEnv(4, AutoresetMode.DISABLED, **rules)


class Ledger(Learner):
    """Records what would be trained on."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__(lm, 0.0)
        self.calls: list[tuple[list[str], list[str], float]] = []

    def backward(  # type: ignore[override]
        self, uids: list[str], prompts: list[str], targets: list[str], weight: float = 1.0
    ) -> torch.Tensor:
        self.calls.append((prompts, targets, weight))
        return torch.zeros(())


def test_a_step_shows_last_hypothesis_and_feedback_and_drops_what_is_solved(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    ledger, wrong = Ledger(lm), "number9 EOS"

    def propose(places: list[int], observations: Observations, seed: int) -> list[str]:
        return [(train[i].gold or "") if i % 2 else wrong for i in places]  # odd places are solved at once

    options = replace(SMALL, turn_weights=(1.0, 0.5))
    figures = refiner_step(ledger, loop(task, train), [0, 1, 2, 3], propose, options, 0)  # type: ignore[arg-type]
    assert figures["solved"] == 0.5
    first, second, third = ledger.calls
    assert first[0] == [train[i].text for i in range(4)] and first[2] == 1.0
    assert second[1] == third[1] == [train[0].gold, train[2].gold]
    feedback = OracleCritic(task).critique([train[0]], [wrong])[0].text
    assert second[0][0] == f"{train[0].text} {PREVIOUS} {wrong} {HINT} {feedback}"
    assert second[2] == third[2] == 0.5 * 2 / 4


def test_with_more_history_the_generator_reads_all_of_it(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    ledger, written = Ledger(lm), iter(["number8 EOS"] * 2 + ["number9 EOS"] * 2)

    def propose(places: Sequence[int], observations: Observations, seed: int) -> list[str]:
        return [next(written) for _ in places]

    refiner_step(ledger, loop(task, train, history=2), [0, 1], propose, replace(SMALL, history=2), 0)
    said = [OracleCritic(task).critique([train[1]], [z])[0].text for z in ("number8 EOS", "number9 EOS")]
    told = f"{PREVIOUS} number8 EOS {HINT} {said[0]} {PREVIOUS} number9 EOS {HINT} {said[1]}"
    assert ledger.calls[2][0][1] == f"{train[1].text} {told}"


def test_gold_is_a_target_and_never_an_input(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    ledger = Ledger(lm)
    propose, _ = hypothesis_source(lm, task, train, replace(SMALL, source="perturbation"), ())
    for start in range(0, 200, 4):
        refiner_step(ledger, loop(task, train), list(range(start, start + 4)), propose, SMALL, start)
    assert len(ledger.calls) == 150
    for prompts, targets, _ in ledger.calls:
        for prompt, gold in zip(prompts, targets, strict=True):
            assert gold not in prompt


def test_nothing_is_sampled_after_the_last_turn(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    calls = []

    def propose(places: list[int], observations: Observations, seed: int) -> list[str]:
        calls.append(len(places))
        return ["nonsense"] * len(places)

    refiner_step(Ledger(lm), loop(task, train, 4), [0, 1, 2], propose, replace(SMALL, turns=4), 0)  # type: ignore[arg-type]
    assert calls == [3, 3, 3]


def test_turn_weights_repeat_the_last_and_sum_to_one_for_mean() -> None:
    assert turn_weights(replace(SMALL, turn_weights=(1.0,))) == [1.0, 1.0, 1.0]
    assert turn_weights(replace(SMALL, turn_weights=(2.0, 1.0), turn_loss="mean")) == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("options", "share", "text"),
    [
        (replace(SMALL, turn_weights=(0.0,)), 0.5, r"--train.turn-weights is \(0.0,\)"),
        (replace(SMALL, source="unseen"), 1.0, "--train.source unseen needs --share below 1: it is 1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: RefinerOptions, share: float, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        check_options(options, share, "--train", "--share")


def test_gradients_of_turns_add_up(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    """One backward pass per turn gives the gradient of the summed loss."""
    texts = [p.text for p in train[:4]], [p.gold or "" for p in train[:4]]
    twice, once = Learner(lm.clone(), 1.0), Learner(lm.clone(), 1.0)
    for learner in (twice, once):
        learner.lm.model.eval()  # no dropout, so that the two can be compared
    twice.backward([], *texts, 0.5)
    twice.backward([], *texts, 0.5)
    once.backward([], *texts)
    for a, b in zip(twice.lm.model.parameters(), once.lm.model.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def test_each_turns_graph_is_gone_before_the_next_turn(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the turns."""
    kept = 0
    before: list[int] = []

    class Saved:
        """A tensor that waits for its backward pass."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal kept
            kept += 1
            self.tensor = tensor

        def __del__(self) -> None:
            nonlocal kept
            kept -= 1

    forced, after = EncoderDecoder.teacher_forced, list[int]()

    def watched(self: EncoderDecoder, *given: torch.Tensor) -> torch.Tensor:
        before.append(kept)
        logits = forced(self, *given)
        after.append(kept)
        return logits

    def propose(places: Sequence[int], observations: Observations, seed: int) -> list[str]:
        return ["nonsense"] * len(places)

    monkeypatch.setattr(EncoderDecoder, "teacher_forced", watched)
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        refiner_step(Learner(lm.clone(), 1e-3), loop(task, train), [0, 1, 2, 3], propose, SMALL, 0)
    assert before == [0, 0, 0] and len(after) == 3 and min(after) > 100


def test_a_solved_problem_costs_nothing_more(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    def cost(places: list[int], turns: int) -> int:
        def propose(wanted: Sequence[int], observations: Observations, seed: int) -> list[str]:
            return [(train[i].gold or "") if i % 2 else "number9 EOS" for i in wanted]

        learner = Learner(lm.clone(), 1e-3)
        refiner_step(learner, loop(task, train, turns), places, propose, replace(SMALL, turns=turns), 0)
        return learner.now.tokens

    assert cost([1, 3], 3) == cost([1, 3], 1) and cost([0, 2], 3) > 3 * cost([0, 2], 1)  # feedback is read, too
    assert cost([0, 1, 2, 3], 3) == cost([0, 2], 3) + cost([1, 3], 1)


@pytest.mark.parametrize("source", refiner.SOURCES)
def test_every_source_proposes_one_hypothesis_each(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], source: str
) -> None:
    seen = list(range(100))
    propose, frozen = hypothesis_source(lm, task, train, replace(SMALL, source=source), seen)
    assert (frozen is not None and frozen is not lm) is (source == "unseen")
    places = [0, 150, 1, 199]
    none = ("",) * 4
    turn = np.zeros(4, dtype=np.int64)
    shown: Observations = {
        "problem": [train[i].text for i in places],
        "hypothesis": none,
        "feedback": none,
        "turn": turn,
    }
    written = propose(places, shown, 0)
    alone = [propose([i], select(shown, np.array([k])), 0)[0] for k, i in enumerate(places)]
    assert written == alone  # whatever else is in the batch
    readable = [isinstance(task.parse(h), Program) for h in written]  # the untrained model writes none
    right = [task.score(train[i], h).ir_equivalent for i, h in zip(places, written, strict=True)]
    assert not any(right)
    if source == "perturbation":
        assert readable == [True] * 4
    if source == "policy":
        assert readable == [False] * 4
    if source == "unseen":  # seen problems get perturbations, the others samples of a frozen copy
        assert readable == [True, False, True, False]


def test_refiner_goes_on_from_the_warm_start_and_samples_without_dropout(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], dev: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, modes = lm.clone(), []
    first = {k: v.clone() for k, v in model.model.state_dict().items()}
    real = type(model.model).generate

    def watched(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        modes.append(self.training)
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.model), "generate", watched)
    options = replace(SMALL, source="policy", learning_rate=0.0)
    spent = train_refiner(model, task, train, dev[:8], options).spent
    assert modes and not any(modes)
    for key, value in model.model.state_dict().items():
        assert torch.equal(value, first[key]), key  # nothing was re-initialised: rate 0 leaves the warm start
    assert spent.steps == 3 and spent.tokens > 0 and spent.rollout_tokens > 0


def test_refiner_training_learns_to_use_feedback(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    """On four problems: with feedback on a perturbation, gold becomes likelier."""
    model = lm.clone()
    learner, env = Learner(model, 3e-3), loop(task, train)
    options = replace(SMALL, source="perturbation")
    propose, _ = hypothesis_source(model, task, train, options, ())
    losses = []
    for number in range(30):
        losses.append(refiner_step(learner, env, [0, 1, 2, 3], propose, options, number)["last_turn_loss"])
        learner.step(0.5)
    assert sum(losses[-3:]) < 0.4 * sum(losses[:3])
