"""The known right answers: texts embedded beforehand by sentence-transformers, ranked by brute force."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from api.corpus.archive import read_archive
from api.corpus.reader import read_corpus
from shared.commands.demo_run import demo_environment
from shared.model.text import text_digest
from shared.vectors import Vectors
from tests.support.archives import DEMO_DATA

Scores = NDArray[np.float64]

TOLERANCE = 1e-4
"""A text's embedding differs by some 1e-6 with the batch it was computed in, which may change the order of premises
whose scores are that near; two different texts give scores that differ by a hundred times this."""
WARM = 12
"""States, and declarations, that are asked for all the time."""


@dataclass(frozen=True)
class Question:
    """A request and its right answer."""

    kind: str
    """`warm`, `fresh` or `new`: whether it needs nothing embedded, its state, or some of its new premises."""
    body: dict[str, Any]
    scores: dict[str, float] = field(repr=False)
    """Of every premise that may be in the answer, by name."""

    @property
    def k(self) -> int:
        return int(self.body["k"])


def flaw(question: Question, hits: Sequence[dict[str, Any]]) -> str:
    """What is wrong with an answer; empty if it is right.

    Every premise has its own score, and the scores are the k highest: names may differ only between equal scores.
    """
    best = sorted(question.scores.values(), reverse=True)[: question.k]
    if len(hits) != len(best):
        return f"{len(hits)} premises instead of {len(best)}"
    if len({hit["name"] for hit in hits}) != len(hits):
        return "a premise comes twice"
    for rank, (hit, score) in enumerate(zip(hits, best, strict=True)):
        own = question.scores.get(hit["name"])
        if own is None:
            return f"rank {rank}: {hit['name']} is not accessible"
        if not abs(hit["score"] - own) <= TOLERANCE or not abs(hit["score"] - score) <= TOLERANCE:
            return f"rank {rank}: {hit['name']} has {hit['score']}, not {own:.6f}; the best left has {score:.6f}"
    return ""


class Reference:
    """Questions about the demo corpus, each with its answer."""

    def __init__(self, data_dir: Path, fresh: int = 150) -> None:
        """`fresh` states and as many declarations are cold whenever the caches have been made to forget them."""
        self._random = random.Random(1)
        self._modules = _premises()
        self._names = list(self._modules)
        # The rows that are served were compared with sentence-transformers by test_corpus_embeddings.
        (path,) = (data_dir / "embeddings").rglob("*.npy")
        self._rows: Vectors = np.load(path)
        assert len(self._rows) == len(self._names)
        model = SentenceTransformer(demo_environment()["MODEL_ID"], device="cpu")
        count = range(WARM + fresh)
        self._states = [f"x y : Nat\nh : {self._term()} = {self._term()}\n⊢ {self._term()} = {i}" for i in count]
        self._decls = [f"theorem mine{i} (a : Nat) : {self._term()} = {self._term()}" for i in count]
        self._vectors = _embedded(model, self._states) | _embedded(model, self._decls)
        self._asked = 0

    @property
    def forgettable(self) -> list[str]:
        """Digests of the texts that `fresh` and `new` questions need."""
        return [text_digest(text) for text in (*self._states[WARM:], *self._decls[WARM:])]

    @property
    def warm(self) -> dict[str, Vectors]:
        """Embeddings, by digest, of the texts that `warm` questions need."""
        return {text_digest(text): self._vectors[text] for text in (*self._states[:WARM], *self._decls[:WARM])}

    def next(self) -> Question:
        """One more question of the mix."""
        self._asked += 1
        turn = self._asked // 5
        fresh = len(self._states) - WARM
        warm_state, fresh_state = self._states[turn % WARM], self._states[WARM + self._asked % fresh]
        first = turn % (WARM - 1)
        warm_decls = self._decls[first : first + 2]
        match self._asked % 5:
            case 0 | 1:
                return self._question("warm", warm_state, warm_decls[: turn % 3], self._filter(), 16)
            case 2 | 3:
                return self._question("fresh", fresh_state, [], self._filter(), 16)
            case _:
                first = WARM + 2 * turn % fresh
                return self._question("new", warm_state, warm_decls + self._decls[first : first + 2], {}, 32)

    def _question(
        self, kind: str, state: str, decls: Sequence[str], lists: dict[str, list[str]], k: int
    ) -> Question:  # fmt: skip
        row = self._vectors[state]
        scores = dict(zip(self._names, (self._rows @ row).tolist(), strict=True))
        if lists:
            modules, local = set(lists["imported_modules"]), set(lists["local_premises"])
            scores = {n: s for n, s in scores.items() if n in local or self._modules[n] in modules}
        new = [{"name": f"new{i}", "decl": decl} for i, decl in enumerate(decls)]
        scores |= {f"new{i}": float(self._vectors[decl] @ row) for i, decl in enumerate(decls)}
        return Question(kind, {"state": state, "k": k, "new_premises": new, **lists}, scores)

    def _filter(self) -> dict[str, list[str]]:
        """Every third question names what is accessible."""
        if self._random.random() > 1 / 3:
            return {}
        modules = self._random.sample(sorted(set(self._modules.values())), 4)
        return {"imported_modules": modules, "local_premises": self._random.sample(self._names, 20)}

    def _term(self) -> str:
        parts = [self._random.choice(("x", "y", "Nat.succ x", "xs.length", "p y", "0")) for _ in range(3)]
        return self._random.choice((" + ", " * ", " - ", " ∣ ", " ≤ ", " ∧ ")).join(parts)


def _premises() -> dict[str, str]:
    """Module by name of every premise of the demo corpus, in the order of its rows."""
    corpus = read_corpus(read_archive(DEMO_DATA / "premises.tar.gz"))
    spans = zip(corpus.module_names, corpus.module_start, corpus.module_stop, strict=True)
    module = {name: module for module, start, stop in spans for name in corpus.names[start:stop]}
    return {name: module[name] for name in corpus.names}


def _embedded(model: SentenceTransformer, texts: list[str]) -> dict[str, Vectors]:
    rows: Vectors = model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    return dict(zip(texts, rows, strict=True))
