"""Moral stories: gold is right, perturbations are wrong and found out as what they are, as far as chrF can tell."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner_env import RefinerVectorEnv
from refiner_env.errors import RefinerError
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks.moral_stories import (
    TEMPLATES,
    UNRELATED,
    MoralStories,
    chrf,
    gold_norm,
    nearness,
    opposed,
    phrases_of,
)
from refiner_env.tasks.norms import ACTION_MARK, OPENINGS, RIGHT, Norm, read_judgment
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.types import Fault, Feedback, ParseFailure, Problem, Scores

TASK = MoralStories()
PROBLEMS = [TASK.generate(3, i, level) for level in TASK.levels for i in range(60)]
WRONG = Scores(False, False, False, 0.0)
DUCKS = Problem(
    "ducks/1",
    "<|SIT|> Ann is in debt, and her car is old. <|INT|> Ann wants to sell her car, as she is short of money. "
    "<|I_ACT|> Ann carefully hides the rust from Bob. <|NRM|>",
    "You should be honest when you sell something. <|M_ACT|> Ann tells Bob about the rust.",
    "Ann tells Bob about the rust.",
    {},
    {
        "paraphrases": ("It's good to be honest when you sell something.", "It's wrong to deceive a buyer.", "?"),
        "contradictions": ("It's a joy to be dishonest when you sell.", "It's good to deceive an honest buyer."),
        "misaligned": ("It's right to be honest to the police.", "You should sell your car."),
    },
)
BARE = replace(DUCKS, gold_metadata={})

same_every_run = settings(deadline=None, max_examples=200, derandomize=True)


def kinds(problem: Problem, hypothesis: str) -> list[str]:
    return [fault.kind for fault in TASK.diagnose(problem, hypothesis)]


# ------------------------------------------------------------------------------------------------ real rows


@pytest.fixture(scope="module")
def rows(corpora: Path) -> list[dict[str, Any]]:
    """The 1,000 dev rows of REFINER's critic data."""
    path = corpora / "refiner" / "moral_stories" / "critic_dev_prep.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    loaded: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def corpus(rows: list[dict[str, Any]]) -> list[Problem]:
    """All rows whose lists are whole."""
    return [
        Problem(
            row["id"],
            f"<|SIT|> {row['situation']} <|INT|> {row['intention']} <|I_ACT|> {row['immoral_action']} <|NRM|>",
            f"{row['norm']} <|M_ACT|> {row['moral_action']}",
            row["moral_action"],
            {},
            {
                "paraphrases": tuple(row["other_norms"]),
                "contradictions": tuple(dict.fromkeys([row["anti_norm"], *row["other_anti_norms"]])),
                "misaligned": tuple(row["fake_norms"]),
            },
        )
        for row in rows
        if row["anti_norm"] is not None
    ]


def as_they_are(problem: Problem, key: str, text: str) -> Problem:
    return problem


def held_out(problem: Problem, key: str, text: str) -> Problem:
    """Without the very norm that is judged."""
    others = tuple(t for t in problem.gold_metadata[key] if t.lower() != text.lower())
    return replace(problem, gold_metadata={**problem.gold_metadata, key: others})


def gold_alone(problem: Problem, key: str, text: str) -> Problem:
    return replace(problem, gold_metadata={})


@pytest.mark.parametrize(
    ("given", "accepted"),  # per cent of paraphrases, contradictions and misaligned norms, as in the docstring of NEAR
    [(as_they_are, (100.0, 0.5, 0.02)), (held_out, (94.6, 12.5, 0.4)), (gold_alone, (94.5, 14.0, 0.4))],
)
def test_how_often_the_oracle_errs_on_the_corpus(
    corpus: list[Problem], given: Callable[[Problem, str, str], Problem], accepted: tuple[float, ...]
) -> None:
    found = []
    for key, n in (("paraphrases", 4_572), ("contradictions", 4_858), ("misaligned", 5_912)):
        cases = [(p, text) for p in corpus for text in p.gold_metadata[key]]
        assert len(cases) == n
        found.append(100 * sum(not TASK.diagnose(given(p, key, text), text) for p, text in cases) / n)
    assert found == pytest.approx(accepted, abs=0.1), found


