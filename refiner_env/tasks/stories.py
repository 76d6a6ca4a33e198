"""Procedural math word problems: an endless stand-in for SVAMP, in words of our own.

`SCHEMAS` is a table of stories. Each has *tellings* of the same facts, in different words and order, and *questions*,
each with the program that answers it. `story` picks a question and a telling, strews in sentences that do not matter,
writes `numberN` for the numbers in the order of the text, and draws values that make sense.

Simplified against real corpora: no constants (dozens, per cent), no spelling mistakes, whole numbers (or halves, as
prices), one to three steps, and nothing to know about the world beyond everyday units.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import add, mul, sub, truediv

from refiner_env.tasks.program import COMMUTATIVE, Number, Operand, Program, Step, StepRef, render
from refiner_env.types import Problem


@dataclass(frozen=True, slots=True)
class Level:
    """How hard stories are."""

    step_shares: Mapping[int, float]
    """Steps of the program -> share of the problems."""
    distractor_share: float
    """Share of problems with a sentence that does not matter."""
    second_distractor_share: float
    """Of those, the share with two."""


LEVELS = {
    "easy": Level({1: 0.70, 2: 0.30}, 0.15, 0.0),
    "medium": Level({1: 0.45, 2: 0.40, 3: 0.15}, 0.35, 0.25),
    "hard": Level({1: 0.15, 2: 0.45, 3: 0.40}, 0.80, 0.50),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind of story. `{role}` stands for a number, every other `{slot}` for a word of `_lexicon`."""

    name: str
    roles: Mapping[str, Sequence[float]]
    """Role -> the values that it may have."""
    tellings: tuple[str, ...]
    """All with the same roles. A sentence must bear another one before it: no "that is", no "of them"."""
    questions: tuple[tuple[str, str], ...]
    """(program, wording). A question may bring in roles of its own, and need not use all of the telling's."""
    holds: str | None
    """A program that must make sense for the story to be possible, whatever is asked."""
    clashes: frozenset[str]
    """Kinds of distractors that could be taken for a part of this story."""

    asking: Mapping[int, list[tuple[str, str]]] = field(init=False, compare=False)
    """The questions by the number of steps of their programs."""

    def __post_init__(self) -> None:
        by_steps: dict[int, list[tuple[str, str]]] = {}
        for program, wording in self.questions:
            by_steps.setdefault(program.count(";") + 1, []).append((program, wording))
        object.__setattr__(self, "asking", by_steps)  # the dataclass is frozen


VALUES: dict[str, Sequence[float]] = {
    "few": range(2, 13),
    "count": range(2, 40),
    "many": range(20, 120),
    "price": [halves / 2 for halves in range(3, 25)],
    "note": (10, 20, 50, 100, 200),
    "speed": range(10, 80, 10),
    "trip": range(100, 900, 10),
}
"""The ranges that the table's headings speak of."""

