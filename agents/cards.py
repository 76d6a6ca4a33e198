"""Model cards: what a saved model is, written from the record of its training that stands beside it.

A record (`training.json`) says `what` was trained, with which `options` (task, seed and data among them), from which
`base` in the end (`origin`), on which problems (`data_hash`) and what it `spent`; some have a `threshold`, the figures
on development problems (`dev`), or the adapter that was `merged`. Of an adapter that was not trained here nothing but
the last and the base is known.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from agents.decoder_only import DecoderOnly
from agents.lm import LanguageModel
from agents.lora import base_of
from agents.models import BASE, BASE_FOLDER, SCRATCH
from agents.prompts import ANSWER, critic_prompts, generator_prompt
from refiner_env.records import read_object
from refiner_env.tasks import resolve_task
from refiner_env.types import Task

RECORD = "training.json"
KINDS = {
    "generator": "a generator: it writes a hypothesis about a problem (supervised warm start)",
    "refiner": "a generator that mends its hypotheses as feedback says (REFINER training, arXiv 2304.01904)",
    "supervised+": "a generator: the warm start, gone on with for as many tokens as REFINER training takes",
    "no_exploration": "a generator: REFINER training on perturbations of gold alone (ablation)",
    "no_critic": "a generator: REFINER training in which nobody says what is wrong (ablation)",
    "ppo": "a generator, trained by reinforcement on its first hypotheses (TRL's PPO)",
    "critic": "a critic: it says what is wrong with a hypothesis (supervised)",
    "critic-rl": "a critic, trained by what its feedback is worth to a generator (reinforcement learning)",
}
"""What was trained, as in a record -> what that is."""


def write_card(
    folder: Path, lm: LanguageModel, record: Mapping[str, Any], name: str = "", writes: str = "feedback"
) -> None:
    """Write the card of a saved model as its README.md.

    Args:
        writes: what it writes, if it is a critic (`agents.critic.WRITES`).
        folder: where model and tokenizer are saved.
        name: what the code in the card loads; without one, the folder.
    """
    adapted = base_of(folder)
    task = resolve_task(record["options"]["task"]) if "options" in record else None
    prompts = _prompts(task, record["what"], writes) if task else {"text": "Some text."}
    text = f"""{front_matter(lm, record["base"], adapter=bool(adapted), tags=[task.name] if task else [])}
# {f"{task.name}: {record['what']}" if task else record["merged"]}

{_facts(record, adapted)}

## Prompts

{_shown(lm, prompts)}

## Loading

