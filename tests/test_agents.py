"""Generator, learned critic and scripted editor; tokenizer and prompts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from agents.critic import LearnedCritic
from agents.encoder_decoder import EncoderDecoder
from agents.generator import Generator, Retrier
from agents.lm import IGNORED, LanguageModel
from agents.models import BASE, BASE_FOLDER, build_model, check_spec, load_model, open_model, task_texts
from agents.prompts import HINT, PREVIOUS, critic_prompts, generator_prompt, generator_prompts, plain
from agents.tokenizer import WHOLE_PIECES, train_tokenizer
from refiner_env.critics import resolve_critic
from refiner_env.draws import Draws
from refiner_env.errors import CheckpointError, OptionError, UnknownNameError
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks import MathWordProblem, MoralStories
from refiner_env.types import Observations, Problem
from trainers.pretrain import skill_accuracies

TASK = MathWordProblem()
GOLD = "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"


def observations(*rows: tuple[str, str, str, int]) -> Observations:
    problem, hypothesis, feedback, turn = zip(*rows, strict=True)
    return {"problem": problem, "hypothesis": hypothesis, "feedback": feedback, "turn": np.array(turn)}


# ------------------------------------------------------------------------------------ tokenizer and prompts


def test_numbers_steps_operators_and_control_tokens_are_one_token_each(lm: LanguageModel) -> None:
    for word in WHOLE_PIECES:
        assert len(lm.tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word
    assert lm.tokenizer.convert_ids_to_tokens(lm.tokenizer("( number0, #1").input_ids) == [
        *("▁(", "▁number0", ",", "▁#1", "</s>")
    ]


def test_programs_and_feedback_survive_the_tokenizer(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    texts = [t for p in train[:50] for t in (p.gold or "", p.text)] + [GOLD.replace("number2", "12.5")]
    decoded = lm.tokenizer.batch_decode(lm.tokenizer(texts).input_ids, skip_special_tokens=True)
    assert decoded == texts


def test_text_unseen_in_training_does_not_break_the_tokenizer(lm: LanguageModel) -> None:
    assert len(lm.generate([generator_prompt("日本 \x00 \ud83d zebra", ("\udc00", "")), generator_prompt("")])) == 2


def test_a_tokenizer_needs_text() -> None:
    with pytest.raises(OptionError, match="Cannot train a tokenizer"):
        train_tokenizer([])


def test_only_training_text_reaches_the_tokenizer(task: MathWordProblem, train: list[Problem]) -> None:
    texts = task_texts(task, train[:5])
    assert {p.text for p in train[:5]} <= set(texts)
    assert "No hint." in " ".join(task_texts(task, train)) and len(texts) == 20


def test_the_first_prompt_is_the_problem_and_later_ones_add_hypothesis_and_feedback() -> None:
    assert generator_prompt("x  y") == "x y"
    assert generator_prompt("x", ("z", "f")) == f"x {PREVIOUS} z {HINT} f"
    assert critic_prompts(["x"], ["z"]) == [f"x {PREVIOUS} z"]


def test_prompts_hold_the_last_turns_oldest_first_and_no_empty_ones() -> None:
    last: Observations = observations(("a", "z3", "f3", 3), ("b", "z1", "f1", 1), ("c", "", "", 0))
    earlier = [
        {"hypothesis": ["z1", "", ""], "feedback": ["f1", "", ""]},
        {"hypothesis": ["z2", "", ""], "feedback": ["f2", "", ""]},
    ]
    assert generator_prompts({**last, "history": earlier}) == [
        f"a {PREVIOUS} z1 {HINT} f1 {PREVIOUS} z2 {HINT} f2 {PREVIOUS} z3 {HINT} f3",
        f"b {PREVIOUS} z1 {HINT} f1",
        "c",
    ]


def test_model_output_cannot_forge_control_tokens() -> None:
    assert PREVIOUS not in plain(f"a {PREVIOUS} b") and HINT not in plain(f"{HINT}{HINT}")
    assert generator_prompt("x", (f"{HINT} No hint.", "f")).count(HINT) == 1
    assert plain("a </s> b <pad> c") == "a s b pad c"


def test_control_tokens_cannot_be_forged_by_nesting() -> None:
    assert PREVIOUS not in plain("<prev<previous>ious>") and HINT not in plain("<hi<hint>nt>")


# ------------------------------------------------------------------------------------------------ the model


def test_sizes_have_about_the_parameters_they_promise(lm: LanguageModel) -> None:
    assert 0.7e6 < lm.model.num_parameters() < 1.5e6
    assert 7e6 < build_model("small", lm.tokenizer).model.num_parameters() < 13e6
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        check_spec("scratch:tny")


def test_padding_is_not_trained_on(lm: LanguageModel) -> None:
    """The loss of a batch is the token-weighted mean of the losses of its members, each alone and unpadded."""
    prompts, targets = ["a short one", "a prompt of a few more words than the other"], ["EOS", GOLD]
    with lm.evaluating(), torch.no_grad():
        together = lm.loss(prompts, targets)
        alone = [lm.loss([p], [t]) for p, t in zip(prompts, targets, strict=True)]
    lengths = [len(lm.tokenizer(t).input_ids) for t in targets]
    expected = sum(loss.mean.item() * n for loss, n in zip(alone, lengths, strict=True)) / sum(lengths)
    assert together.mean.item() == pytest.approx(expected, rel=1e-4)
    assert together.tokens == sum(loss.tokens for loss in alone)
    assert alone[0].tokens == len(lm.tokenizer(prompts[0]).input_ids) + lengths[0]


def test_the_loss_is_the_models_own(lm: LanguageModel) -> None:
    batch = lm.encode(["some text"])
    labels = lm.tokenizer([GOLD], return_tensors="pt").input_ids
    with lm.evaluating(), torch.no_grad():
        logits = lm.model(**batch, labels=labels).logits
        assert lm.loss(["some text"], [GOLD]).mean.item() == pytest.approx(
            F.cross_entropy(logits[0], labels[0], ignore_index=IGNORED).item(), rel=1e-5
        )


def test_generation_keeps_order_runs_without_dropout_and_restores_the_mode(
    lm: LanguageModel, train: list[Problem]
) -> None:
    prompts = [p.text for p in train[:9]]
    model = lm.clone()
    model.model.train()
    model.most_at_once = 4
    greedy = model.generate(prompts)
    assert greedy == [model.generate([p])[0] for p in prompts]
    assert model.model.training
    assert lm.generate(prompts) == greedy


def test_sampling_is_repeatable_under_a_seed_and_counted(lm: LanguageModel) -> None:
    def sample() -> list[str]:
        torch.manual_seed(3)
        return lm.generate(["some text"] * 4, top_p=0.9)

    before = lm.generated_tokens
    first = sample()
    assert first == sample() and len(set(first)) > 1
    assert lm.generated_tokens > before


def test_an_empty_batch_is_an_empty_list(lm: LanguageModel) -> None:
    assert lm.generate([]) == []


def test_long_prompts_are_cut_and_counted(lm: LanguageModel) -> None:
    short = type(lm)(lm.model, lm.tokenizer, max_prompt_tokens=16, max_new_tokens=4)
    short.generate(["word " * 100, "word"])
    assert short.cut_prompts == 1


def test_saved_models_load_with_plain_transformers_and_act_alike(
    lm: LanguageModel, train: list[Problem], tmp_path: Path
) -> None:
    lm.save(tmp_path)
    assert (tmp_path / "model.safetensors").exists() and not list(tmp_path.glob("*.bin"))
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1, "some are for the owner alone"
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for key, value in lm.model.state_dict().items():
        assert torch.equal(value.cpu(), model.state_dict()[key]), key
    assert tokenizer(GOLD).input_ids == lm.tokenizer(GOLD).input_ids
    prompts = [p.text for p in train[:4]]
    assert load_model(tmp_path).generate(prompts) == lm.generate(prompts)


def test_a_model_of_another_family_gets_the_control_tokens(lm: LanguageModel, tmp_path: Path) -> None:
    """A stand-in for hub models whose tokenizer has never seen the control tokens."""
    pieces = [(p, s) for p, s in vocabulary(lm) if p.strip("▁") not in (PREVIOUS, HINT) and "<" not in p[1:]]
    tokenizer = type(lm.tokenizer)(vocab=pieces, extra_ids=0, additional_special_tokens=[])
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
        decoder_start_token_id=1,
        forced_eos_token_id=1,
    )
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert len(loaded.tokenizer) == len(tokenizer) + 2
    ids = loaded.tokenizer(f"x {PREVIOUS} z {HINT} f").input_ids
    assert loaded.tokenizer.convert_tokens_to_ids(HINT) in ids
    assert loaded.model.get_input_embeddings().num_embeddings >= len(loaded.tokenizer)
    assert len(loaded.generate([f"x {PREVIOUS} z"])) == 1


def test_rows_are_the_tokenizers_own_where_a_leading_space_is_a_token_by_itself() -> None:
    pieces = {piece: i for i, piece in enumerate(["<pad>", "</s>", "<unk>", "<s>", "▁", *"abcdefgh"])}
    spelled = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    spelled.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [("<s>", 3), ("</s>", 1)]
    spelled.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=spelled, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    model = EncoderDecoder.build("tiny", tokenizer)
    assert model.prompt_rows(["bad cab", ""]) == tokenizer(["bad cab", ""])["input_ids"]
    assert model.target_rows(["a"]) == tokenizer(["a"])["input_ids"]


def vocabulary(lm: LanguageModel) -> list[tuple[str, float]]:
    import json

    pieces = json.loads(lm.tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in pieces]


@pytest.mark.parametrize("name", ["no/such/folder", "."])
def test_what_is_no_model_is_named_with_a_way_out(name: str) -> None:
    with pytest.raises(CheckpointError, match="scratch:tiny"):
        load_model(name)


def test_a_folder_that_is_not_there_gets_the_nearest_and_no_hub_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.models.AutoConfig", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "critic").mkdir(parents=True)
    for name in ("runs/criic", str(tmp_path / "runs" / "criic")):
        with pytest.raises(CheckpointError, match=r"no such folder\. Did you mean 'critic'"):
            load_model(name)


def test_a_folder_whose_training_is_not_finished_says_so(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"its training is not finished: go on with refiner train --resume"):
        load_model(tmp_path)


def test_the_base_model_is_small_has_a_card_and_takes_any_dropout(task: MathWordProblem) -> None:
    weights = BASE_FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 10 * 2**20
    assert "refiner pretrain" in (BASE_FOLDER / "README.md").read_text()
    base = open_model(BASE, task, [], dropout=0.25)
    rates = {m.p for m in base.model.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.25} and base.cut_prompts == 0


def test_the_base_model_does_what_feedback_says() -> None:
    """On held-out exercises of its pre-training; the card has the other skills."""
    figures = skill_accuracies(load_model(BASE_FOLDER), 40, ("edit",))
    assert figures["edit_kept"] > 0.9 and figures["edit_changed"] > 0.9


def test_models_from_scratch_are_a_function_of_the_seed(task: MathWordProblem, train: list[Problem]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return open_model("scratch:tiny", task, train[:50]).model.get_input_embeddings().weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# ---------------------------------------------------------------------------------------------------- acting


def test_the_generator_answers_every_observation(lm: LanguageModel) -> None:
    batch = observations(("a b", "", "", 0), ("a b", GOLD, "No hint.", 1))
    assert Generator(lm).act(batch) == lm.generate(
        [generator_prompt("a b"), generator_prompt("a b", (GOLD, "No hint."))]
    )


class Fixed(EncoderDecoder):
    """Writes one thing greedily, and knows what it would write else."""

    def __init__(self, lm: LanguageModel, greedy: str, *others: str) -> None:
        super().__init__(lm.model, lm.tokenizer)
        self.greedy, self.others = greedy, list(others)

    def generate(self, prompts: Sequence[str], **_: object) -> list[str]:
        return [self.greedy] * len(prompts)

    def likeliest(self, prompts: Sequence[str], count: int, **_: object) -> list[list[str]]:
        return [[self.greedy, *self.others][:count] for _ in prompts]


def test_the_generator_does_not_repeat_itself_in_an_episode(lm: LanguageModel) -> None:
    agent = Generator(Fixed(lm, "a", "b"))

    def turn(t: int, last: str, *problems: str) -> list[str]:
        return agent.act(observations(*((p, last, "x", t) for p in problems)))

    assert turn(0, "", "p", "q", "q") == ["a", "a", "a"]
    assert turn(1, "a", "p", "q", "q") == ["b", "b", "b"]  # equal problems side by side do not disturb each other
    assert turn(2, "b", "p") == ["a"]  # nothing else is found
    assert turn(0, "", "p") == ["a"] and turn(1, "a", "p") == ["b"]  # a new episode
    sampling = Generator(Fixed(lm, "a", "b"), top_p=0.9)
    assert sampling.act(observations(("p", "", "", 0))) == sampling.act(observations(("p", "a", "x", 1))) == ["a"]


def test_the_likeliest_completions_begin_with_the_best_and_differ(lm: LanguageModel, train: list[Problem]) -> None:
    prompts = [p.text for p in train[:3]]
    model = lm.clone()
    model.max_new_tokens, model.most_at_once = 4, 6
    beams = model.likeliest(prompts, 3)
    for prompt, found in zip(prompts, beams, strict=True):
        chances = model.probabilities([prompt] * 3, found)
        assert len(set(found)) == 3 and found == model.likeliest([prompt], 3)[0]
        assert len(chances) == 3
    assert model.likeliest([], 3) == []


def test_retries_never_see_hypothesis_or_feedback(lm: LanguageModel) -> None:
    batch = observations(("a b", GOLD, "The operator in #0 is incorrect.", 1))
    seeds = Draws(3).seeds(["a b"])
    assert Retrier(lm, 0.9, 3).act(batch) == lm.generate([generator_prompt("a b")], top_p=0.9, seeds=seeds)
    first = observations(("a b", "", "", 0))
    assert Retrier(lm, 0.9).act(first) == lm.generate([generator_prompt("a b")])


class Verdicts(EncoderDecoder):
    """Finds hypotheses right with the given probabilities, and says one thing of what is rejected."""

    def __init__(self, lm: LanguageModel, *likely: float) -> None:
        super().__init__(lm.model, lm.tokenizer)
        self.likely, self.prompts, self.barred = list(likely), [], ""  # type: ignore[var-annotated]

    def probabilities(self, prompts: Sequence[str], targets: Sequence[str], **_: object) -> list[float]:
        self.prompts += prompts
        self.targets = list(targets)
        return self.likely[: len(prompts)]

    def generate(self, prompts: Sequence[str], *, not_first: str = "", **_: object) -> list[str]:
        self.barred = not_first
        return ["The operator in #0 is incorrect. Whatever else."] * len(prompts)


SECRET = Problem("u", "a b", "SECRET", 12345.0, {"numbers": (1.0,)})


def test_the_learned_critic_reads_its_text_back_and_never_sees_gold(lm: LanguageModel, task: MathWordProblem) -> None:
    spy = Verdicts(lm, 0.9, 0.2)
    accepted, rejected = LearnedCritic(spy, task).critique([SECRET, SECRET], ["z1", "z2"])
    assert accepted.accepted and accepted.text == "No hint." and not accepted.faults
    assert not rejected.accepted and [f.kind for f in rejected.faults] == ["operator", "other"]
    assert [accepted.accept_probability, rejected.accept_probability] == [0.9, 0.2]
    assert spy.prompts == [f"a b {PREVIOUS} z1", f"a b {PREVIOUS} z2"]
    assert spy.barred == "No hint."  # what is rejected is never told that it is right


@pytest.mark.parametrize(("threshold", "accepts"), [(0.0, [True, True]), (0.95, [False, False]), (0.9, [True, False])])
def test_the_threshold_trades_accepting_for_rejecting(
    lm: LanguageModel, task: MathWordProblem, threshold: float, accepts: list[bool]
) -> None:
    critic = LearnedCritic(Verdicts(lm, 0.9, 0.2), task).with_threshold(threshold)
    assert [f.accepted for f in critic.critique([SECRET, SECRET], ["z1", "z2"])] == accepts


class Solver(Verdicts):
    """Writes the given solutions."""

    solutions: tuple[str, ...] = ()

    def generate(self, prompts: Sequence[str], **_: object) -> list[str]:  # type: ignore[override]
        return list(self.solutions)


def test_a_solving_critic_names_the_differences_from_its_solution(lm: LanguageModel, task: MathWordProblem) -> None:
    problem = replace(SECRET, metadata={"numbers": (1.0, 2.0)})
    z = "#0: add ( number0, number1 ) | EOS"
    spy = Solver(lm, 0.1, 0.1, 0.7, 0.1, 0.1)
    spy.solutions = (
        z.replace("add", "subtract"),
        "#0: add ( number1, number0 ) | EOS",  # equivalent
        z.replace("add", "subtract"),  # but the hypothesis is likely enough
        "what?",  # no opinion
        z,
    )
    critic = LearnedCritic(spy, task, 0.5, "solution")
    hypotheses = [z, z, z, z, "what?"]
    named, same, likely, unread, unreadable = critic.critique([problem] * 5, hypotheses)
    assert not named.accepted and named.text == "The operator in #0 is incorrect."
    assert [(f.kind, f.step) for f in named.faults] == [("operator", 0)] and named.accept_probability == 0.1
    assert same.accepted and same.text == "No hint." and same.accept_probability == 1.0
    assert likely.accepted and not likely.faults and likely.accept_probability == 0.7
    assert unread.accepted
    assert not unreadable.accepted and [f.kind for f in unreadable.faults] == ["syntax"]
    assert spy.targets == hypotheses and spy.prompts == ["a b"] * 5


def test_a_critic_is_saved_with_its_settings(lm: LanguageModel, task: MathWordProblem, tmp_path: Path) -> None:
    LearnedCritic(lm, task, 0.125, "solution").save(tmp_path / "critic")
    loaded = resolve_critic(str(tmp_path / "critic"), task)
    assert isinstance(loaded, LearnedCritic) and (loaded.threshold, loaded.writes) == (0.125, "solution")
    lm.save(tmp_path / "plain")
    assert LearnedCritic.load(tmp_path / "plain", task).threshold == 0.5


def test_probabilities_are_those_of_the_whole_completion(lm: LanguageModel, train: list[Problem]) -> None:
    prompts = [p.text for p in train[:5]]
    targets = ["No hint.", "", "number0 EOS", "No hint.", "The operator in #0 is incorrect."]
    model = lm.clone()
    model.most_at_once = 2
    found = model.probabilities(prompts, targets)
    for prompt, target, probability in zip(prompts, targets, found, strict=True):
        with lm.evaluating(), torch.no_grad():
            loss = lm.loss([prompt], [target]).mean.item()
        n_tokens = len(lm.tokenizer(target).input_ids)
        assert probability == pytest.approx(math.exp(-loss * n_tokens), rel=1e-3)


def test_a_completion_can_be_kept_from_beginning_like_a_text(lm: LanguageModel, train: list[Problem]) -> None:
    prompts = [p.text for p in train[:4]]
    for said in lm.generate(prompts):
        if said:
            assert lm.generate(prompts, not_first=said) != [said] * 4
            assert all(not other.startswith(said.split()[0]) for other in lm.generate(prompts, not_first=said))


# ------------------------------------------------------------------------------------------- scripted editor


def edit(hypothesis: str, feedback: str, seed: int = 0) -> str:
    problem = "There are number0 cats, number1 dogs and number2 hens."
    return ScriptedEditor(TASK, seed).act(observations((problem, hypothesis, feedback, 1)))[0]


def test_the_editor_starts_from_the_given_hypothesis_or_the_constant() -> None:
    rows = (("p", "", "", 0), ("q", "", "", 0))
    assert ScriptedEditor(TASK, 0, {"p": GOLD}).act(observations(*rows)) == [GOLD, TASK.guess]


def test_the_editor_changes_what_is_named_and_nothing_else() -> None:
    for seed in range(20):
        changed = edit(GOLD, "The operator in #1 is incorrect.", seed)
        assert changed != GOLD
        assert re.sub(r"#1: \w+", "#1: X", changed) == GOLD.replace("#1: subtract", "#1: X")
        operand = edit(GOLD, "The second number in #1 is incorrect.", seed)
        assert operand.startswith(GOLD[: GOLD.index("number2")]) and "number2" not in operand


def test_the_editor_adds_and_removes_steps() -> None:
    assert edit(GOLD, "Step #1 is not needed.") == "#0: add ( number0, number1 ) | EOS"
    assert edit(GOLD, "Step #0 is not needed.") == "#0: subtract ( number0, number2 ) | EOS"
    longer = edit(GOLD, "A step is missing at #2.")
    assert longer.startswith(GOLD.removesuffix("| EOS")) and "#2:" in longer


def test_an_editor_that_remembers_does_not_repeat_itself_in_an_episode() -> None:
    problem, gold = "There are number0 cats and number1 dogs.", "#0: add ( number0, number1 ) | EOS"
    editor = ScriptedEditor(TASK, 0, {problem: gold}, remembers=True)
    said = editor.act(observations((problem, "", "", 0)))
    for turn in range(1, 4):
        said += editor.act(observations((problem, said[-1], "The operator in #0 is incorrect.", turn)))
    assert sorted(said) == sorted(gold.replace("add", o) for o in ("add", "subtract", "multiply", "divide"))
    # All tried: nothing is left to propose but the last.
    assert editor.act(observations((problem, said[-1], "The operator in #0 is incorrect.", 4))) == [said[-1]]


def test_the_editor_survives_any_hypothesis_and_feedback() -> None:
    for hypothesis in ("", "hello", "number0 EOS", "\x00" * 50, GOLD):
        for feedback in ("", "No hint.", "nonsense", "The operator in #9 is incorrect.", "Step #7 is not needed."):
            assert isinstance(edit(hypothesis, feedback), str)


@pytest.mark.parametrize("spec", [BASE, "scratch:tiny"])
def test_the_marks_of_a_task_are_tokens(spec: str, tmp_path: Path) -> None:
    moral = MoralStories()
    problems = [moral.generate(1, i) for i in range(100)]
    model = open_model(spec, moral, problems)
    model.save(tmp_path)
    for lm in (model, load_model(tmp_path)):
        ids = lm.tokenizer([p.gold or "" for p in problems]).input_ids
        read = [moral.parse(text) for text in lm.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        assert read == [moral.parse(p.gold or "") for p in problems]
        assert all(len(lm.tokenizer(mark, add_special_tokens=False).input_ids) == 1 for mark in moral.marks)
