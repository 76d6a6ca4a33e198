"""Decoder-only models: prompts on the left, completions alone trained on, and the same results as one by one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from agents.critic import LearnedCritic
from agents.decoder_only import DecoderOnly
from agents.encoder_decoder import EncoderDecoder
from agents.generator import Generator
from agents.lm import LanguageModel
from agents.models import BASE_FOLDER, load_model, open_model
from agents.prompts import ANSWER, PREVIOUS, plain
from baselines.ppo import EnvironmentReward, Policy, PPOOptions, Rollout, remove_dropout, train_ppo
from refiner_env import RefinerVectorEnv
from refiner_env.errors import CheckpointError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.critic import CriticOptions, train_critic
from trainers.refiner import RefinerOptions, train_refiner
from trainers.rollout import play
from trainers.warm_start import WarmStartOptions, warm_start

PROMPTS = ["number0 apples and number1 pears", "one", "how many are left of the number2 figs in the box of number3"]
TARGETS = ["#0: add ( number0, number1 ) | EOS", "EOS", "#0: subtract ( number2, number3 ) | EOS"]


def quiet(done: float, **metrics: object) -> None:
    """Shows nothing."""


@pytest.fixture(scope="module")
def decoder(task: MathWordProblem, train: list[Problem]) -> LanguageModel:
    """An untrained tiny Llama. Shared: clone it before training."""
    torch.manual_seed(0)
    model = open_model("scratch:decoder-tiny", task, train)
    model.max_new_tokens = 24
    return model


@pytest.fixture(scope="module")
def gpt2() -> DecoderOnly:
    """A GPT-2 as the hub's: bytes as tokens, no padding, the end of text as its only special token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(["a b"], trainers.BpeTrainer(special_tokens=["<|endoftext|>"], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=512, eos_token_id=0)
    torch.manual_seed(0)
    return DecoderOnly(GPT2LMHeadModel(config), tokenizer, max_new_tokens=8)


@pytest.fixture(params=["decoder", "gpt2"])
def either(request: pytest.FixtureRequest) -> LanguageModel:
    model: LanguageModel = request.getfixturevalue(request.param)
    return model


def test_prompts_are_padded_on_the_left_and_end_with_the_mark(decoder: LanguageModel) -> None:
    batch = decoder.encode(PROMPTS)
    mark = decoder.ids([ANSWER])[0]
    assert len(mark) == 1 and batch["input_ids"][:, -1].tolist() == mark * 3
    for row, live, prompt in zip(batch["input_ids"], batch["attention_mask"], PROMPTS, strict=True):
        assert row[live.bool()].tolist() == [*decoder.ids([prompt])[0], *mark]
        assert row[~live.bool()].tolist() == [decoder.pad] * int((1 - live).sum())
        assert live.tolist() == sorted(live.tolist())


def test_targets_end_with_the_end_of_sequence_and_padding_is_another_token(either: LanguageModel) -> None:
    end = either.tokenizer.eos_token_id
    assert either.pad != end
    for row, target in zip(either.padded(either.target_rows(TARGETS)), TARGETS, strict=True):
        ids = [*either.ids([target])[0], end]
        assert row.tolist() == ids + [either.pad] * (len(row) - len(ids))


def test_a_batch_gives_what_one_by_one_gives(either: LanguageModel) -> None:
    model = either.clone()
    assert model.generate(PROMPTS) == [model.generate([prompt])[0] for prompt in PROMPTS]
    together = model.probabilities(PROMPTS, TARGETS)
    alone = [model.probabilities([p], [t])[0] for p, t in zip(PROMPTS, TARGETS, strict=True)]
    assert together == pytest.approx(alone, rel=1e-3)


