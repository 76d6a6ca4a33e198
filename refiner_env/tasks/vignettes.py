"""Procedural moral stories: a small synthetic stand-in for Moral Stories (Emelin et al., EMNLP 2021), in words of
our own.

`TABLE` holds everyday situations in which somebody does what they should not. `vignette` picks a wording of each part,
names the persons, and words a norm with one of `OPENINGS`. The norm's other wordings, norms of the inverse judgment
and norms about something else in the story come with gold, as for the corpus.

Simplified against the corpus: a few dozen situations, whose norms are the only ones to learn; no norm is in dispute,
and every one has a verb phrase in its plainest form. It shows that code runs and that a model can learn the form;
it says nothing about judging new situations. `gold_metadata["synthetic"]` marks every problem.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from refiner_env.tasks import stories
from refiner_env.tasks.norms import ACTION_MARK, OPENINGS, RIGHT, WRONG, Judgment, story_text
from refiner_env.types import Problem


@dataclass(frozen=True, slots=True)
class Level:
    """How hard vignettes are."""

    n_wordings: int
    """In how many ways each part of a story may be told."""
    n_openings: int
    """How many of `OPENINGS` gold may have."""
    wrong_share: float
    """Share of gold norms that say what not to do; the others say what to do instead."""
    distractor_share: float
    """Share of situations with a sentence beside the point."""


LEVELS = {
    "easy": Level(1, 2, 0.0, 0.0),
    "medium": Level(2, 6, 0.2, 0.3),
    "hard": Level(2, 12, 0.5, 0.9),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """One everyday situation. `{A}` is who acts, `{he}`, `{his}`, `{him}` the same; `{B}` is somebody else."""

    name: str
    situations: tuple[str, ...]
    intentions: tuple[str, ...]
    immoral: tuple[str, ...]
    moral: tuple[str, ...]
    do: tuple[str, ...]
    """What is right here, as bare verb phrases that all say the same."""
    avoid: tuple[str, ...]
    """What is wrong here: the other side of the same norm."""
    beside: tuple[str, ...]
    """Verb phrases from the story that its norm is not about."""


TABLE = """
borrowed
{A} borrowed a {thing} from {B} last month. / For a month, {A} has had a {thing} that belongs to {B}.
{A} wants to have a {thing} at hand at all times. / {A} would like to go on using the {thing}.
{A} tells {B} that the {thing} got lost. / {A} says that {he} gave the {thing} back long ago.
{A} takes the {thing} back to {B} and saves up for a new one. / {A} returns the {thing} and asks to use it again.
return what you borrow / give borrowed things back
claim that other people's property is lost / hang on to belongings of a friend
save up for a new tool / own plenty of tools / ask how a machine works

queue
There is a long line at the {shop}. / At the {shop}, {A} finds a dozen people waiting.
{A} wants to pay quickly and go home. / {A} wants to be out of the {shop} in five minutes.
{A} squeezes in at the very front. / {A} walks past everybody and puts {his} things on the counter.
{A} goes to the end of the line. / {A} lines up behind the last person and reads the news.
wait your turn / stand in line like everybody else
push past people who came first / jump the queue
pay with coins / carry a heavy basket home / read the news

litter
{A} eats a sandwich on a bench in the park. / {A} has lunch in the park, where no trash can is in sight.
{A} wants to get rid of the wrapper. / {A} would rather not carry the greasy wrapper around.
{A} throws the wrapper into the bushes. / {A} lets the wrapper blow away across the grass.
{A} keeps the wrapper until {he} finds a trash can. / {A} takes the wrapper home and throws it away there.
take your trash with you / put garbage where it belongs
litter in public places / leave rubbish behind in a park
sit on a bench / eat lunch outdoors / look at bushes

lost_wallet
{A} finds a wallet on the {bus}. / On the {bus}, a wallet lies under the seat of {A}.
{A} wants to buy concert tickets. / {A} is short of money and hopes to pay the rent.
{A} pockets the cash and drops the wallet. / {A} slips the bills out and leaves the empty wallet there.
{A} hands the wallet to the driver with all its money. / {A} calls the owner and gives the wallet back untouched.
hand in valuables that you find / get lost property back to its owner
pocket cash that is not yours / steal from a wallet
buy concert tickets / ride through town all day / call the driver

