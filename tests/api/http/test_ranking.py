"""Scores, order, new premises and the length of an answer, asked of the running system."""

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from api.corpus.reader import ReadCorpus
from shared.settings import Settings
from tests.support.lean_client import ALL, GOAL, LEAN_AGENT, names, new_premise, ranked, retrieve
from tests.support.servers import Stack

MAX_NEW_PREMISES = 2048
LEAN_LIMIT = 60 * 1024
TOLERANCE = 1e-5
STATES = [GOAL, "", "p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "x : Nat\n" * 300 + "⊢ x = x"]


@pytest.fixture(scope="module")
def truth(demo_settings: Settings) -> SentenceTransformer:
    return SentenceTransformer(demo_settings.model_id, device="cpu")


def true_scores(truth: SentenceTransformer, state: str, texts: list[str]) -> NDArray[np.float32]:
    rows = truth.encode([state, *texts], normalize_embeddings=True)
    scores: NDArray[np.float32] = rows[1:] @ rows[0]
    return scores


@pytest.mark.parametrize("state", STATES)
def test_scores_are_inner_products_of_sentence_transformers_embeddings(
    client: httpx.Client, truth: SentenceTransformer, demo_corpus: ReadCorpus, state: str
) -> None:
    new = [new_premise(f"new{i}", decl) for i, decl in enumerate(["", "def f : Nat", GOAL, "∀ ε > 0, ε = ε"])]
    scored = dict(ranked(client, state=state, imported_modules=["Init.Data.Prod"], new_premises=new))
    texts = {name: demo_corpus.texts[demo_corpus.premise_ids[name]] for name in scored if not name.startswith("new")}
    texts |= {premise["name"]: premise["decl"] for premise in new}
    assert set(scored) == set(texts)
    expected = true_scores(truth, state, list(texts.values()))
    assert np.abs(expected - [scored[name] for name in texts]).max() <= TOLERANCE


def test_the_whole_order_is_score_then_indexed_before_new_then_position(
    client: httpx.Client, demo_corpus: ReadCorpus
) -> None:
    texts = dict(zip(demo_corpus.names, demo_corpus.texts, strict=True))
    copied = ["Nat.add_comm", "Nat.add_assoc", "Nat.add_comm", "Prod.swap", "Prod.swap", "Prod.swap"]
    new = [new_premise(f"copy{i}", texts[name]) for i, name in enumerate(copied)]
    place = {name: i for i, name in enumerate([*demo_corpus.names, *(premise["name"] for premise in new)])}
    hits = ranked(client, new_premises=new)
    assert len(hits) == len(place)
    assert hits == sorted(hits, key=lambda hit: (-hit[1], place[hit[0]]))


def test_a_new_premise_with_the_text_of_an_indexed_one_ties_with_it(
    client: httpx.Client, demo_corpus: ReadCorpus
) -> None:
    for name in names(client, k=40):
        text = demo_corpus.texts[demo_corpus.premise_ids[name]]
        hits = ranked(client, local_premises=[name], new_premises=[new_premise("a copy", text)])
        assert [hit[0] for hit in hits] == [name, "a copy"]
        assert hits[0][1] == hits[1][1]


@pytest.mark.parametrize("k", [1, 2, 17, 100, 815])
def test_a_smaller_k_answers_the_start_of_the_whole_order(client: httpx.Client, k: int) -> None:
    assert ranked(client, k=k) == ranked(client)[:k]


def test_the_same_request_gets_the_same_bytes_cold_and_warm_and_at_once(client: httpx.Client) -> None:
    new = [new_premise(f"new{i}", f"theorem cold{i} : {i} < {i + 1}") for i in range(10)]

    def ask(_: int) -> bytes:
        return retrieve(client, state="⊢ asked here first", new_premises=new).content

    with ThreadPoolExecutor(8) as threads:
        answers = {*threads.map(ask, range(16)), ask(16)}
    assert len(answers) == 1


def test_the_body_is_compact_and_scores_have_the_fewest_digits(client: httpx.Client) -> None:
    body = retrieve(client).text
    entry = r'\{"name":"[^"]+","score":(-?[0-9.e-]+)\}'
    assert re.fullmatch(rf"\[{entry}(,{entry})*\]", body)
    scores = re.findall(entry, body)
    assert all(Decimal(score) == Decimal(str(np.float32(score))) for score in scores)


def test_new_premises_are_ranked_among_the_indexed(client: httpx.Client) -> None:
    assert names(client, new_premises=[new_premise("mine", GOAL)]) == ["mine", *names(client)]


@pytest.mark.parametrize("lists", [{}, {"imported_modules": []}, {"imported_modules": ["Init.Data.Prod"]}])
def test_a_new_premise_overrides_an_indexed_one_of_its_name(client: httpx.Client, lists: dict[str, Any]) -> None:
    hits = ranked(client, new_premises=[new_premise("Nat.add_comm", GOAL)], **lists)
    assert [name for name, _ in hits].count("Nat.add_comm") == 1
    assert hits[0][0] == "Nat.add_comm"
    assert hits[0][1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["rfl", "Lean.Meta.whnfD", "Qq.x", "Lean", "", "«a b»", "Classical.choose"])
def test_new_premises_skip_every_filter(client: httpx.Client, name: str) -> None:
    new = [new_premise(name, "def x : Lean.Expr")]
    assert names(client, imported_modules=[], caller_in_module_system=True, new_premises=new) == [name]


def test_duplicates_among_new_premises_are_all_ranked(client: httpx.Client) -> None:
    new = [new_premise("twin", GOAL), new_premise("twin"), new_premise("twin", GOAL)]
    (one, first), (two, second), (three, third) = ranked(client, imported_modules=[], new_premises=new)
    assert one == two == three == "twin"
    assert first == second > third


def test_of_too_many_new_premises_the_last_are_kept_and_answer_and_log_say_so(
    client: httpx.Client, served: Stack
) -> None:
    new = [new_premise(f"new{i}", GOAL if i < 5 else "def helper : Nat") for i in range(MAX_NEW_PREMISES + 2)]
    answer = retrieve(client, k=5, imported_modules=[], new_premises=new)
    assert answer.headers["X-New-Premises-Dropped"] == "2"
    assert [hit["name"] for hit in answer.json()] == ["new2", "new3", "new4", "new5", "new6"]
    assert '"dropped": 2' in served.log.read_text()


def test_a_dropped_new_premise_overrides_nothing(client: httpx.Client) -> None:
    new = [new_premise("Nat.add_comm"), *(new_premise(f"new{i}") for i in range(MAX_NEW_PREMISES))]
    assert names(client, k=1, local_premises=["Nat.add_comm"], new_premises=new) == ["Nat.add_comm"]


def test_no_new_premise_is_dropped_up_to_the_limit(client: httpx.Client) -> None:
    new = [new_premise(f"new{i}") for i in range(MAX_NEW_PREMISES)]
    assert "X-New-Premises-Dropped" not in retrieve(client, new_premises=new).headers


def test_a_lean_client_gets_as_many_of_the_best_as_fit_its_pipe(client: httpx.Client) -> None:
    new = [new_premise(f"{i}." + "λ" * 100) for i in range(ALL)]
    whole = retrieve(client, imported_modules=[], new_premises=new)
    assert "X-Premises-Truncated" not in whole.headers
    assert len(whole.json()) == ALL
    assert len(whole.content) > 64 * 1024

    cut = retrieve(client, agent=LEAN_AGENT, imported_modules=[], new_premises=new)
    left_out = int(cut.headers["X-Premises-Truncated"])
    assert cut.json() == whole.json()[: ALL - left_out]
    assert left_out > 0
    longest = max(len(entry) for entry in whole.content.split(b"},{")) + 3
    assert LEAN_LIMIT - longest <= len(cut.content) <= LEAN_LIMIT


def test_a_short_answer_to_a_lean_client_is_whole(client: httpx.Client) -> None:
    answer = retrieve(client, agent=LEAN_AGENT)
    assert "X-Premises-Truncated" not in answer.headers
    assert answer.content == retrieve(client).content