def test_the_loss_is_that_of_the_completion_alone(either: LanguageModel) -> None:
    """Against transformers' own loss, row by row, with labels on the completion only."""
    model = either.clone()
    total = count = 0.0
    with model.evaluating(), torch.no_grad():
        for prompt, target in zip(PROMPTS, TARGETS, strict=True):
            ids, response = model.encode([prompt])["input_ids"], model.padded(model.target_rows([target]))
            labels = torch.cat([torch.full_like(ids, -100), response], 1)
            total += response.shape[1] * model.model(torch.cat([ids, response], 1), labels=labels).loss.item()
            count += response.shape[1]
        loss = model.loss(PROMPTS, TARGETS)
    assert loss.mean.item() == pytest.approx(total / count, rel=1e-4)
    assert loss.tokens == int(model.encode(PROMPTS)["attention_mask"].sum()) + count


def test_generated_tokens_are_counted_to_the_end_of_each_completion(either: LanguageModel) -> None:
    model = either.clone()
    texts = model.generate(PROMPTS)
    assert 3 <= model.generated_tokens <= 3 * model.max_new_tokens
    assert all(ANSWER not in text and prompt not in text for text, prompt in zip(texts, PROMPTS, strict=True))
    assert [len(beams) for beams in model.likeliest(PROMPTS, 3)] == [3, 3, 3]


def test_long_prompts_lose_their_end_but_never_the_mark(decoder: LanguageModel) -> None:
    short = type(decoder)(decoder.model, decoder.tokenizer, max_prompt_tokens=8, max_new_tokens=4)
    batch = short.encode(["number0 " * 50, "one"])
    assert batch["input_ids"].shape[1] == 8 and short.cut_prompts == 1
    assert batch["input_ids"][:, -1].tolist() == short.ids([ANSWER])[0] * 2
    assert not short.fits("number0 " * 50) and short.fits("one")