noise
It is past midnight in the building where {A} lives. / Late at night, {A} is still awake in a building with thin walls.
{A} wants to practice the {instrument}. / {A} hopes to learn a new piece on the {instrument}.
{A} plays the {instrument} with the windows open. / {A} plays the {instrument} as loudly as {he} can.
{A} goes to bed and practices in the morning. / {A} only reads the notes and plays after breakfast.
keep quiet at night / let your neighbors sleep
make noise when others are asleep / wake up the whole house
learn a new piece of music / open the windows / get up before breakfast

exam
{A} has not studied for today's exam. / Today {A} takes an exam in a subject that {he} finds hard.
{A} wants a good grade. / {A} hopes to pass with a good grade.
{A} copies the answers of {B}. / {A} reads the solutions from a note up {his} sleeve.
{A} answers what {he} can without any help. / {A} does {his} best alone and asks for a tutor afterwards.
do your own work in a test / be honest in exams
cheat at school / copy answers from somebody
hire a tutor / hope for sunny weather / choose a hard subject

promise
{A} promised to help {B} move on {day}. / {B} counts on {A}, who agreed to carry boxes on {day}.
{A} wants to see the new film at the cinema. / {A} wants to spend {day} at the lake.
{A} switches off {his} phone and never shows up. / On {day}, {A} leaves town and does not tell {B}.
{A} carries boxes all of {day} as agreed. / {A} helps {B} first and goes out in the evening.
keep your promises / stick to what you agreed to do
let down someone who counts on you / break your word
see a new film / swim in the lake / buy stronger boxes

bus_seat
{A} has a seat on the crowded {bus}. An old man with a cane gets on. / On the full {bus}, an old man with a cane \
stands next to the seat of {A}.
{A} wants to rest {his} legs. / {A} hopes to sit until the last stop.
{A} pretends to be asleep. / {A} looks out of the window and stays where {he} is.
{A} stands up and lets the man sit down. / {A} offers the man {his} seat.
offer your seat to elderly people / make room for those who can hardly stand
ignore a frail passenger / pretend not to notice that somebody needs to sit
look out of the window / take an early ride / walk with a cane

gossip
{B} tells {A} about an illness in confidence. / {A} is the only one who knows about the illness of {B}.
{A} wants to have something to talk about at lunch. / {A} hopes to entertain {his} colleagues.
{A} tells everybody at work about the illness. / {A} spreads the news of the illness in the canteen.
{A} talks about the weather instead. / {A} tells a joke and does not mention {B}.
keep a secret that a friend tells you / protect the privacy of others
gossip about an illness / betray the trust of a friend
eat in the canteen / tell jokes at lunch / entertain colleagues

pet
{A} goes to the coast for a week and has a {pet} at home. / {A} owns a {pet} and has booked a week at the coast.
{A} wants a holiday without any duties. / {A} wants to enjoy the sea.
{A} locks the {pet} up at home with nothing to eat. / {A} leaves the {pet} alone in the yard all week.
{A} pays a neighbor to look after the {pet}. / {A} brings the {pet} to {B}, who feeds it every day.
make sure that your animals are cared for / see to it that pets get food
abandon an animal / neglect a living creature
enjoy the sea / book a cheap hotel / pay a neighbor for gardening

parking
The parking lot of the {shop} is full except for a space for disabled drivers. / {A} is fit and well and finds only \
a parking space for disabled drivers in front of the {shop}.
{A} wants to get to the {shop} before it closes. / {A} hopes to avoid a long walk.
{A} parks in the space for disabled drivers. / {A} leaves the car in the reserved space and hurries away.
{A} parks three streets away and walks. / {A} drives on until {he} finds another space.
leave reserved spaces to people with a disability / respect signs for disabled drivers
park where only the disabled may / block a spot meant for wheelchair users
walk three streets / shop shortly before closing time / drive a small car

dishes
{A} shares a kitchen with {B}. / {B} and {A} live in the same apartment.
{A} wants to watch a show after dinner. / {A} wants an evening on the sofa.
{A} leaves all {his} dirty plates for {B}. / {A} piles greasy pans in the sink and walks off.
{A} washes up before {he} sits down. / {A} cleans {his} pots and then turns on the television.
clean up after yourself / wash the dishes that you use
leave your mess to a roommate / expect others to scrub your pans
watch a show / cook dinner every evening / buy a softer sofa

