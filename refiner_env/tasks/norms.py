"""Norms: a judgment and the action that it is about, as in "It's rude to | talk in the library".

Format after Moral Stories as REFINER writes it (arXiv 2304.01904): `norm <|M_ACT|> moral action`, the second part
optional. How a judgment is worded is ours to tell from a table, since English has no grammar of norms: `read_judgment`
finds the words of `WORDS` where norms have them (after "it is", before the action, after a gerund) and counts the
negations beside them, so that "You shouldn't lie", "It's wrong to lie" and "It's good not to lie" all judge lying
wrong. Without any such word a norm is taken as an imperative: "Help your friends" judges helping right.

The words were collected on Moral Stories' 1,000 dev norms, of which 989 have one; 978 of the 995 norms with a stated
sentiment are judged by its sign, and 10 of the other 17 count a negated action the other way ("It's rude to not help").
Of the 15,443 other norms of those rows, many with synonyms and antonyms from WordNet, 270 have none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from refiner_env.types import ParseFailure

ACTION_MARK = "<|M_ACT|>"
STORY_MARKS = ("<|SIT|>", "<|INT|>", "<|I_ACT|>", "<|NRM|>")
"""The official control tokens of a problem: what follows is situation, intention, immoral action, norm."""


def story_text(situation: str, intention: str, immoral_action: str) -> str:
    """x: the story between its marks, up to where the norm has to follow."""
    told = zip(STORY_MARKS, (situation, intention, immoral_action), strict=False)
    return " ".join((*(f"{mark} {part}" for mark, part in told), STORY_MARKS[-1]))


_CONTROL = re.compile(r"<\|\w+\|>")
MAX_CHARS = 600
"""Longer texts are not read; the longest gold of Moral Stories' 1,000 dev rows has 234."""


class Judgment(StrEnum):
    """What a norm says of its action."""

    RIGHT = "right"
    WRONG = "wrong"

    @property
    def other(self) -> Judgment:
        return Judgment.WRONG if self is Judgment.RIGHT else Judgment.RIGHT


RIGHT, WRONG = Judgment.RIGHT, Judgment.WRONG

OPENINGS = {
    RIGHT: (
        "You should",
        "It's good to",
        "It's right to",
        "It's important to",
        "You ought to",
        "It is proper to",
        "It's best to",
        "You must",
        "It's expected that you",
        "It's a good idea to",
        "You need to",
        "It is kind to",
    ),
    WRONG: (
        "You shouldn't",
        "It's wrong to",
        "It's bad to",
        "It isn't right to",
        "You ought not to",
        "It's not okay to",
        "It's best not to",
        "You must not",
        "It is never okay to",
        "It's a bad idea to",
        "It's rude to",
        "It is mean to",
    ),
}
"""How norms of each judgment begin, for norms that are made here; any of them goes before any bare verb phrase."""

WORDS = {
    RIGHT: """
        acceptable accepted accepting accommodating adequate admirable advisable affectionate agreeable allowed alright
        altruistic appreciated appropriate beautiful beneficial best better brave careful caring charitable clean
        commendable common compassionate considerate cool correct courageous courteous courtesy crucial customary
        decent desirable diligent duty easier educational encouraged encouraging enjoyable essential ethical excellent
        exciting expected fair faithful fantastic favorable fine friendly fun generous genial genuine good gracious
        grateful great happy healthful healthy helpful heroic honest honorable honourable human hygienic ideal
        imperative important intelligent interesting justified kind kindhearted lawful legal legitimate logical lovely
        loving loyal mandatory mature merciful moral natural neat necessary neighborly nice noble normal nurturing
        obligated obligatory ok okay permissible permitted pleasant polite positive praiseworthy preferable preferred
        productive professional proper proud prudent reasonable recommended relaxing required respectable respectful
        responsibility responsible rewarding right romantic safe sanitary satisfying scholarly sensible smart sporting
        standard suitable supportive supposed sweet sympathetic thoughtful tolerant traditional trustworthy truthful
        typical understandable understanding useful usual valid valuable virtuous vital welcome welcomed well-mannered
        wise wonderful worthwhile worthy
    """,
    WRONG: """
        abhorrent absurd abusive alarming annoying antisocial appalling arrogant asshole atrocious awful awkward bad
        badly betrayal bothersome bullying callous careless cheap cheating childish clingy cold conceited concerning
        controlling cowardly crappy crass crazy creepy crime criminal cruel damaging dangerous deceitful deceptive
        delinquent demeaning despicable destructive detrimental devastating dirty disappointing discouraged
        discourteous disgraceful disgusting dishonest dismissive disturbing dumb embarrassing entitled evil excessive
        exploitative fool foolish forbidden fraud frowned frustrating gluttonous godawful greedy gross harmful harsh
        hateful heartless homophobic horrible horrid hostile hurtful hypocritical ignorant ill-mannered immature
        immoral impolite improper inconsiderate indecent infuriating insensitive insulting intrusive invasive
        irresponsible irritating jealous juvenile lame lazy lousy malicious manipulative mean misguided nasty naughty
        needy neglectful negligent nosy obnoxious odd offensive overbearing pathetic petty pointless poor problem
        problematic prohibited racist rash reckless repulsive ridiculous risky rude ruthless sad scary scummy selfish
        sexist shady shallow shameful shitty silly sin sinful sketchy sloppy sneaky spiteful spoiled stealing strange
        stressful stupid suspicious taboo tacky tasteless terrible terrifying theft thoughtless toxic tragic trashy
        unacceptable unbearable unbecoming unclean uncouth unforgivable ungrateful unruly unsanitary unscrupulous
        upsetting vain vile vindictive violent vulgar wasteful weird worrisome worrying worse worst wrong
    """,
}
"""Words that judge. With un-, in-, im-, ir-, il- or dis- before it, a word that judges right judges wrong."""