def test_judgments_of_the_corpus_are_known(rows: list[dict[str, Any]]) -> None:
    """Words that judge are found in nearly all norms, and judge as the corpus says.

    Where not, it is mostly counted otherwise: the corpus takes "It's rude to not help" for a negative judgment (of
    not helping), here it is a positive one (of helping).
    """
    unknown = [row["norm"] for row in rows if read_judgment(row["norm"]).words is None]
    assert len(rows) == 1_000 and len(unknown) <= 11, unknown
    judged = [row for row in rows if row["norm_sentiment"]]
    odd = [r["norm"] for r in judged if (read_judgment(r["norm"]).judgment is RIGHT) != (r["norm_sentiment"] > 0)]
    assert len(judged) == 995 and len(odd) <= 17, odd


def test_immoral_actions_are_no_answers(corpus: list[Problem]) -> None:
    for p in corpus:
        immoral = p.text.split("<|I_ACT|> ")[1].removesuffix(" <|NRM|>")
        assert not TASK.score(p, f"{gold_norm(p).text} <|M_ACT|> {immoral}").answer, p


# ---------------------------------------------------------------------- what holds for every problem of every corpus


def check_gold(p: Problem, rng: random.Random) -> None:
    assert p.gold is not None
    assert TASK.score(p, p.gold) == Scores(True, True, True, 1.0), p
    assert TASK.diagnose(p, p.gold) == (), p
    norm = TASK.parse(p.gold)
    assert isinstance(norm, Norm) and TASK.execute(norm, p) == norm.action == " ".join(str(p.answer).split())
    rephrased = TASK.rephrase(p, rng)
    assert TASK.diagnose(p, rephrased) == () and ACTION_MARK not in rephrased, (p, rephrased)


def check_perturbation(p: Problem, kind: str | None, rng: random.Random) -> None:
    """A perturbation parses, tells nothing of gold's action and is found out as what it is."""
    wrong = TASK.perturb(p, rng, kind)
    norm = TASK.parse(wrong)
    assert isinstance(norm, Norm) and norm.action == "", (p, wrong)
    assert not TASK.score(p, wrong).ir_equivalent, (p, wrong)
    (fault,) = TASK.diagnose(p, wrong)
    assert fault.kind == (kind or fault.kind) and fault.kind in TASK.perturbations, (p, wrong)
    assert fault.hint == (norm.phrase.replace('"', "'") if fault.kind == "misaligned" else None)
    assert TASK.read_feedback(TASK.describe([fault])).faults == (fault,), (p, wrong)


def with_and_without_lists(problems: list[Problem]) -> list[Problem]:
    return [*problems, *(replace(p, gold_metadata={}) for p in problems)]


def test_gold_of_procedural_problems_is_right() -> None:
    rng = random.Random(0)
    for p in with_and_without_lists([*PROBLEMS, DUCKS]):
        check_gold(p, rng)


def test_gold_of_the_corpus_is_right(corpus: list[Problem]) -> None:
    rng = random.Random(0)
    for p in with_and_without_lists(corpus[::4]):
        check_gold(p, rng)


@pytest.mark.parametrize("kind", [*TASK.perturbations, None])
def test_perturbations_of_procedural_problems_are_wrong(kind: str | None) -> None:
    rng = random.Random(1)
    for p in with_and_without_lists([*PROBLEMS, DUCKS]):
        check_perturbation(p, kind, rng)


@pytest.mark.parametrize("kind", [*TASK.perturbations, None])
def test_perturbations_of_the_corpus_are_wrong(corpus: list[Problem], kind: str | None) -> None:
    rng = random.Random(1)
    for p in with_and_without_lists(corpus[::4]):
        check_perturbation(p, kind, rng)


def test_problems_without_lists_have_perturbations_and_rephrasings() -> None:
    """Also where there is no corpus: gold under the inverse judgment, phrases from the text, gold in other words."""
    rng = random.Random(2)
    made = {kind: {TASK.perturb(BARE, rng, kind) for _ in range(60)} for kind in TASK.perturbations}
    assert len(made["contradiction"]) > 5 < len(made["misaligned"])
    assert all(text.endswith(" be honest when you sell something.") for text in made["contradiction"])
    assert {p for p in phrases_of(BARE.text) for text in made["misaligned"] if text.endswith(f" {p}.")} == {
        "be in debt",
        "sell your car",
        "hide the rust from Bob",
    }
    assert len({TASK.rephrase(BARE, rng) for _ in range(60)}) > 5