damage
{A} scrapes a parked car with {his} bicycle. Nobody is around. / On an empty street, {A} bumps into a parked car and \
breaks its mirror.
{A} wants to get home in time for dinner. / {A} wants to save {his} money for a trip.
{A} rides off as if nothing had happened. / {A} hides behind a corner and then slips away.
{A} leaves a note with {his} number on the car. / {A} rings at the next house and asks for the owner.
own up to damage that you cause / pay for what you break
run away after an accident / hide from your responsibility
save money for a trip / ride a bicycle / eat dinner at home

bully
Some boys mock a new pupil in front of {A}. / {A} sees how classmates make fun of a shy pupil.
{A} wants to be popular. / {A} wants to belong to the group.
{A} joins in and laughs the loudest. / {A} films the pupil and shows the film around.
{A} tells the others to stop. / {A} sits down next to the pupil and sends the others away.
stand up for people who are bullied / defend the weak
make fun of a shy person / join in when others are humiliated
become popular / belong to a big group / film a school play

allergy
{B} asks whether there are nuts in the cake that {A} baked. / {A} baked a nut cake and has a guest with an allergy, {B}.
{A} wants all guests to try the cake. / {A} hopes for praise for the recipe.
{A} says that the cake has no nuts. / {A} serves {B} a big slice and says nothing of the nuts.
{A} warns {B} and serves some fruit. / {A} tells {B} about the nuts and brings out an apple.
take an allergy seriously / tell guests the truth about what they eat
lie about the ingredients of a dish / put somebody's health at risk
praise a recipe / bake a bigger cake / try fruit from the garden

credit
{B} had the idea for the plan that {A} presents to the boss. / {A} and {B} are to report on a plan that {B} worked out.
{A} wants to be promoted. / {A} wants the boss to be impressed.
{A} says that the plan is all {his} own. / {A} leaves out the name of {B} and takes the applause.
{A} tells the boss whose plan it is. / {A} names {B} first and thanks {B} for the idea.
give credit where it is due / name those who did the job
pass off ideas of colleagues as yours / take praise for somebody else's effort
impress the boss / ask for a promotion / applaud after a talk

cold
{A} wakes up with a fever and a cough. / {A} has caught the flu.
{A} wants to see the grandparents on {day}. / {A} has looked forward to the family party on {day}.
{A} hugs everybody at the table. / {A} takes a pill and goes to see the old people.
{A} stays in bed and calls the family. / {A} puts the visit off until {he} is well.
stay home when you are sick / avoid contact with people while you are contagious
infect others carelessly / spread germs at a gathering
look forward to a party / hug your grandparents / make long phone calls

tip
{A} has been served well in a restaurant where waiters live on tips. / A friendly waiter has served {A} all evening.
{A} wants to spend as little as possible. / {A} wants to keep {his} last bills.
{A} makes up a complaint and pays nothing extra. / {A} climbs out of the restroom window before the bill comes.
{A} pays the bill and leaves a fair tip. / {A} thanks the waiter and adds a tip to the bill.
reward good service / treat waiters fairly
take advantage of a waiter / dodge a restaurant bill
try another restaurant / spend the evening out / open a window

phone_driving
{A} is driving on a busy road when a message from {B} comes in. / While {A} drives the children home, {B} sends {him} \
a message.
{A} wants to know what {B} has written. / {A} hopes to answer {B} right away.
{A} types an answer with one hand on the wheel. / {A} reads the message at full speed.
{A} stops at the next gas station and reads the message. / {A} waits until the car is parked.
keep your eyes on the road / concentrate on traffic behind the wheel
text while driving / use a phone at full speed
know what friends have to say / stop for gas / answer letters by hand

returns
{A} has worn a coat all winter. The shop takes back unused clothes. / A shop refunds unworn clothes, and {A} has a \
coat that is full of stains.
{A} wants to have money for a new coat. / {A} wants {his} money back.
{A} puts the tag back on and says that the coat is new. / {A} swears that the coat was never worn.
{A} keeps the coat and buys the next one later. / {A} sells the coat as used for a small price.
be honest with shopkeepers / play fair when you ask for a refund
deceive a shop / return used clothes as new
buy a warm coat / remove a stain / wait for the winter sales