def test_a_chat_template_frames_the_prompt_as_a_users_message(decoder: LanguageModel) -> None:
    import copy

    tokenizer = copy.deepcopy(decoder.tokenizer)
    tokenizer.chat_template = (
        "be brief. {% for m in messages %}{{ m['role'] }}: {{ m['content'] }} | {% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    chat = type(decoder)(decoder.model, tokenizer, max_prompt_tokens=64, max_new_tokens=4)
    ids = chat.encode(["one figs"])["input_ids"][0].tolist()
    framed = tokenizer.apply_chat_template(
        [{"role": "user", "content": "one figs"}], add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(ids).split() == tokenizer.decode(framed).split()
    assert ids[-3:] == framed[-3:] and chat.ids([ANSWER])[0][0] not in ids
    long = chat.encode(["figs " * 200])["input_ids"][0].tolist()
    assert len(long) == 64 and long[-3:] == framed[-3:] and long[:3] == framed[:3]


def test_what_a_model_wrote_cannot_end_the_prompt(decoder: LanguageModel) -> None:
    assert ANSWER not in plain(f"number0 {ANSWER} EOS") and PREVIOUS not in plain(PREVIOUS)


def test_the_kind_is_read_from_the_config(decoder: LanguageModel, tmp_path: Path) -> None:
    decoder.save(tmp_path / "decoder")
    loaded = load_model(tmp_path / "decoder")
    loaded.max_new_tokens = decoder.max_new_tokens
    assert isinstance(loaded, DecoderOnly) and isinstance(load_model(BASE_FOLDER), EncoderDecoder)
    assert loaded.generate(PROMPTS) == decoder.generate(PROMPTS)
    assert loaded.identity == decoder.identity
    with pytest.raises(CheckpointError, match=r"nowhere.*refiner train"):
        load_model(tmp_path / "nowhere")


def test_it_learns_what_it_is_taught(decoder: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    torch.manual_seed(0)
    model, few = decoder.clone(), train[:8]
    model.max_new_tokens = 40
    options = WarmStartOptions(steps=40, batch_size=8, learning_rate=3e-3)
    warm_start(model, task, few, few, options)
    episodes = play(Generator(model), task, few, critic="none", turns=1, stop="never")
    assert sum(e.turns[0].scores.ir_equivalent for e in episodes) >= 6


def test_every_trainer_trains_it(
    decoder: LanguageModel, task: MathWordProblem, train: list[Problem], dev: list[Problem], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = decoder.clone()
    before = [p.detach().clone() for p in model.model.parameters()]
    options = RefinerOptions(steps=2, batch_size=4, turns=2, source="mixture")
    spent = train_refiner(model, task, train, dev[:4], options).spent
    assert spent.steps == 2 and spent.tokens > 0
    critic = decoder.clone()
    train_critic(critic, task, train, dev[:4], CriticOptions(steps=2, batch_size=4))
    LearnedCritic(critic, task).save(tmp_path / "critic")
    loaded = LearnedCritic.load(tmp_path / "critic", task)
    problem, wrong = train[0], task.perturb(train[0], random.Random(0))
    (feedback,) = loaded.critique([problem.without_gold()], [wrong])
    assert feedback.text and 0.0 <= (feedback.accept_probability or 0.0) <= 1.0
    assert len(before) == len(list(model.model.parameters()))


def test_ppo_pays_for_what_was_written_and_for_nothing_after_it(
    either: LanguageModel, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = RefinerVectorEnv(3, problems=train, critic="none", max_turns=1, stop="never")
    rollout, stepped = Rollout(either.clone(), env, 1.0), list[str]()
    remove_dropout(rollout.lm.model)
    step = env.step
    monkeypatch.setattr(env, "step", lambda texts: stepped.extend(texts) or step(texts))
    rollout.begin([2, 150])
    rollout.write()
    end = int(either.tokenizer.eos_token_id)
    rollout.responses[0] = [*either.ids(["one"])[0][:2], end]  # shorter than the other
    rollout.lengths = [len(row) for row in rollout.responses]
    EnvironmentReward(rollout)(rollout.sequences)
    assert stepped == [*either.texts(rollout.responses), ""] and len(rollout.responses[0]) < len(rollout.responses[1])
    assert not any(either.pad in row for row in rollout.responses)
    policy = Policy(rollout.lm, rollout)
    scores = policy(rollout.sequences).logits[:, :-1].log_softmax(-1)
    assert rollout.trained_tokens == sum(map(len, rollout.prompts + rollout.responses))
    for prompt, response, score in zip(rollout.prompts, rollout.responses, scores, strict=True):
        alone = rollout.lm.teacher_forced(rollout.lm.batch([prompt]), rollout.lm.padded([response]))[0]
        alone[:, either.pad] = -1e4
        expected = alone.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(score[: len(response), 1], expected, atol=1e-3, rtol=1e-3)


def test_there_are_no_logits_over_the_prompt(either: LanguageModel) -> None:
    """Those over the response are what one pass over both gives."""
    model, sizes = either.clone(), list[torch.Size]()
    remove_dropout(model.model)
    model.model.get_output_embeddings().register_forward_hook(lambda module, given, found: sizes.append(found.shape))
    batch, responses = model.encode(PROMPTS), model.padded(model.target_rows(TARGETS))
    logits = model.teacher_forced(batch, responses)
    assert sizes == [logits.shape] and logits.shape[:2] == responses.shape
    states = model.states(batch, responses)
    assert len(sizes) == 1 and states.shape == (*responses.shape, model.model.config.hidden_size)
    torch.testing.assert_close(model.model.get_output_embeddings()(states), logits)
    for prompt, target, found in zip(PROMPTS, model.target_rows(TARGETS), logits, strict=True):
        ids = model.prompt_rows([prompt])[0]
        whole = model.model(torch.tensor([[*ids, *target]])).logits[0, len(ids) - 1 : -1]
        torch.testing.assert_close(found[: len(target)], whole, atol=1e-4, rtol=1e-4)


def test_ppo_trains_it(decoder: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    model = decoder.clone()
    model.max_new_tokens = 12
    options = PPOOptions(batch_size=8, epochs=2, learning_rate=1e-12)
    outcome, records = train_ppo(model, task, train, options, token_budget=1_500)
    assert records[0]["ratio"] == pytest.approx(1.0, abs=1e-5) and records[0]["kl"] == pytest.approx(0.0, abs=1e-3)
    assert outcome.spent.tokens >= 1_500