```python
{_code(lm, adapted, name or str(folder), list(prompts.values())[-1])}
```
"""
    ModelCard(text).save(folder / "README.md")


def front_matter(lm: LanguageModel, start: str, *, adapter: bool = False, tags: list[str]) -> str:
    """The front matter of a card.

    Args:
        start: the base at the end of the line (`origin`).
    """
    data = ModelCardData(
        license="apache-2.0" if is_own(start) else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation" if isinstance(lm, DecoderOnly) else "text2text-generation",
        base_model=None if is_own(start) or Path(start).exists() or id_fault(start) else start,
        tags=["refiner-env", *tags],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def origin(spec: str | Path) -> str:
    """The base that a model comes from in the end: `refiner-tiny`, `scratch:SIZE`, a Hugging Face id, or a folder."""
    folder = Path(spec)
    if not folder.is_dir():
        return str(spec)
    if folder.resolve() == BASE_FOLDER.resolve():
        return BASE
    if (pretrained := folder / "pretrain.json").is_file():
        return SCRATCH + str(read_object(pretrained)["size"])
    base = base_of(folder)
    return str(saved_record(folder).get("base") or (origin(base) if base else spec))


def saved_record(folder: Path) -> dict[str, Any]:
    """The record of a model's training; {} where there is none."""
    file = folder / RECORD
    return read_object(file) if file.is_file() else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Put a record beside its model, whole or not at all."""
    whole = folder / f"{RECORD}.unfinished"
    whole.write_text(json.dumps(record, indent=2) + "\n")
    whole.replace(folder / RECORD)


def development(dev: Mapping[str, float]) -> str:
    """Figures on development problems in a sentence, with the step of the weights that were chosen by them, if any."""
    figures = {k: f"{v:.4g}" if isinstance(v, float) else f"{v}" for k, v in dev.items()}
    step = figures.pop("step", None)
    told = ", ".join(f"{name} {figure}" for name, figure in figures.items())
    if step is None:
        return f"On development problems: {told}."
    since = ", from before training" if step == "0" else ""
    return f"Its weights are those of step {step}{since}, the best on development problems: {told}."


def id_fault(text: str) -> str:
    """Why a text is no id of the hub; "" where it is one."""
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        return str(error).splitlines()[0]
    return ""


def is_own(start: str) -> bool:
    """Whether a model comes from weights of this project alone."""
    return start == BASE or start.startswith(SCRATCH)


def _facts(record: Mapping[str, Any], adapted: str) -> str:
    """What the record says, as a list."""
    facts, start = [], record["base"]
    if "what" in record:
        facts.append(f"Trained as `{record['what']}`: {KINDS.get(record['what'], record['what'])}.")
    if "merged" in record:
        facts.append(f"The adapter of `{record['merged']}`, worked into its base.")
    if adapted:
        facts.append(f"A low-rank adapter (LoRA) beside `{adapted}`, without which it cannot be loaded.")
    facts.append(f"Base: `{start}`{', weights of refiner-env' if is_own(start) else ''}.")
    if "options" in record:
        seed, data = record["options"]["seed"], record["options"]["data"]
        level = f" at level {data['level']}" if data["level"] else ""
        facts.append(f"Data: `{data['source']}`{level}, hash `{record['data_hash']}`; seed {seed}.")
        facts.append(f"Options stand in `{RECORD}`.")
    if "spent" in record:
        spent = record["spent"]
        facts.append(
            f"Spent: {spent['steps']:,} optimizer steps, {spent['tokens']:,} tokens passed forward and backward, "
            f"{spent['rollout_tokens']:,} tokens written in training, {spent['wall_s'] / 60:.1f} minutes."
        )
    if record.get("dev"):
        facts.append(development(record["dev"]))
    if "threshold" in record:
        facts.append(f"Accepts what it finds right with a probability of at least {record['threshold']:.4g}.")
    facts.append(f"Licence: {'Apache-2.0' if is_own(start) else f'that of its base, `{start}`: look it up there'}.")
    return "\n".join(f"- {fact}" for fact in facts)


def _prompts(task: Task[Any], what: str, writes: str) -> dict[str, str]:
    """What it reads, on a procedural problem; the fullest last."""
    problem = task.generate(0, 0)
    wrong = task.perturb(problem, random.Random(0))
    turn = wrong, task.feedback(task.diagnose(problem, wrong)).text
    alone = {"a problem": generator_prompt(problem.text)}
    if not what.startswith("critic"):
        return {**alone, "a problem, the last hypothesis and its feedback": generator_prompt(problem.text, turn)}
    return alone if writes == "solution" else {"a problem and a hypothesis": critic_prompts([problem.text], [wrong])[0]}


def _shown(lm: LanguageModel, prompts: Mapping[str, str]) -> str:
    shown = [f"It reads {name}:\n\n    {prompt}" for name, prompt in prompts.items()]
    if isinstance(lm, DecoderOnly):
        chat = "all of it as a user's message of the tokenizer's chat template"
        shown.append(f"Decoder-only, it reads {chat if lm.tokenizer.chat_template else f'`{ANSWER}` after it'}.")
    return "\n\n".join(shown)


def _code(lm: LanguageModel, base: str, name: str, prompt: str) -> str:
    """Python that loads it with the libraries alone and writes what `LanguageModel.generate` does."""
    auto, ids, written = "AutoModelForSeq2SeqLM", "tokenizer(prompt).input_ids", "written[0]"
    if isinstance(lm, DecoderOnly):
        auto, written, frame = "AutoModelForCausalLM", "written[0][len(ids) :]", lm.prompt_frame
        ids = f"{frame.before} + tokenizer(prompt, add_special_tokens=False).input_ids + {frame.after}"
    start = ", ".join(f"{key}={value}" for key, value in lm.start.items())
    peft = "from peft import PeftModel\n" if base else ""
    beside = f"""
if len(tokenizer) > model.get_input_embeddings().num_embeddings:
    model.resize_token_embeddings(len(tokenizer))
model = PeftModel.from_pretrained(model, {name!r})"""
    return f"""import torch
{peft}from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name!r})
model = {auto}.from_pretrained({(base or name)!r}, dtype=torch.float32, use_safetensors=True){beside if base else ""}
prompt = {prompt!r}
ids = {ids}
rules = dict(do_sample=False, num_beams=1, max_new_tokens={lm.max_new_tokens}, {start})
written = model.generate(input_ids=torch.tensor([ids]), **rules)
print(tokenizer.decode({written}, skip_special_tokens=True))"""