def test_a_listed_norm_of_another_kind_is_not_taken() -> None:
    lists = {"misaligned": ("You shouldn't be honest when you sell something.", "You should be honest when you sell.")}
    for kind in TASK.perturbations:
        check_perturbation(replace(DUCKS, gold_metadata=lists), kind, random.Random(0))


def test_where_all_is_right_only_what_is_no_norm_is_wrong() -> None:
    openings = [opening for judged in OPENINGS.values() for opening in judged]
    everything = tuple(f"{opening} {phrase}." for opening in openings for phrase in ("whistle", *UNRELATED))
    p = Problem("p", "Nothing.", "You should whistle.", None, {}, {"paraphrases": everything})
    assert kinds(p, TASK.perturb(p, random.Random(0))) == ["syntax"]


def test_a_gold_that_no_other_words_go_with_is_its_only_rephrasing() -> None:
    p = replace(BARE, gold="Not helping a stranger could make you look heartless.")
    assert {TASK.rephrase(p, random.Random(seed)) for seed in range(20)} == {p.gold}


def test_perturb_is_a_function_of_its_generator() -> None:
    def run(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [text for p in PROBLEMS[::3] for text in (TASK.perturb(p, rng), TASK.rephrase(p, rng))]

    random.seed(5)
    before = random.getstate()
    assert run(1) == run(1) != run(2)
    assert random.getstate() == before


# -------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("hypothesis", "kind", "hint"),
    [
        ("YOU SHOULD   be honest when you\nsell something!", None, None),
        ("You should be honest when you sell something. <|M_ACT|> Nonsense.", None, None),
        ("It is important to be honest when you sell something.", None, None),
        ("It's rude to be dishonest when you sell something.", None, None),
        ("It's not okay not to be honest when you sell something.", None, None),
        ("People shouldn't deceive any buyer.", None, None),
        ("You shouldn't be honest when you sell something.", "contradiction", None),
        ("It's fun to be dishonest when you sell something.", "contradiction", None),
        ("You may deceive a buyer.", "contradiction", None),
        ("It's a joy to be dishonest when you sell.", "contradiction", None),
        ("It's good to deceive an honest buyer", "contradiction", None),
        ("You should sell your car.", "misaligned", "sell your car"),
        ("It's right to be honest to the police.", "misaligned", "be honest to the police"),
        ('You must feed "ducks".', "misaligned", "feed 'ducks"),
        ("Ducks", "misaligned", "Ducks"),
        ("", "syntax", "expected a judgment and what it is about"),
        ("You should be honest. <|NRM|>", "syntax", "expected words, found '<|NRM|>'"),
        ("x" * 10_000, "too_long", "expected at most 600 characters"),
    ],
)
def test_faults_name_what_is_wrong(hypothesis: str, kind: str | None, hint: str | None) -> None:
    assert [(f.kind, f.hint) for f in TASK.diagnose(DUCKS, hypothesis)] == ([(kind, hint)] if kind else [])


HELP = Problem(
    "help/1",
    "An old neighbor of Ann is ill.",
    "You should help an old neighbor with the shopping.",
    None,
    {},
    {
        "contradictions": (
            "You should help a rich neighbor with the shopping.",
            "It's wrong not to help an old neighbor with the shopping.",
        ),
        "misaligned": (
            "You should help an old neighbor with the painting.",
            "It's wrong to help an old neighbor with the gardening.",
        ),
    },
)


@pytest.mark.parametrize(
    ("hypothesis", "kind", "without_lists"),
    [
        ("You should help a rich neighbor with shopping.", ["contradiction"], []),
        ("It's wrong not to help an old neighbor with the shopping.", ["contradiction"], []),
        ("You should help an old neighbor with painting.", ["misaligned"], []),
        ("It's bad to help an old neighbor with gardening.", ["misaligned"], ["contradiction"]),
    ],
)
def test_lists_outweigh_gold(hypothesis: str, kind: list[str], without_lists: list[str]) -> None:
    """What is listed as wrong is wrong, and so is what is nearer to that than to gold, though gold is near too."""
    assert kinds(HELP, hypothesis) == kind
    assert kinds(replace(HELP, gold_metadata={}), hypothesis) == without_lists


