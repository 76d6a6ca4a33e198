"""Fixtures that several test files share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import pytest

from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.progress import Update

if TYPE_CHECKING:
    from agents.lm import LanguageModel


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with the real corpora; tests that need it skip where there is none."""
    root = os.environ.get("REFINER_DATA")
    if not root:
        pytest.skip("REFINER_DATA is not set: it names the folder that holds svamp/train.csv and svamp/dev.csv")
    return Path(root)


@pytest.fixture(scope="session")
def task() -> MathWordProblem:
    return MathWordProblem()


@pytest.fixture(scope="session")
def train(task: MathWordProblem) -> list[Problem]:
    return [task.generate(1, i) for i in range(200)]


@pytest.fixture(scope="session")
def dev(task: MathWordProblem) -> list[Problem]:
    return [task.generate(2, i) for i in range(24)]


@pytest.fixture(scope="session")
def lm(task: MathWordProblem, train: list[Problem]) -> LanguageModel:
    """An untrained tiny model. Shared: clone it before training."""
    import torch

    from agents.models import open_model

    torch.manual_seed(0)
    model = open_model("scratch:tiny", task, train, dropout=0.1)
    model.max_new_tokens = 40
    return model


@pytest.fixture(scope="module", params=["tiny", "decoder-tiny"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, task: MathWordProblem) -> Path:
    """An untrained model of either kind in a folder."""
    import torch

    from agents.models import open_model

    torch.manual_seed(0)
    lm = open_model(f"scratch:{request.param}", task, [task.generate(1, i) for i in range(60)])
    folder = tmp_path_factory.mktemp(request.param)
    lm.save(folder)
    return folder


class Seen(Update):
    """Remembers what a trainer tells."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.resumed: list[int] = []

    def __call__(self, done: float, **metrics: Any) -> None:
        self.metrics.append(metrics)

    def notice(self, text: str, **fields: Any) -> None:
        self.notices.append({"text": text, **fields})

    def resume(self, step: int) -> None:
        self.resumed.append(step)


@pytest.fixture
def seen() -> Seen:
    return Seen()


class Endpoint(ThreadingHTTPServer):
    """A server on this machine that speaks /chat/completions, in a thread while it is used as a context.

    Args:
        answer: (the last message of a request, its number from 0) -> the reply's text; or a whole body, as an object
            or as bytes; or (status, headers, body).
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[str, int], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = Lock()
        self.at_once = self.most_at_once = 0

    def __enter__(self) -> Endpoint:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append({key.lower(): value for key, value in self.headers.items()})
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        answer = self.server.answer(body["messages"][-1]["content"], number)
        with self.server.lock:
            self.server.at_once -= 1
        status, headers, said = answer if isinstance(answer, tuple) else (200, {}, answer)
        content = completion(said) if isinstance(said, str) else said
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text, **message}}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted models go where the tests' other files go."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("REFINER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def own_endpoint() -> Iterator[None]:
    """The critic `api` asks a server on this machine unless a test names another, and no key is ever used."""
    with (
        Endpoint(lambda request, number: "The operator in #0 is incorrect.") as server,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setenv("OPENAI_BASE_URL", server.url)
        m.setenv("NO_PROXY", "127.0.0.1")
        m.delenv("OPENAI_API_KEY", raising=False)
        yield