late
{A} is to meet {B} at the {shop} at noon. / {B} is waiting for {A} at the {shop}.
{A} wants to finish a computer game first. / {A} would like to sleep some more.
{A} comes two hours late without a call. / {A} lets {B} stand there all afternoon.
{A} gets up at once and is there at noon. / {A} calls {B} and hurries to the {shop}.
be on time when you meet somebody / show up when you said you would
keep people waiting / waste the time of your friends
finish a computer game / sleep some more / have lunch at noon

water
There is a drought, and the town has asked everyone to save water. / During a drought, the lawn of {A} turns brown.
{A} wants a green lawn. / {A} wants the nicest garden in the street.
{A} runs the sprinkler day and night. / Every night, {A} secretly floods the lawn.
{A} lets the lawn dry out and plants a cactus. / {A} collects used dishwater for the flowers.
save water in a drought / be sparing with what is scarce
waste water that all depend on / run a sprinkler during a shortage
plant a cactus / own the nicest garden / mow the lawn on weekends

interrupt
{B} gives a talk at the town hall, and {A} sits in the first row. / {A} listens to a speech of {B} at the town hall.
{A} wants to tell a story of {his} own. / {A} wants people to notice {him}.
{A} shouts {his} story over the speech. / {A} gets up and talks over {B} again and again.
{A} listens and tells the story during the break. / {A} raises a hand and waits until {B} has finished.
let others finish speaking / listen while someone else talks
interrupt a speaker / shout during a speech
notice new faces / tell stories in a break / visit the town hall

diary
{A} finds the diary of {B} on the kitchen table. / {B} has left a diary behind on the {bus}, and {A} sees it.
{A} wants to know what {B} thinks of {him}. / {A} is curious and wants to pass the time.
{A} reads the diary from cover to cover. / {A} takes photos of every page.
{A} closes the diary and gives it back unread. / {A} hands the diary to {B} without a look inside.
respect what is private / leave a diary unread
snoop in personal notes / read a journal that is not yours
pass the time / wipe the kitchen table / take photos on a trip

fire
It has not rained for weeks, and {A} is camping in a dry forest. / {A} pitches a tent in a forest where open fires are \
forbidden because it is so dry.
{A} wants to grill some sausages. / {A} hopes for a warm meal.
{A} lights a fire under the trees and goes for a walk. / {A} builds a big fire and falls asleep.
{A} eats bread and cheese and lights nothing. / {A} walks to a village and eats at an inn.
take care with flames in a dry forest / obey a ban on open fires
light a campfire in dangerous heat / leave a burning fire alone
eat bread and cheese / sleep in a tent / grill sausages on a balcony

donation
{A} collects money for the flood victims of the town. / People have given {A} money for the families who lost their \
homes in the flood.
{A} wants a new {thing}. / {A} wants to treat {B} to a fine dinner.
{A} takes half of the donations for {him}self. / {A} spends the donations and forges the list.
{A} hands over every coin that was given. / {A} brings the full box to the town hall.
pass donations on in full / use charity money for those in need
embezzle money meant for victims / take donations for yourself
eat a fine dinner / build a house near the river / treat a friend to something

interview
{A} applies for a job as a nurse and never finished the training. / At a hospital, {A} is asked about a training that \
{he} dropped.
{A} wants to get the job. / {A} hopes to earn more.
{A} shows a forged certificate. / {A} says that {he} passed every examination.
{A} admits that the training is unfinished. / {A} tells the truth and asks for a job as a helper.
tell the truth about your qualifications / be sincere in a job interview
forge certificates / make up an education that you do not have
earn more money / visit a hospital / work with sick people