_SIGN = {prefix + word: WRONG for prefix in ("un", "in", "im", "ir", "il", "dis") for word in WORDS[RIGHT].split()}
_SIGN |= {word: judgment for judgment, words in WORDS.items() for word in words.split()}
_ADJECTIVES = {RIGHT: ("good", "right", "fine", "nice"), WRONG: ("wrong", "bad", "rude", "mean")}
_MODALS = {RIGHT: ("should", "must", "ought to"), WRONG: ("should not", "must not", "ought not to")}

_EXPANSIONS = (
    ("_", " "),
    (r"^(?:it'?s|is)\b", "It is"),
    (r"^you'?re\b", "You are"),
    (r"\bcan'?t\b|\bcannot\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"n't\b", " not"),
)
"""What has several spellings in judgments: pattern, the one that is looked for."""
_EXPAND = tuple((re.compile(pattern, re.IGNORECASE), text) for pattern, text in _EXPANSIONS)

_BE = r"(?:is|are|was|be|can be|could be|would be|will be|may be|might be|has been)"
_ADVERB = (
    "(?:not|never|always|very|so|really|considered|often|usually|generally|also|just|a|an|the|more|most|quite|pretty"
    "|extremely|absolutely|socially|morally|strongly|highly|almost|still|rarely|kind of|only|definitely|probably|seen"
    "|as|incredibly|sometimes|to be)"
)
_WORD = "|".join(sorted(map(re.escape, _SIGN), key=len, reverse=True))
_ANYONE = r"(?:you|one|people|we|everyone|everybody|someone|somebody|anyone|a person|others|folks)\b[ ,]*"
_IT_IS = re.compile(
    rf"(?:it|that|this) {_BE} (?P<judge>(?:[^ ,]+ ){{0,7}}?[^ ,]+) "
    "(?P<link>to|that|for|when|if|how|you|people|being|be) (?P<rest>.+)",
    re.IGNORECASE,
)
_MODAL = re.compile(
    r"(?P<who>(?:[^ ]+ ){0,14}?)(?P<judge>(?:should|must|ought|shall|can|may|needs? to|ha(?:ve|s) to|had better"
    r"|(?:do|does|will)(?= (?:not|never) ))(?: (?:not|never|always|ever|at least|probably|really|definitely|also|only"
    r"|still|to))*) (?P<rest>.+)",
    re.IGNORECASE,
)
_JUDGED = re.compile(rf"(?P<who>.+?) {_BE} (?P<judge>(?:{_ADVERB} ){{0,4}}(?:{_WORD}))\b(?P<rest>.*)", re.IGNORECASE)
_COMMAND = re.compile(r"(?P<who>)(?P<judge>do not ever|do not|never|always|please) (?P<rest>.+)", re.IGNORECASE)
_FOR = re.compile(r"(?P<who>.{1,60}?) (?=(?:not )?to )", re.IGNORECASE)
_GERUND = re.compile(r"(?:not )?\w+ing\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|never|rarely)\b", re.IGNORECASE)
_START = re.compile(r"(?P<negation>(?:to |do |does |will )?(?:not|never) (?:to )?)|(?:to )?always |to ", re.IGNORECASE)
_SUBJECT = re.compile(f"^{_ANYONE}", re.IGNORECASE)
_LAST_SUBJECT = re.compile(rf"(?:^|(?<=[ ,])){_ANYONE}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm with the moral action that follows it."""

    text: str
    """The norm as written, white space aside."""
    judgment: Judgment
    """Read from `text`."""
    phrase: str
    """The action that is judged, read from `text`: "you" and the like, and the negation that `judgment` counts, are
    left out."""
    action: str = ""
    """The moral action as written, white space aside; "" where none is given."""

    @property
    def key(self) -> str:
        """The norm's text, spelling aside: lower case, no final punctuation."""
        return _bare(self.text).lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """What `read_judgment` finds in a norm."""

    judgment: Judgment
    phrase: str
    before: str
    """The text up to the words that judge, and the text after them."""
    after: str
    words: Mapping[Judgment, tuple[str, ...]] | None
    """What could stand between them; None where no words judge, as in an imperative."""
    bare: bool
    """Whether `phrase` is a bare verb phrase that any of `OPENINGS` goes with."""


def parse(text: str) -> Norm | ParseFailure:
    """Read `norm <|M_ACT|> moral action`. Never raises."""
    if len(text) > MAX_CHARS:
        return ParseFailure("too_long", f"expected at most {MAX_CHARS} characters", (MAX_CHARS, len(text)))
    norm, mark, action = re.sub(re.escape(ACTION_MARK), ACTION_MARK, text, flags=re.IGNORECASE).partition(ACTION_MARK)
    if found := _CONTROL.search(text, len(norm) + len(mark)) or _CONTROL.search(norm):
        return ParseFailure("syntax", f"expected words, found {found[0]!r}", found.span())
    written = " ".join(norm.split())
    reading = read_judgment(written)
    if not re.search(r"[^\W\d_]", reading.phrase):
        return ParseFailure("syntax", "expected a judgment and what it is about", (0, len(norm)))
    return Norm(written, reading.judgment, reading.phrase, " ".join(action.split()))


def render(norm: Norm) -> str:
    """`norm <|M_ACT|> moral action`, or the norm alone where there is no action."""
    return f"{norm.text} {ACTION_MARK} {norm.action}" if norm.action else norm.text


def read_judgment(text: str) -> Reading:
    """Who judges what how, as far as a table can tell (module docstring). Total: there is a reading for any text."""
    text = _bare(text)
    for pattern, replacement in _EXPAND:
        text = pattern.sub(replacement, text)
    patterns = (_JUDGED, _MODAL) if _GERUND.match(text) else (_MODAL, _JUDGED)
    for pattern in (_IT_IS, _COMMAND, *patterns):
        found = pattern.match(text)
        if found and (reading := _reading(text, found)):
            return reading
    judging = [word for word in re.findall(r"[\w-]+", text.lower()) if _SIGN.get(word) is WRONG]
    found = _IT_IS.match(text)
    return Reading(WRONG if judging else RIGHT, found["rest"] if found else text, "", "", None, False)


def _reading(text: str, found: re.Match[str]) -> Reading | None:
    """What a match of one of the patterns says; None where it has no word that judges."""
    judge, rest, link = found["judge"], found["rest"].strip(), found.groupdict().get("link", "").lower()
    signs = [_SIGN[word] for word in re.findall(r"[\w-]+", judge.lower()) if word in _SIGN]
    by_word = found.re in (_IT_IS, _JUDGED)
    if by_word and not signs:
        return None
    words, before, after = _ADJECTIVES if by_word else _MODALS, text[: found.start("judge")], text[found.end("judge") :]
    judgment, negations = signs[-1] if by_word else RIGHT, len(_NEGATION.findall(judge))
    who = "" if found.re is _IT_IS else _LAST_SUBJECT.sub("", found["who"].strip())
    if link == "for" and (subject := _FOR.match(rest)):
        who, rest = _LAST_SUBJECT.sub("", subject["who"]), rest[subject.end() :]
    elif link in ("that", "when", "if"):
        rest = _SUBJECT.sub("", rest, count=1)
    bare = not who and link not in ("when", "if", "how")
    if found.re is _JUDGED and who.lower().startswith("not "):
        who, negations = who[4:], negations + 1
    elif start := _START.match(rest):
        rest, negations = rest[start.end() :], negations + bool(start["negation"])
        if found.re is _JUDGED:  # "friends are expected to help": "are right to" would say something else
            words, before, after = _MODALS, f"{found['who']} ", f" {rest}"
    elif found.re is _JUDGED:
        bare = False
    judgment = judgment.other if negations % 2 else judgment
    return Reading(judgment, " ".join([*who.split(), *rest.split()]), before, after, words, bare)


def rejudge(norm: Norm, judgment: Judgment, rng: random.Random) -> str:
    """The norm's action under a judgment: with a new opening, or with new words where the old ones stand."""
    reading = read_judgment(norm.text)
    if reading.words is not None and not reading.bare:
        for words in (reading.words[judgment], reading.words[judgment.other]):  # the latter beside a "not" that stays
            text = f"{reading.before}{rng.choice(words)}{reading.after}."
            if read_judgment(text).judgment is judgment:
                return text
    return f"{rng.choice(OPENINGS[judgment])} {reading.phrase}."


def _bare(text: str) -> str:
    """Single spaces, straight apostrophes, no punctuation around."""
    return " ".join(re.sub("[\u2018\u2019`]", "'", text).split()).strip(" .!?;,\"'")
