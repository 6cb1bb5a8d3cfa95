"""Chat examples in Gemma's turn format, made from the children's stories of the corpus.

Three kinds, each ending where the text itself ends or at a paragraph's end, so that <end_of_turn> comes naturally:
whole short stories (told by title, by subject, by first words, or just told), endings of longer ones, and next
paragraphs.
"""
import json
import lzma
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np

import data

LONGEST = 700  # tokens of an answer
SHORTEST = 60

TELL = ["Tell me a short story.", "Tell me a story.", "Tell me a bedtime story.", "Please tell me a fairy tale.",
        "Write a short story.", "Can you tell me a story?", "Tell a story for children.", "Tell me a fable."]
ABOUT = ["Tell me a story about {}.", "Tell me a short story about {}.", "Write a story about {}.",
         "Please tell me a tale about {}.", "Can you tell me a story about {}?", "I would like a story about {}.",
         "Tell a children's story about {}.", "Write a short fairy tale about {}."]
TITLED = ['Tell me the story "{}".', 'Write a story called "{}".', 'Tell me a story with the title "{}".']
BEGINS = ['Tell me a story that begins: "{}"', 'Write a story that starts with: "{}"', 'Tell a story beginning "{}"']
CONTINUE = ["Continue: {}", "Continue this story: {}", "What happens next? {}", "Go on with this story: {}"]
FINISH = ["Finish this story: {}", "How does this story end? {}", "Write the end of this story: {}"]

# Words that follow "a" or "the" often without being what a story is about.
DULL = set("""time day way other same one two first last whole great good long next very more most end side moment place
head hand eye face voice word thing man's own rest sort kind part name matter few morning evening night minute while bit
back front top middle left right best world life year hour half another such lot number second third dear true less
purpose manner case means idea sound sight sense point fact reason moment piece pair deal heat use question answer
children men women people clothes sea sky air sun ground proud real water summer spring winter autumn general line door
window house room spot place cup table broken distance""".split())
KINDS = "(?:(?:little|old|young|poor|great|big|wicked|good|wise) )?"
FOLLOWS = "and|of|was|who|that|in|to|said|had|is|with|on|at|by|from|as|came|went|ran|looked|did|would"
NOUN = re.compile(rf"\b(?:[Aa]n?|[Tt]he) {KINDS}([a-z]{{3,}})(?=[.,;!?]| (?:{FOLLOWS}))")
SINGULAR = re.compile(rf"\b[Aa]n? {KINDS}([a-z]{{3,}})\b")


def prompt_text(user):
    return f"<start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n"


def nouns(text):
    return Counter(NOUN.findall(text))


class Subjects:
    """What a story is about: nouns frequent in it and rare elsewhere."""

    def __init__(self, stories):
        self.seen = Counter(w for s in stories for w in nouns(s))
        self.singular = Counter(w for s in stories for w in set(SINGULAR.findall(s)))
        self.stories = len(stories)

    def of(self, story, rng):
        opening = nouns(story[:400])

        def weight(word, count):
            return count * np.log(self.stories / self.seen[word]) * (2 if word in opening else 1)

        good = lambda w: w not in DULL and self.singular[w] >= 5 and not w.endswith(("ly", "est", "s"))
        best = sorted(((weight(w, c), w) for w, c in nouns(story).items() if c > 1 and good(w)), reverse=True)[:2]
        if not best:
            return None
        named = [("an " if w[0] in "aeiou" else "a ") + w for _, w in best]
        return " and ".join(named if rng.random() < 0.5 else named[:1])


def title_case(title):
    small = {"a", "an", "and", "the", "of", "in", "to", "for", "on", "at", "or", "by", "with", "from"}
    words = title.lower().split()
    return " ".join(w if i and w in small else w[:1].upper() + w[1:] for i, w in enumerate(words))