TABLE = """
combine: mine count, theirs count, size few
- There are {mine} {things} in {A}'s {box} and {theirs} {things} in {B}'s {box}.
- {B} owns {theirs} {things}. {A} owns {mine} {things}.
- {A} and {B} love {things}. {B} has {theirs} {things}, while {A} has {mine}.
mine + theirs -> How many {things} do {A} and {B} have together?
mine - theirs -> How many more {things} does {A} have than {B}?
mine - theirs -> How many more {things} does {B} need to have as many as {A}?
theirs - mine -> How many fewer {things} does {A} have than {B}?
mine + theirs; #0 / size -> If {A} and {B} put {size} {things} on each shelf, how many shelves can they fill together?

give: start many, given count, other count, size few | holds: start - given
- {A} had {start} {things} and {B} had {other} {things}. At the {place}, {A} gave {B} {given} {things}.
- {A} handed {given} {things} to {B}, who already had {other} {things}. At first, {A} had {start} {things}.
- {B} had {other} {things} before the party. As a present, {A} gave {B} {given} of {his} {start} {things}.
start - given -> How many {things} does {A} have now?
other + given -> How many {things} does {B} have now?
start + other -> How many {things} did {A} and {B} have together at first?
start - given; #0 / size -> If {A} now puts {size} {things} into each {box}, how many {boxes} can {he} fill?
start - given; other + given; #0 - #1 -> How many more {things} than {B} does {A} have now?
other + given; start - given; #0 - #1 -> How many more {things} than {A} does {B} have now?

undo: gone count, got count, now many | holds: now - got
- {A} had some {things}. {He} lost {gone} {things} and then bought {got} {things}. Now {A} has {now} {things}.
- {A} has {now} {things} now. Earlier, {he} bought {got} {things} after {he} had lost {gone} {things} on the way home.
- After {A} had lost {gone} {things} at the {place}, {he} bought {got} new {things}. Today, {A} has {now} {things}.
now - got -> How many {things} did {A} have just before {he} bought the new ones?
now - got; #0 + gone -> How many {things} did {A} have at first?
gone - got -> How many more {things} did {A} lose than buy?
got - gone -> How many more {things} did {A} buy than lose?

days: first count, second count, third count
- {A} {sold} {first} {things} on {day}, {second} {things} on {day2} and {third} {things} on {day3}.
- On {day3}, {A} {sold} {third} {things}. {He} {sold} {first} {things} on {day} and {second} on {day2}.
- {A} {sold} {second} {things} on {day2} and {third} {things} on {day3}. On {day}, {he} {sold} {first} {things}.
first + second -> How many {things} did {A} {sell} on {day} and {day2} together?
first - third -> How many more {things} did {A} {sell} on {day} than on {day3}?
third - second -> How many more {things} did {A} {sell} on {day3} than on {day2}?
second - first -> How many fewer {things} did {A} {sell} on {day} than on {day2}?
first + second; #0 + third -> How many {things} did {A} {sell} on {day}, {day2} and {day3} together?
first + third; #0 - second -> How many more {things} did {A} {sell} on {day} and {day3} together than on {day2}?
second + third; #0 - first -> How many fewer {things} did {A} {sell} on {day} than on the other two days together?

more_than: base count, gap count, size few
- {A} has {base} {things}. {B} has {gap} more {things} than {A}.
- {A} has {gap} fewer {things} than {B}. In all, {A} has {base} {things}.
- {B} owns {gap} more {things} than {A}, who owns {base} {things}.
base + gap -> How many {things} does {B} have?
base + gap; #0 + base -> How many {things} do {A} and {B} have together?
base + gap; #0 / size -> If {B} puts {size} {things} into each {box}, how many {boxes} can {B} fill?
base + gap; #0 + base; #1 / size -> How many {boxes} of {size} {things} can {A} and {B} fill with all they have?

fewer_than: base many, gap count, size few
- {A} has {base} {things}. {B} has {gap} fewer {things} than {A}.
- {A} has {gap} more {things} than {B}. In all, {A} has {base} {things}.
- {B} owns {gap} fewer {things} than {A}, who owns {base} {things}.
base - gap -> How many {things} does {B} have?
base - gap; #0 + base -> How many {things} do {A} and {B} have together?
base - gap; #0 / size -> If {B} puts {size} {things} into each {box}, how many {boxes} can {B} fill?
base - gap; #0 + base; #1 / size -> How many {boxes} of {size} {things} can {A} and {B} fill with all they have?

times_as_many: base count, factor few
- {A} has {base} {things}. {B} has {factor} times as many {things} as {A}.
- {B} has {factor} times as many {things} as {A}, who has {base} {things}.
- {A} would need {factor} times as many {things} to match {B}. So far, {A} has {base} {things}.
base * factor -> How many {things} does {B} have?
base * factor; #0 + base -> How many {things} do {A} and {B} have together?
base * factor; #0 - base -> How many more {things} does {B} have than {A}?

times_fewer: total many, factor few
- {B} has {total} {things}, which is {factor} times as many as {A} has.
- {B} has {factor} times as many {things} as {A}. In all, {B} has {total} {things}.
- {A} would need {factor} times as many {things} to match {B}, who has {total} {things}.
total / factor -> How many {things} does {A} have?
total / factor; #0 + total -> How many {things} do {A} and {B} have together?
total / factor; total - #0 -> How many fewer {things} does {A} have than {B}?

eaten: start many, first count, second count | holds: first + second; start - #0
- {A}'s family had {start} {foods}. The family ate {first} {foods} on {day} and {second} {foods} on {day2}.
- {A}'s family ate {first} {foods} on {day} and {second} {foods} on {day2}. Before, there were {start} {foods}.
- On {day2}, {A}'s family ate {second} {foods}. On {day}, the family had eaten {first} of its {start} {foods}.
first + second -> How many {foods} did the family eat on both days together?
second - first -> How many more {foods} did the family eat on {day2} than on {day}?
start - first -> How many {foods} did the family still have at the end of {day}?
first + second; start - #0 -> How many {foods} did the family have left after both days?

groups_and_rest: groups few, each few, loose count, given count
- {A} has {groups} {boxes} with {each} {things} in each {box}. On {his} desk lie {loose} more {things}.
- There are {loose} {things} on {A}'s shelf. {A} also has {groups} {boxes}. Every {box} holds {each} {things}.
- {A} put {each} {things} into each of {groups} {boxes} and had {loose} {things} left over.
groups * each -> How many {things} are in the {boxes}?
groups * each; #0 + loose -> How many {things} does {A} have in all?
groups * each; #0 - loose -> How many more {things} does {A} have inside the {boxes} than outside?
groups * each; #0 + loose; #1 - given -> If {A} gives {given} {things} to {B}, how many {things} will {A} have left?

share: total many, kept count, friends few | holds: total - kept; #0 / friends | clashes: people
- {A} had {total} {things}. {He} kept {kept} {things} and shared the rest equally among {friends} friends.
- {A} had {friends} friends over. Of {his} {total} {things}, {he} gave all but {kept} in equal shares to the friends.
- After {kept} of {A}'s {total} {things} got lost, {he} split the rest evenly among {friends} friends.
total - kept -> How many {things} do the friends get altogether?
total - kept; #0 / friends -> How many {things} does each friend get?

pack: total many, size few, ready few, price few, more count | clashes: money
- {A} has to pack {total} {things} into {boxes}. Every {box} takes {size} {things}.
- Each {box} at the {place} has room for {size} {things}. {A} has {total} {things} to pack.
- {A} fills {boxes} with {size} {things} each. There are {total} {things} waiting to be packed at the {place}.
total / size -> How many {boxes} does {A} need?
total / size -> How many {boxes} can {A} fill?
total / size; #0 - ready -> If {ready} {boxes} are there already, how many more {boxes} does {A} need?
total / size; #0 * price -> If each {box} costs {price} {money}, how much does {A} pay for the {boxes}?
total + more; #0 / size -> If {B} brings {more} more {things} to pack, how many {boxes} does {A} need in all?

shopping: count few, price price, note note, drink price | clashes: money
- Each {thing} costs {price} {money} at the {place}. {A} buys {count} {things}.
- {A} buys {count} {things} for {price} {money} each.
- At the {place}, {A} picks {count} {things}. The price of one {thing} is {price} {money}.
count * price -> How much do {A}'s {things} cost in all?
count * price; note - #0 -> If {A} pays with a note of {note} {money}, how much change does {he} get?
count * price; #0 + drink -> If {A} also buys a drink for {drink} {money}, how much does {he} spend in all?
count * price; #0 + drink; note - #1 -> If {he} adds a drink for {drink} {money}, how much is left of {note} {money}?

two_prices: total many, count few, total2 many, count2 few, more few | clashes: money others
- {A} paid {total} {money} for {count} {things} and {total2} {money} for {count2} {others}.
- {A} bought {count2} {others} for {total2} {money}. At the {place}, {he} got {count} {things} for {total} {money}.
- At the {place}, {count} {things} cost {A} {total} {money}. For {count2} {others}, {he} paid {total2} {money}.
total / count -> If all {things} have the same price, how much does one {thing} cost?
total2 / count2 -> If all {others} have the same price, how much does one {other} cost?
total + total2 -> How much did {A} spend on the {things} and the {others} together?
total / count; #0 * more -> How much would {A} pay for {more} {things} at the same price for each {thing}?
total / count; total2 / count2; #0 - #1 -> How much more does one {thing} cost than one {other}?
total / count; total2 / count2; #0 + #1 -> How much do one {thing} and one {other} cost together?

two_sales: count few, price few, count2 few, price2 few | clashes: money others
- {A} sold {count} {things} for {price} {money} each and {count2} {others} for {price2} {money} each.
- {A} took {price2} {money} for one {other} and {price} {money} for one {thing}. {He} sold {count} {things} \
and {count2} {others}.
- {A} sold {count2} {others} at {price2} {money} each. {He} also sold {count} {things} at {price} {money} each.
count * price -> How much money did {A} get for the {things}?
count2 * price2 -> How much money did {A} get for the {others}?
count + count2 -> How many {things} and {others} did {A} sell altogether?
count * price; count2 * price2; #0 + #1 -> How much money did {A} make from both sales?
count * price; count2 * price2; #0 - #1 -> How much more money did the {things} bring in than the {others}?

travel: speed speed, hours few, total trip | holds: speed * hours; total - #0 | clashes: road time
- {A} drives at {speed} {km} per hour and has been on the road for {hours} hours. The whole trip is {total} {km} long.
- {A}'s trip to the coast is {total} {km} long. For {hours} hours, {he} has been driving at {speed} {km} per hour.
- For {hours} hours, {A} has been on a train that goes {speed} {km} every hour. The whole trip is {total} {km} long.
speed * hours -> How many {km} has {A} traveled so far?
total / speed -> How many hours does the whole trip take at this speed?
speed * hours; total - #0 -> How many {km} of the trip are left?
total / speed; #0 - hours -> How many more hours does the trip take at this speed?

tank: start many, inflow count, leak few, minutes few | holds: inflow - leak | clashes: time
- {A}'s {tank} held {start} {liters}. Each minute, a hose adds {inflow} {liters} and a leak loses {leak} {liters}.
- {A} lets {inflow} {liters} a minute run into a {tank} with {start} {liters}. Every minute, {leak} {liters} leak out.
- A leak in {A}'s {tank} loses {leak} {liters} a minute. A pipe adds {inflow} {liters} a minute to the {tank}, which \
held {start} {liters} when {A} opened the pipe.
inflow - leak -> By how many {liters} does the water in the {tank} increase every minute?
inflow - leak; #0 * minutes -> By how many {liters} does the water in the {tank} increase in {minutes} minutes?
inflow - leak; #0 * minutes; #1 + start -> How many {liters} of water are in the {tank} after {minutes} minutes?

outing: bill many, discount few, people few, parking few | holds: bill - discount | clashes: money people
- The tickets for {A}'s group of {people} people cost {bill} {money}. A coupon saves the group {discount} {money}.
- In {A}'s group there are {people} people. A coupon takes {discount} {money} off the group price of {bill} {money}.
- {A} gets {discount} {money} off the usual {bill} {money} for a group ticket. The group has {people} people.
bill - discount -> How much does the group pay in all?
bill - discount; #0 / people -> If the group splits the cost evenly, how much does each person pay?
bill - discount; #0 + parking -> If parking costs {parking} {money}, how much do tickets and parking cost the group?
bill - discount; #0 + parking; #1 / people -> If parking adds {parking} {money}, what is the equal share of each person?

bus: start many, off count, on count, seats many | holds: start - off | clashes: people
- There were {start} people on {A}'s {bus}. At the {place}, {off} people got off and {on} new ones got on.
- At the {place}, {on} people got on {A}'s {bus} and {off} got off. Before the stop, {start} people were on the {bus}.
- {A} saw {off} people leave the {bus} and {on} others get on. Before the stop, {start} people were on the {bus}.
start - off -> How many people stayed on the {bus} during the stop?
on - off -> How many more people got on than off?
off - on -> How many fewer people got on than off?
start - off; #0 + on -> How many people are on the {bus} after the stop?
start - off; #0 + on; seats - #1 -> If the {bus} has {seats} seats, how many are free after the stop?
"""
"""Blocks of a heading (name: roles and their ranges | what must hold, what clashes), tellings and questions."""