def test_paraphrases_of_unknown_judgment_do_not_turn_gold_round() -> None:
    """No table knows "avaricious", so that it reads as if keeping were right. Word by word the paraphrase is right."""
    paraphrase = "It's avaricious to keep what you owe."
    p = replace(HELP, gold="It's greedy to keep what you owe.", gold_metadata={"paraphrases": (paraphrase,)})
    assert kinds(p, "It's good to keep what you owe.") == ["contradiction"]
    assert kinds(p, paraphrase.upper()) == kinds(p, "It's wrong to keep what you owe.") == []


def test_gold_is_right_even_where_it_is_listed_as_wrong() -> None:
    lists = {"contradictions": (gold_norm(DUCKS).text,), "misaligned": (gold_norm(DUCKS).text,)}
    assert kinds(replace(DUCKS, gold_metadata=lists), DUCKS.gold or "") == []


@pytest.mark.parametrize(
    ("hypothesis", "exact", "equivalent", "answer"),
    [
        ("you should be honest when you sell something <|m_act|> ann tells bob about rust", True, True, True),
        ("you should be honest when you sell something <|m_act|> Ann tells Bob about rust.", True, True, True),
        ("You should be honest when you sell something.", True, True, False),
        ("You should be honest when you sell. <|M_ACT|> Ann tells Bob about the rust.", False, True, True),
        ("You should sell your car. <|M_ACT|> Ann tells Bob about the rust.", False, False, True),
        ("You should be honest when you sell something. <|M_ACT|> Ann hides the rust from Bob.", True, True, False),
    ],
)
def test_scores(hypothesis: str, exact: bool, equivalent: bool, answer: bool) -> None:
    scores = TASK.score(DUCKS, hypothesis)
    assert (scores.ir_exact, scores.ir_equivalent) == (exact, equivalent)
    assert scores.answer == answer
    assert 0 < scores.similarity <= 1 and (scores.similarity == 1) == exact


def test_an_immoral_action_near_golds_is_no_answer() -> None:
    story = "<|SIT|> A car is sold. <|INT|> Ann wants to sell. <|I_ACT|> Ann tells Bob nothing about the rust. <|NRM|>"
    for action, answer in (("Ann tells Bob nothing about rust.", False), ("Ann tells Bob about rust.", True)):
        assert TASK.score(replace(BARE, text=story), f"You should be kind. <|M_ACT|> {action}").answer == answer


def test_similarity_orders_hypotheses() -> None:
    texts = ["You should be honest when you sell something.", "You should be honest when you sell.", "Ducks fly."]
    first, second, third = (TASK.score(DUCKS, text).similarity for text in texts)
    assert first == 1 > second > 0.7 > 0.2 > third
    assert TASK.score(DUCKS, "It's wrong to deceive a buyer").similarity == 1
    assert all(TASK.score(DUCKS, text) == WRONG for text in ("", "?", "x" * 10_000, "<|M_ACT|> Ann rests."))


@pytest.mark.parametrize("gold", ["", "?!", None, "<|M_ACT|> Ann rests."])
def test_a_problem_that_cannot_be_judged_is_named(gold: str | None) -> None:
    with pytest.raises(RefinerError, match=r"ducks/1.*no readable gold norm"):
        TASK.diagnose(replace(BARE, gold=gold), "You should rest.")


def test_diagnoses_know_gold_only_as_gold() -> None:
    """A critic may put a solution of its own in the place of gold: nothing else of a problem tells of it."""
    hidden = DUCKS.without_gold()
    assert hidden.gold_metadata == hidden.metadata == {}
    for text in ("It's wrong to deceive a buyer.", "You should be honest when you sell.", "You should sell your car."):
        theirs = replace(Problem("another", "Nothing.", None, 5.0), gold="Never deceive buyers. <|M_ACT|> Bob sleeps.")
        mine = replace(hidden, gold="Never deceive buyers.")
        assert TASK.diagnose(mine, text) == TASK.diagnose(theirs, text)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("You should feed the ducks.", "It's wrong not to feed the ducks", True),
        ("You should feed the ducks.", "You shouldn't feed the ducks.", False),
        ("It's good to be careful with ducks.", "It's bad to be careless with ducks.", True),
        ("You should feed the ducks.", "You should paint the fence.", False),
        ("You should feed the ducks. <|M_ACT|> Ann rests.", "You should feed the ducks. <|M_ACT|> Bob rests.", True),
        ("?", "?", True),
        ("?", "!", False),
        ("?", "You should feed the ducks.", False),
    ],
)
def test_same_hypotheses(a: str, b: str, same: bool) -> None:
    assert TASK.same(DUCKS.without_gold(), a, b) == TASK.same(DUCKS.without_gold(), b, a) == same


