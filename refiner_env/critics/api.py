"""A critic behind a chat-completions endpoint: OpenAI's, or any server that speaks the same."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from refiner_env.critics.caching import CachedCritic
from refiner_env.critics.prompting import Prompting, failed
from refiner_env.errors import OptionError, RefinerError
from refiner_env.types import Critic, Feedback, Problem, Task

NO_KEY = "no-key-is-needed"
"""Sent to servers of one's own where no key is set; the client insists on one."""


class APICritic(Critic):
    """Asks a language model for feedback on each hypothesis, one request for each. Never sees gold.

    A request that fails after its retries, or whose reply is refused, cut or no chat completion, is a failure of that
    hypothesis alone (`Feedback.failure`). The key is that of the environment variable OPENAI_API_KEY; what is said of
    failures never holds it, though servers may repeat it.

    Args:
        base_url: of another endpoint than OpenAI's, such as `http://localhost:8000/v1`; in place of OPENAI_BASE_URL.
        timeout: seconds to wait for the server, for each try.
        retries: tries after the first where the server is busy, fails or is out of reach, with exponential backoff.
        concurrency: requests of one batch under way at once.
        shots: worked examples in each request (`Prompting`).
        max_tokens: of a reply; longer ones are cut, and count as failures.

    Raises:
        OptionError: an argument is out of range; RefinerError: no key, or the client is not installed.
    """

    deterministic = False

    def __init__(
        self,
        task: Task[Any],
        model: str = "gpt-4o-mini",
        base_url: str = "",
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 8,
        shots: int = 2,
        temperature: float = 0.0,
        max_tokens: int = 300,
    ) -> None:
        _check("retries", retries, 0)
        _check("concurrency", concurrency, 1)
        _check("max_tokens", max_tokens, 1)
        _check("temperature", temperature, 0, float)
        _check("timeout", timeout, 0.001, float)
        self.model, self.concurrency, self.temperature, self.max_tokens = model, concurrency, temperature, max_tokens
        self.prompting = Prompting(task, shots)
        self.task = task
        self._client = _client(base_url or os.environ.get("OPENAI_BASE_URL", ""), float(timeout), retries)

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._ask, problems, hypotheses))

    @property
    def identity(self) -> str:
        settings = f"{self.model}, {self._client.base_url}, {self.temperature}, {self.max_tokens}"
        return f"api of {self.task.name}({settings}, {self.prompting.digest})"

    def _ask(self, problem: Problem, hypothesis: str) -> Feedback:
        try:
            completion = self._client.chat.completions.create(
                model=self.model,
                messages=self.prompting.messages(problem.text, hypothesis),
                temperature=self.temperature,
                max_tokens=self.max_tokens,
            )
        except Exception as error:  # whatever the server does, the rest of the batch is paid for and must not be lost
            return self._failed(f"{type(error).__name__}: {error} {error.__cause__ or ''}")
        try:
            choice = completion.choices[0]
            reply, end, refusal = choice.message.content, choice.finish_reason, choice.message.refusal
        except (AttributeError, IndexError, TypeError):  # the client types replies, but does not check them
            return self._failed(f"the reply is no chat completion: {completion!r:.200}")
        if refusal or end == "content_filter":
            return self._failed(f"the request was refused: {refusal or end}")
        if end == "length":
            return self._failed(f"the reply was cut after max_tokens={self.max_tokens}")
        return self.prompting.read(reply) if isinstance(reply, str) else self._failed("the reply is empty")

    def _failed(self, why: str) -> Feedback:
        return failed(" ".join(f"{self.model}: {why}".replace(self._client.api_key, "[key]").split())[:300])


def api(
    task: Task[Any],
    model: str = "gpt-4o-mini",
    base_url: str = "",
    timeout: float = 60.0,
    retries: int = 4,
    concurrency: int = 8,
    shots: int = 2,
    temperature: float = 0.0,
    max_tokens: int = 300,
    cache: str = "",
) -> Critic:
    """An `APICritic`; with `cache`, one that keeps what was said in that file and asks it once (`CachedCritic`)."""
    critic = APICritic(task, model, base_url, timeout, retries, concurrency, shots, temperature, max_tokens)
    return CachedCritic(task, critic, cache) if cache else critic


def _check(name: str, value: Any, low: float, kind: type[float] = int) -> None:
    if not isinstance(value, int | kind) or not value >= low:
        noun = "a whole number" if kind is int else "a number"
        raise OptionError(f"{name} of an api critic is {value!r}: it must be {noun} of at least {low}.")


def _client(base_url: str, timeout: float, retries: int) -> Any:
    """The official client, which retries by itself.

    Raises:
        OptionError: no address; RefinerError: no key, one that cannot be sent, or no client.
    """
    try:
        import openai
    except ModuleNotFoundError:
        raise RefinerError("The critic 'api' needs the openai package: pip install 'openai>=2'.") from None
    if base_url and not base_url.startswith(("http://", "https://")):
        raise OptionError(f"base_url is {base_url!r}: give an address such as http://localhost:8000/v1.")
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and not base_url:
        raise RefinerError(
            "The critic 'api' needs a key: set OPENAI_API_KEY, or give base_url of a server that asks for none."
        )
    # What repr or a header would escape, we could not hide.
    if key and not re.fullmatch(r"[\w.~+/=:-]+", key, re.ASCII):
        raise RefinerError("OPENAI_API_KEY holds characters that no key has: give letters, digits and -._~+/=: alone.")
    return openai.OpenAI(api_key=key or NO_KEY, base_url=base_url or None, timeout=timeout, max_retries=retries)