DISTRACTORS = {
    "others": ("{A} has {extra} {others} at home.", "{A} keeps {extra} {others} in another room."),
    "things": ("There are {extra} {things} in a shop near {A}'s home.", "{A} once saw {extra} {things} in a film."),
    "money": ("{A} paid {extra} {money} for lunch.", "{A}'s new shoes cost {extra} {money}."),
    "time": ("{A} woke up {extra} minutes late.", "Earlier, {A} read a magazine for {extra} minutes."),
    "road": ("{A} lives {extra} {km} from the {place}.", "The nearest river is {extra} {km} from {A}'s home."),
    "people": ("There were {extra} visitors at the {place}.", "{A} invited {extra} guests to a party."),
    "facts": ("{A} lives at house number {extra}.", "{A} is {extra} years old.", "{A}'s home has {extra} windows."),
}
"""Kind -> sentences with a number that no question asks for. Their subject is {A} or no person, so {he} stays clear."""

WORD_TABLE = """
she: Mia Nora Ines Clara Fatima Leila Hana Greta Ruth Wanda Olga Priya Zoe Carmen Ingrid Yuki Amina Lucia Elena Freya
he: Tom Omar Felix Anton Ravi Jonah Emil Hugo Pavel Kofi Ivan Marek Diego Bruno Oscar Tariq Leon Pedro Otto Samir
food: pear apple plum cookie muffin lemon peach/peaches cherry/cherries walnut fig pretzel bagel cupcake carrot waffle \
sandwich/sandwiches strawberry/strawberries potato/potatoes tomato/tomatoes biscuit
goods: marble sticker stamp notebook pencil button coin postcard balloon shell candle crayon magnet puzzle badge \
ribbon bead photo poster kite lantern mug plate spoon bookmark eraser whistle brush/brushes scarf/scarves toy_car
place: library market museum park school bakery harbor bookshop fair zoo station farm theater playground post_office
box: box/boxes bag basket crate jar tray tin bucket sack chest
sold: sold/sell packed/pack counted/count bought/buy found/find ordered/order collected/collect
money: dollars euros pounds francs
km: kilometers miles
liters: liters gallons quarts pints
tank: tank barrel pool trough
bus: bus tram ferry train
"""
"""Slot: its words, as singular/plural (a bare "s" left out) or past/present; "_" stands for a blank."""
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _read_table(table: str) -> tuple[Schema, ...]:
    schemas = []
    for heading, *lines in (block.split("\n") for block in table.strip().split("\n\n")):
        title, *options = heading.split(" | ")
        name, roles = title.split(": ")
        given = dict(option.split(": ") for option in options)
        asked = (line.partition(" -> ") for line in lines)
        schemas.append(
            Schema(
                name,
                {role: VALUES[values] for role, values in (pair.split() for pair in roles.split(", "))},
                tuple(line[2:] for line in lines if line.startswith("- ")),
                tuple((program, wording) for program, arrow, wording in asked if arrow),
                given.get("holds"),
                frozenset(given.get("clashes", "").split()),
            )
        )
    return tuple(schemas)