def test_sameness_is_symmetric_and_reflexive() -> None:
    texts = [text for p in PROBLEMS[::12] for key in ("paraphrases", "misaligned") for text in p.gold_metadata[key]]
    for a in texts[::2]:
        assert TASK.same(DUCKS, a, a)
        assert all(TASK.same(DUCKS, a, b) == TASK.same(DUCKS, b, a) for b in texts)


def test_opposites() -> None:
    assert opposed("be honest to all", "be dishonest to all") and opposed("be careless", "be careful")
    assert not opposed("go to town", "go into town") and not opposed("be honest", "be honest")
    assert not opposed("be honest and kind", "be dishonest and unkind")  # twice makes the same again


def test_one_action_may_be_judged_both_ways() -> None:
    """The corpus lists such contradictions: neither hides the other."""
    norms = [gold_norm(replace(BARE, gold=f"{opening} rest.")) for opening in ("It's good to", "It's bad to")]
    for others in (norms, norms[::-1]):
        assert [nearness(norms[0], others, norm.judgment) for norm in norms] == [1, 1]


def test_nearness_does_not_pay_for_saying_more() -> None:
    phrase = "return what you borrow"
    assert chrf(phrase, (phrase,)) == 1 > chrf(f"{phrase} and feed the ducks and paint the fence", (phrase,)) + 0.3
    assert chrf("", (phrase,)) == chrf(phrase, ()) == 0


# --------------------------------------------------------------------------------------------------- editing


def test_phrases_of_a_story() -> None:
    assert phrases_of(DUCKS.text) == ("be in debt", "sell your car", "hide the rust from Bob")
    assert phrases_of("") == phrases_of("<|SIT|> <|INT|>") == ()


def edits(hypothesis: str, *faults: Fault) -> set[str]:
    return {TASK.edit(DUCKS.text, hypothesis, faults, random.Random(seed)) for seed in range(80)}


def test_a_contradiction_is_edited_by_its_judgment() -> None:
    edited = edits("It's rude to feed ducks. <|M_ACT|> Ann rests.", Fault("contradiction"))
    norms = [TASK.parse(text) for text in edited]
    assert len(edited) > 5
    assert {(n.judgment, n.phrase, n.action) for n in norms if isinstance(n, Norm)} == {
        (RIGHT, "feed ducks", "Ann rests.")
    }


def test_a_misaligned_norm_is_edited_by_its_action() -> None:
    edited = edits("You should sell your car.", Fault("misaligned", hint="sell your car"))
    norms = [norm for norm in map(TASK.parse, edited) if isinstance(norm, Norm)]
    assert {norm.phrase for norm in norms} == {"be in debt", "hide the rust from Bob"}
    assert len({norm.judgment for norm in norms}) == 2
    beside = TASK.edit("No story.", "You should rest.", [Fault("misaligned", hint="rest")], random.Random(0))
    assert beside.endswith(tuple(f"{phrase}." for phrase in UNRELATED))


def test_what_cannot_be_read_is_edited_to_the_guess() -> None:
    assert edits("?", Fault("syntax")) == {TASK.guess}
    assert edits("You should rest.", Fault("other", hint="Hm.")) == {"You should rest."}
    assert isinstance(TASK.parse(TASK.guess), Norm)


def test_the_scripted_editor_follows_the_oracle() -> None:
    env = RefinerVectorEnv(20, task="MoralStories", problems=PROBLEMS[:20], max_turns=6)
    editor = ScriptedEditor(
        TASK, 0, {p.text: TASK.perturb(p, random.Random(1), "contradiction") for p in PROBLEMS[:20]}
    )
    observations, _ = env.reset(seed=0, options={"index": list(range(20))})
    observations, *_ = env.step(editor.act(observations))
    assert set(observations["feedback"]) == {"Contradiction."}
    observations, rewards, *_ = env.step(editor.act(observations))
    assert set(observations["feedback"]) == {NO_HINT} and rewards.tolist() == [1.0] * 20


# -------------------------------------------------------------------------------------------------- feedback