sharing
{A} has a whole pizza, and {B} has forgotten to bring lunch. / At lunch, {B} has nothing to eat, and {A} has too much.
{A} wants to have some food left for dinner. / {A} wants to eat in peace.
{A} eats in front of {B} and throws the rest away. / {A} says that the food is none of the business of {B}.
{A} gives {B} a good part of the food. / {A} cuts everything in half and passes {B} one part.
share with people who have nothing / give food to somebody who is hungry
begrudge a hungry person a bite / throw away meals that others need
eat in peace / order pizza for dinner / pack lunch early
"""
"""Blocks of a name, situations, intentions, immoral actions, moral actions, what to do, what to avoid, what is beside
the point; the wordings of each between slashes, and any of them go together."""

DISTRACTORS = (
    "It is {day}.",
    "{A} is wearing a new sweater.",
    "{A} had porridge for breakfast.",
    "The sky is a little cloudy.",
    "{A} has two brothers.",
    "Somewhere a radio is playing.",
    "{A} comes from a small town.",
    "{B} likes old maps.",
)
"""Sentences that no norm depends on."""

WORD_TABLE = """
thing: bicycle drill tent camera ladder lawnmower sewing_machine projector chainsaw telescope
shop: bakery pharmacy post_office supermarket bookshop hardware_store
bus: bus tram train subway ferry
instrument: trumpet drums violin tuba piano saxophone
pet: dog cat rabbit parrot
day: Monday Tuesday Wednesday Thursday Friday Saturday Sunday
"""
"""Slot: its words; "_" stands for a blank."""


def _read_table(table: str) -> tuple[Schema, ...]:
    blocks = (block.split("\n") for block in table.strip().split("\n\n"))
    return tuple(Schema(name, *(tuple(line.split(" / ")) for line in lines)) for name, *lines in blocks)


SCHEMAS = _read_table(TABLE)
WORDS = {
    slot: [word.replace("_", " ") for word in words.split()]
    for slot, words in (line.split(": ") for line in WORD_TABLE.strip().split("\n"))
} | {slot: stories.WORDS[slot] for slot in ("she", "he")}
_SLOT = re.compile(r"\{(\w+)\}")
_PRONOUNS = (
    ("she", "he", {"he": "she", "his": "her", "him": "her"}),
    ("he", "she", {"he": "he", "his": "his", "him": "him"}),
)


def vignette(seed: int, index: int, level: str = "medium") -> Problem:
    """Problem `index` of the endless corpus `seed` at one of `LEVELS`: a pure function of the three."""
    rng = random.Random(f"{seed}/{index}")  # seeding by a string does not depend on the process or the platform
    chosen = LEVELS[level]
    schema = rng.choice(SCHEMAS)
    parts = (schema.situations, schema.intentions, schema.immoral, schema.moral)
    situation, intention, immoral, moral = (rng.choice(part[: chosen.n_wordings]) for part in parts)
    if rng.random() < chosen.distractor_share:
        beside = rng.choice(DISTRACTORS)
        situation = f"{beside} {situation}" if rng.random() < 0.5 else f"{situation} {beside}"
    judgment = WRONG if rng.random() < chosen.wrong_share else RIGHT
    phrase = rng.choice((schema.do if judgment is RIGHT else schema.avoid)[: chosen.n_wordings])
    norm = _norm(rng.choice(OPENINGS[judgment][: chosen.n_openings]), phrase)

    words = {slot: rng.choice(choices) for slot, choices in WORDS.items()}
    mine, theirs, pronouns = rng.choice(_PRONOUNS)
    words |= {"A": words[mine], "B": words[theirs]} | pronouns
    story = story_text(situation, intention, immoral)
    answer = _SLOT.sub(lambda slot: words[slot[1]], moral)
    sides = [(RIGHT, phrase) for phrase in schema.do] + [(WRONG, phrase) for phrase in schema.avoid]
    return Problem(
        f"vignettes/{level}/{seed}/{index}",
        _SLOT.sub(lambda slot: words[slot[1]], story),
        f"{norm} {ACTION_MARK} {answer}",
        answer,
        {},
        {
            "synthetic": True,
            "schema": schema.name,
            "paraphrases": tuple(_opened(rng, judged, p) for judged, p in sides if p != phrase),
            "contradictions": tuple(_opened(rng, judged.other, p) for judged, p in sides),
            "misaligned": tuple(_opened(rng, rng.choice((RIGHT, WRONG)), p) for p in schema.beside),
        },
    )


def _opened(rng: random.Random, judgment: Judgment, phrase: str) -> str:
    return _norm(rng.choice(OPENINGS[judgment]), phrase)


def _norm(opening: str, phrase: str) -> str:
    return f"{opening} {phrase}."