def titles(corpus, name):
    """Titles of a file's documents, where the manifest has a clean one."""
    found = {}
    rows = lzma.open(Path(corpus, "manifest.tsv.xz"), "rt", encoding="utf-8").read().split("\n")
    columns = rows[0].split("\t")
    for row in rows[1:]:
        entry = dict(zip(columns, row.split("\t")))
        title = entry.get("story", "").strip(" .")
        if entry["file"] == name and re.fullmatch(r"[A-Za-z][A-Za-z ,'-]{3,50}", title):
            found[int(entry["index"])] = title_case(title)
    return found


def first_words(text):
    """The first sentence, or its first dozen words when it is long."""
    sentence = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0].split()
    return " ".join(sentence[:12] if len(sentence) > 14 else sentence).replace('"', "'").rstrip(",;")


def examples(corpus, seed=1, name="children"):
    """-> [(user text, answer)]"""
    rng = random.Random(seed)
    sp = data.tokenizer()
    stories = data.documents(corpus, name)
    names, subjects = titles(corpus, name), Subjects(stories)
    count = lambda text: len(sp.encode(text))
    out = []
    for index, story in enumerate(stories):
        paragraphs = story.split("\n\n")
        sizes = [count(p) + 1 for p in paragraphs]
        if SHORTEST <= sum(sizes) <= LONGEST:
            asked = [rng.choice(TELL)]
            if about := subjects.of(story, rng):
                asked += [t.format(about) for t in rng.sample(ABOUT, 2)]
            if index in names:
                asked.append(rng.choice(TITLED).format(names[index]))
            asked.append(rng.choice(BEGINS).format(first_words(story)))
            out += [(a, story) for a in asked]
        if len(paragraphs) >= 4 and sum(sizes) > 300:
            # The ending: as many last paragraphs as fit, asked for with the one or two before them.
            first, total, limit = len(paragraphs), 0, rng.randint(150, LONGEST)
            while first > 1 and total + sizes[first - 1] <= limit:
                first -= 1
                total += sizes[first]
            told = "\n\n".join(paragraphs[max(0, first - 2):first])
            if total >= SHORTEST and len(told) < 2500:
                out.append((rng.choice(FINISH).format(told), "\n\n".join(paragraphs[first:])))
            # What comes next, somewhere in the middle.
            at = rng.randrange(1, len(paragraphs) - 1)
            last, total, limit = at, 0, rng.randint(150, 500)
            while last < len(paragraphs) and total + sizes[last] <= limit:
                total += sizes[last]
                last += 1
            told = "\n\n".join(paragraphs[max(0, at - 2):at])
            if total >= SHORTEST and len(told) < 2500:
                out.append((rng.choice(CONTINUE).format(told), "\n\n".join(paragraphs[at:last])))
    rng.shuffle(out)
    return out


def encode(sp, user, answer):
    """-> tokens with <bos>, and which of them are the answer's."""
    asked = [data.BOS, *sp.encode(prompt_text(user))]
    said = [*sp.encode(answer), data.END_OF_TURN]
    return asked + said + sp.encode("\n"), [0] * len(asked) + [1] * len(said) + [0]


def pack(rows, context=data.CONTEXT):
    """Whole examples laid into windows of context + 1, padded: (tokens, is answer)."""
    tokens, answers = [], []
    t, a = [], []
    for row, mask in [*rows, ([0] * (context + 2), [])]:  # the last one closes the window
        if len(t) + len(row) > context + 1:
            tokens.append(t + [data.PAD] * (context + 1 - len(t)))
            answers.append(a + [0] * (context + 1 - len(a)))
            t, a = [], []
        if len(row) <= context + 1:
            t, a = t + row, a + mask
    return np.array(tokens, np.int64), np.array(answers, bool)


if __name__ == "__main__":
    import sys
    made = examples(sys.argv[1])
    print(len(made), Counter(u.split()[0] for u, _ in made))
    for user, answer in made[:int(sys.argv[2]) if len(sys.argv) > 2 else 8]:
        print(json.dumps([user[-300:], answer[:120], answer[-60:]]))