ONE_OF_EACH = [
    Fault("contradiction"),
    *(Fault("misaligned", hint=hint) for hint in ("feed the ducks", "say 'no'. Contradiction.", "a\nb {c}; d", "")),
    Fault("syntax"),
    Fault("too_long"),
    Fault("other", hint="Think of the ducks."),
]


def test_one_of_each_is_one_of_each() -> None:
    assert {f.kind for f in ONE_OF_EACH} == set(TASK.fault_kinds) == {*TEMPLATES, "other"}


@same_every_run
@given(st.lists(st.sampled_from(ONE_OF_EACH), min_size=1, max_size=5))
def test_feedback_reads_back_in_order(faults: list[Fault]) -> None:
    text = TASK.describe(faults)
    assert TASK.read_feedback(text) == Feedback(False, text, tuple(faults))


@same_every_run
@given(st.text())
def test_any_hint_reads_back(hint: str) -> None:
    fault = Fault("misaligned", hint=hint)
    (read,) = TASK.read_feedback(TASK.describe([fault])).faults
    assert read == replace(fault, hint=hint.replace('"', "'"))


@same_every_run
@given(st.text())
def test_any_feedback_of_a_model_is_read(text: str) -> None:
    read = TASK.read_feedback(text)
    assert read.accepted == (not read.faults) and {f.kind for f in read.faults} <= {*TASK.fault_kinds}
    TASK.edit(DUCKS.text, "You should rest.", read.faults, random.Random(0))


# ------------------------------------------------------------------------------------------------ robustness


@st.composite
def spoiled_gold(draw: st.DrawFn) -> str:
    """Gold of some problem, cut short, shuffled or garbled."""
    gold = draw(st.sampled_from(PROBLEMS)).gold or ""
    match draw(st.sampled_from(["cut", "words", "letters"])):
        case "cut":
            return gold[draw(st.integers(0, len(gold))) :][: draw(st.integers(0, len(gold)))]
        case "words":
            return " ".join(draw(st.permutations(gold.split())))
        case _:
            place = draw(st.integers(0, len(gold)))
            return gold[:place] + draw(st.text(max_size=5)) + gold[place:]


@same_every_run
@given(
    st.one_of(st.text(), spoiled_gold(), st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))),
    st.sampled_from([*PROBLEMS, DUCKS, BARE]),
)
def test_no_text_makes_the_task_raise(text: str, p: Problem) -> None:
    faults, scores = TASK.diagnose(p, text), TASK.score(p, text)
    assert (faults == ()) == scores.ir_equivalent == TASK.feedback(faults).accepted
    assert not scores.ir_exact or scores.ir_equivalent
    assert 0 <= scores.similarity <= 1
    assert TASK.same(p, text, text)
    assert [f.kind for f in TASK.read_feedback(TASK.describe(faults)).faults] == [f.kind for f in faults]
    if isinstance(norm := TASK.parse(text), ParseFailure):
        assert [f.kind for f in faults] in (["syntax"], ["too_long"])
        assert faults[0].span and 0 <= faults[0].span[0] <= faults[0].span[1] <= len(text)
    else:
        assert TASK.parse(TASK.render(norm)) == norm
        as_solution = replace(p.without_gold(), gold=text)
        assert TASK.diagnose(as_solution, text) == ()
        assert TASK.diagnose(as_solution, TASK.perturb(as_solution, random.Random(0)))
        assert TASK.diagnose(as_solution, TASK.rephrase(as_solution, random.Random(0))) == ()


def test_the_environment_passes_gymnasiums_check() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("refiner_env:Refiner/MoralStories-v0")
        check_env(env.unwrapped)
    observation, _ = env.reset(seed=0)
    assert observation["problem"].startswith("<|SIT|> ") and observation["problem"].endswith(" <|NRM|>")
    observation, reward, *_ = env.step("hm?")
    assert observation["feedback"] == 'Semantically misaligned: "hm".' and reward == 0


def test_without_gold_only_what_cannot_be_read_shows() -> None:
    p = TASK.generate(1, 1).without_gold()
    assert TASK.check(p, "It's wrong to paint the fence blue.") == TASK.check(p, "It's good to lie.") == ()
    assert [fault.kind for fault in TASK.check(p, "?")] == ["syntax"]
    assert [fault.kind for fault in TASK.check(p, "It's wrong to lie. " * 100)] == ["too_long"]
