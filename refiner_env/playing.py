"""`refiner play`: a person in an environment, as its generator or as its critic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.text import Text

from refiner_env.critics.human import HELP, QUIT, Reader, read_line, sentences, written
from refiner_env.critics.naming import CRITIC_ACTS
from refiner_env.decoding import DECODING, frozen, told
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.options import Parser, add_options, option, read_options
from refiner_env.problems import ProceduralProblems
from refiner_env.records import read_episodes, write_episodes
from refiner_env.rendering import episode_text, problem_text, review_text, terminal, turn_text, visible
from refiner_env.tasks import TASKS, resolve_task
from refiner_env.types import Episode, Problem, Task, Turn

ROLES = ("generator", "critic")
HISTORY, GIVE_UP, NEXT = "h", "g", "n"
COMMANDS = {
    HELP: "this help",
    HISTORY: "history of the episode",
    GIVE_UP: "give up, or look back: show gold",
    NEXT: "next problem",
    QUIT: "quit",
}
Environment = gym.Env[dict[str, Any], str]


@dataclass(frozen=True)
class PlayOptions:
    """What is played."""

    critic: str = option("", "who answers you as generator, in place of the environment's own critic")
    generator: str = option("scripted", "who answers you as critic: scripted, or a trained generator's folder")
    decoding: str = DECODING
    max_turns: int = option(4, "hypotheses per problem", low=1, high=100)
    seed: int = option(0, "of the problems, and of what critic and editor draw", low=0)
    level: str = option("", "how hard the problems are, if not as the task has it by default")
    index: int = option(0, "the first problem's place; the others follow", low=0)


def main(argv: Sequence[str]) -> int:
    """The command. Ctrl-C and end of input end it as q does, with a summary and status 0."""
    parser = Parser(
        prog="refiner play",
        usage="%(prog)s ID [--as generator|critic] [--record FILE] [OPTIONS]",
        description="Act in an environment yourself: write hypotheses and read a critic's feedback, or write feedback "
        "on the hypotheses of a scripted editor. Lines may be piped in.",
    )
    parser.add_argument("id", metavar="ID", help="an environment id, or short: mwp, mwp.noisy, MathWordProblem")
    parser.add_argument("--as", dest="role", default="generator", help="generator (default) or critic: who you are")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append every episode to this file (JSON lines)")
    add_options(parser, PlayOptions())
    args = parser.parse_args(argv)
    session = seated(args.id, args.role, read_options(PlayOptions(), vars(args)), args.record, read_line, terminal())
    try:
        session.run()
    finally:
        session.finish()
    return 0


def seated(name: str, role: str, options: PlayOptions, record: Path | None, read: Reader, console: Console) -> Session:
    """A person at an environment.

    Args:
        name: whatever `environment_id` reads.
        record: the file that episodes are appended to; None for none.

    Raises:
        RefinerError: a name is unknown, options do not fit, or the file holds something else.
    """
    if role not in ROLES:
        raise UnknownNameError("value of --as", role, ROLES)
    if role == "critic" and options.critic:
        raise OptionError(f"--critic {options.critic} answers a generator, but with --as critic you do: drop one.")
    id = environment_id(name)
    task, own = resolve_task(gym.spec(id).kwargs["task"]), gym.spec(id).kwargs["critic"]
    if options.level and options.level not in task.levels:
        raise UnknownNameError("value of --level", options.level, task.levels)
    if record and record.exists() and record.stat().st_size:
        read_episodes(record, lambda message: print(f"refiner: {message}", file=sys.stderr))
    problems = ProceduralProblems(task, seed=options.seed, level=options.level or None)
    if options.index >= len(problems):
        raise OptionError(f"--index is {options.index}: there are {len(problems)} problems, 0 to {len(problems) - 1}.")
    critic = "human" if role == "critic" else options.critic or own

    def keep(episode: Episode) -> None:
        if record:
            write_episodes(record, task.name, critic, [episode], append=True)

    settings: dict[str, Any] = {"problems": problems, "max_turns": options.max_turns, "disable_env_checker": True}
    env: Environment
    with frozen(options.decoding) as used:
        if role == "critic":
            env = gym.make(f"Refiner/{task.name}.{CRITIC_ACTS}-v0", generator=options.generator, **settings)
        else:
            env = gym.make(id, critic=critic, on_critic_failure="record", **settings)
    if used:
        console.print(Text(told(used), "dim"), soft_wrap=True)
    return Session(env, task, problems, role, options, read, console, keep)


def environment_id(name: str) -> str:
    """The id behind `Refiner/MathWordProblem.noisy-v0`, `MathWordProblem.noisy`, `mwp.noisy`, in any case.

    Raises:
        UnknownNameError: there is none; the message offers the closest. OptionError: the critic acts in it.
    """
    forms: dict[str, str] = {}
    for id, spec in gym.registry.items():
        if id.startswith("Refiner/") and "critic" in spec.kwargs:
            bare, task = id.removeprefix("Refiner/").removesuffix("-v0"), spec.kwargs["task"]
            forms |= dict.fromkeys((id, bare, TASKS.short(task) + bare.removeprefix(task)), id)
    found = next((id for form, id in forms.items() if form.lower() == name.lower()), None)
    if found is None and name.removesuffix("-v0").endswith(f".{CRITIC_ACTS}"):
        raise OptionError(f"In {name!r} the critic acts: play it by its task, as in refiner play mwp --as critic.")
    if found is None:
        task = name.lower().partition(".")[0]
        same_task = [form for form in forms if form.lower().startswith(f"{task}.")]
        tasks = [form for form in forms if "." not in form and ("/" in form) == ("/" in name)]
        raise UnknownNameError("environment", name, same_task or tasks, "`refiner envs` lists all.")
    return found


class Session:
    """Episodes of one person, from lines that are read: what to do next, or an action.

    Args:
        env: takes the person's lines as actions.
        problems: what it draws from, by index.
        keep: gets every episode as it ends, and one that is cut short as far as it went.
    """

    def __init__(
        self,
        env: Environment,
        task: Task[Any],
        problems: Sequence[Problem],
        role: str,
        options: PlayOptions,
        read: Reader,
        console: Console,
        keep: Callable[[Episode], None],
    ) -> None:
        self.env, self.task, self.problems, self.criticises = env, task, problems, role == "critic"
        self.options, self.read, self.console, self.keep = options, read, console, keep
        self.episodes: list[Episode] = []
        self.index = options.index
        self.problem: Problem
        self.turns: list[Turn] = []
        self.over = True
        """Nothing is being played: before the first problem, and between problems."""

    def run(self) -> None:
        """Play until the person quits, interrupts, or has no more lines."""
        doing = "Review the hypotheses" if self.criticises else "Write z on one line"
        self._note(f"{self.task.name}: {doing}. ? helps, q quits.")
        try:
            self._begin()
            while (line := self.read(self._prompt()).strip()) != QUIT:
                self._answer(line)
        except (EOFError, KeyboardInterrupt):
            self.console.print()

    def finish(self) -> None:
        """Keep what was cut short, and print the summary."""
        self._close()
        self.env.close()
        if not self.episodes:
            self._note("No episode was played.")
            return
        n = len(self.episodes)
        solved = sum(e.turns[-1].scores.ir_equivalent for e in self.episodes)
        turns = sum(len(e.turns) for e in self.episodes) / n
        reward = sum(t.reward for e in self.episodes for t in e.turns) / n
        episodes = "1 episode" if n == 1 else f"{n} episodes"
        self._note(f"{episodes}, {solved} solved, {turns:.2f} turns and reward {reward:.2f} on average.")

    def _begin(self) -> None:
        """The next problem."""
        self._close()
        seed = self.options.seed if self.index == self.options.index else None
        place = self.index % len(self.problems)
        observation, info = self.env.reset(seed=seed, options={"index": place})
        self.index, self.problem, self.turns, self.over = self.index + 1, self.problems[place], [], False
        self.console.print()
        self.console.print(Text(f"Problem {place}  {info['uid']}", "bold"))
        self.console.print(problem_text(observation["problem"]))
        self._propose(observation)

    def _answer(self, line: str) -> None:
        if line == HELP:
            self._help()
        elif line == HISTORY:
            self.console.print(episode_text(Episode(self.problem, tuple(self.turns)), scores=self.over))
        elif line == GIVE_UP:
            self.console.print(Text("gold  ", "bold") + Text(visible(f"{self.problem.gold}")))
            self.console.print(Text("y     ", "bold") + Text(visible(f"{self.problem.answer}")))
            self._end()
        elif line == NEXT or (self.over and not line):
            self._begin()
        elif self.over:
            self._note("This episode is over: Enter for the next problem, ? for help.")
        elif line or self.criticises:
            self._act(line)
        else:
            self._note("Write z, or ? for help.")

    def _act(self, line: str) -> None:
        action = written(self.task, line).text if self.criticises else line
        observation, _, terminated, truncated, info = self.env.step(action)
        turn: Turn = info["turn"]
        self.turns.append(turn)
        over = terminated or truncated
        scores = turn.scores if over else None
        if self.criticises:
            self.console.print(review_text(turn.feedback, scores))
        else:
            self.console.print(turn_text(turn.hypothesis, turn.feedback, len(self.turns), scores))
        if over:
            self.console.print(_verdict(turn, len(self.turns)))
            self._end()
        else:
            self._propose(observation)

    def _propose(self, observation: dict[str, Any]) -> None:
        """A reviewer sees the next hypothesis."""
        if self.criticises:
            self.console.print(turn_text(observation["hypothesis"], None, int(observation["turn"]) + 1))

    def _end(self) -> None:
        if not self.over:
            self._close()
            self._note("Enter: next problem, g: gold, h: history, q: quit.")

    def _close(self) -> None:
        """The running episode is over; it is kept if anything was done in it."""
        if self.over:
            return
        self.over = True
        if self.turns:
            self.episodes.append(Episode(self.problem, tuple(self.turns)))
            self.keep(self.episodes[-1])

    def _help(self) -> None:
        for command, text in COMMANDS.items():
            self.console.print(f"  {command}  {text}")
        if self.criticises:
            self.console.print(sentences(self.task))
            return
        others = (self.task.generate(self.options.seed + 1, i, self.options.level or None) for i in range(20))
        example = max(others, key=lambda problem: problem.gold != self.task.guess)  # the first that shows more
        self.console.print("Anything else is your z, which looks like this:")
        self.console.print(Text(f"  {self.task.guess}"))
        self.console.print("Another problem and its gold:")
        self.console.print(Text(f"  {example.text}\n  {example.gold}"))

    def _prompt(self) -> str:
        if self.over:
            return "> "
        return "feedback> " if self.criticises else f"z{len(self.turns) + 1}> "

    def _note(self, text: str) -> None:
        self.console.print(Text(text, "dim"))


def _verdict(turn: Turn, turns: int) -> Text:
    """How an episode ended."""
    right, accepted = turn.scores.ir_equivalent, turn.feedback.accepted
    outcome = {
        (True, True): "Right, and accepted",
        (True, False): "Right, but not accepted",
        (False, True): "Accepted, but not right",
        (False, False): "Neither right nor accepted",
    }[right, accepted]
    count = "1 turn" if turns == 1 else f"{turns} turns"
    return Text(f"{outcome}, after {count}.", "bold green" if right and accepted else "bold yellow")