SCHEMAS = _read_table(TABLE)
WORDS = {slot: words.split() for slot, words in (line.split(": ") for line in WORD_TABLE.strip().split("\n"))}
EXTRA = range(2, 80)
"""The values of a distractor."""
_FUNCTIONS = {"add": add, "subtract": sub, "multiply": mul, "divide": truediv}
_SIGNS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
_SLOT = re.compile(r"\{(\w+)\}")


def story(seed: int, index: int, level: str = "medium") -> Problem:
    """Problem `index` of the endless corpus `seed` at one of `LEVELS`: a pure function of the three."""
    rng = random.Random(f"{seed}/{index}")  # seeding by a string does not depend on the process or the platform
    shares = LEVELS[level].step_shares
    (n_steps,) = rng.choices(list(shares), list(shares.values()))
    schema = rng.choice([schema for schema in SCHEMAS if n_steps in schema.asking])
    program_text, question = rng.choice(schema.asking[n_steps])
    sentences = rng.choice(schema.tellings).replace(". ", ".\n").split("\n")
    ranges = dict(schema.roles)
    for i, distractor in enumerate(_distractors(rng, schema, LEVELS[level])):
        ranges[f"extra{i}"] = EXTRA
        sentences.insert(rng.randint(0, len(sentences)), distractor.replace("{extra}", f"{{extra{i}}}"))
    text = " ".join([*sentences, question])

    roles = [slot for slot in _SLOT.findall(text) if slot in ranges]
    place = {role: i for i, role in enumerate(roles)}
    words = _lexicon(rng) | {role: f"number{i}" for role, i in place.items()}
    program = _program(program_text, place)
    plan = _plan(program, len(roles))
    premise = _plan(_program(schema.holds, place), len(roles)) if schema.holds else []
    choices = [ranges[role] for role in roles]
    while True:  # soon ends for every question: the tests go through all of them
        numbers = [float(rng.choice(values)) for values in choices]
        if _sensible(plan, numbers, distinct=True) and _sensible(premise, numbers):
            break
    answer = _values(plan, numbers)[-1]
    return Problem(
        f"stories/{level}/{seed}/{index}",
        _SLOT.sub(lambda slot: words[slot[1]], text),
        render(program),
        answer,
        {"numbers": tuple(numbers)},
        {"schema": schema.name},
    )


def _distractors(rng: random.Random, schema: Schema, level: Level) -> list[str]:
    """No, one or two sentences that do not matter to the schema."""
    if rng.random() >= level.distractor_share:
        return []
    tells_of_things = "{things}" in schema.tellings[0]
    kinds = [k for k in DISTRACTORS if k not in schema.clashes and (k != "things" or tells_of_things)]
    chosen = rng.sample(kinds, 2 if rng.random() < level.second_distractor_share else 1)
    return [rng.choice(DISTRACTORS[kind]) for kind in chosen]


def _lexicon(rng: random.Random) -> dict[str, str]:
    """A word for every slot that is not a role."""
    words = {slot: rng.choice(choices) for slot, choices in WORDS.items()}
    # {A} and {B} never share a pronoun, so that {he} can only be {A}.
    (he, his, a), (_, _, b) = rng.sample([("he", "his", words["he"]), ("she", "her", words["she"])], 2)
    words |= {"he": he, "He": he.capitalize(), "his": his, "A": a, "B": b}
    objects = [w for w in WORDS["goods"] + WORDS["food"] if w != words["food"]]
    words["thing"], words["other"] = rng.sample(objects, 2)
    for one, many in (("thing", "things"), ("other", "others"), ("food", "foods"), ("box", "boxes"), ("sold", "sell")):
        words[one], _, second = words[one].partition("/")
        words[many] = second or f"{words[one]}s"
    first = rng.randrange(len(DAYS) - 2)
    words |= zip(("day", "day2", "day3"), DAYS[first : first + 3], strict=True)
    return {slot: word.replace("_", " ") for slot, word in words.items()}


def _program(text: str, place: Mapping[str, int]) -> Program:
    """`start - given; #0 / size` with the roles at their places."""
    steps = []
    for left, operator, right in _template(text):
        first: Operand = left if isinstance(left, StepRef) else Number(place[left])
        second: Operand = right if isinstance(right, StepRef) else Number(place[right])
        # Corpora give the two numbers of a sum or a product in the order of the text (95% of SVAMP's).
        unordered = operator in COMMUTATIVE and isinstance(first, Number) and isinstance(second, Number)
        if unordered and place[str(right)] < place[str(left)]:
            first, second = second, first
        steps.append(Step(operator, first, second))
    return Program.of(steps)


@cache  # as many as the table has
def _template(text: str) -> tuple[tuple[StepRef | str, str, StepRef | str], ...]:
    """The steps as (role or step, operator, role or step)."""

    def operand(word: str) -> StepRef | str:
        return StepRef(int(word[1:])) if word[0] == "#" else word

    parts = (step.split() for step in text.split("; "))
    return tuple((operand(left), _SIGNS[sign], operand(right)) for left, sign, right in parts)


_Plan = Sequence[tuple[Callable[[float, float], float], int, int]]
"""Steps as (function, place of its first operand, of its second), places counting the numbers and then the steps."""


def _plan(program: Program, n_numbers: int) -> _Plan:
    def at(operand: Operand) -> int:
        return n_numbers + operand.step if isinstance(operand, StepRef) else operand.index  # type: ignore[union-attr]

    return [(_FUNCTIONS[step.operator], at(step.first), at(step.second)) for step in program.steps]


def _values(plan: _Plan, numbers: Sequence[float]) -> list[float]:
    """The numbers, and the value of every step."""
    values = [*numbers]
    for function, first, second in plan:
        values.append(function(values[first], values[second]))
    return values


def _sensible(plan: _Plan, numbers: Sequence[float], distinct: bool = False) -> bool:
    """All results positive, quotients whole and above 1; `distinct`: no result or number equals another.

    Equal values would let a wrong program reach the right answer.
    """
    values = [*numbers]
    for function, first, second in plan:
        value = function(values[first], values[second])
        if value <= 0 or (function is truediv and (value <= 1 or not value.is_integer())):
            return False
        values.append(value)
    return not distinct or len(set(values)) == len(values)
