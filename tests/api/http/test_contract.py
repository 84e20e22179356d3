"""The contract of the four routes, asked of the running system: shapes, orders, and how a body's fields are read."""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.support.demo_data import demo_modules, demo_rows
from tests.support.lean_client import GOAL, error_sentence, names, new_premise, ranked, retrieve

MAX_K = 1024
PREMISES = 816
"""In the demo corpus, after filtering."""


def test_retrieve_answers_names_and_scores_best_first(client: httpx.Client) -> None:
    hits = ranked(client, k=20)
    assert len(hits) == 20
    assert all(isinstance(name, str) and isinstance(score, float) for name, score in hits)
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)


def test_max_new_premises_is_an_integer(client: httpx.Client) -> None:
    assert client.get("/max-new-premises").content == b"2048"


def test_indexed_premises_are_all_names_in_data_order_with_duplicates(client: httpx.Client) -> None:
    indexed = client.get("/indexed-premises").json()
    assert indexed == [row.name for row in demo_rows()]
    assert Counter(indexed)["Nat.sub_self"] == 2


def test_indexed_premises_are_those_before_filtering(client: httpx.Client) -> None:
    indexed, premises = client.get("/indexed-premises").json(), names(client)
    assert len(premises) == PREMISES
    assert {"rfl", "Lean.Meta.whnfD"} <= set(indexed) - set(premises)


def test_indexed_modules_are_those_of_the_data_sorted(client: httpx.Client) -> None:
    modules = client.get("/indexed-modules").json()
    assert modules == demo_modules()
    assert "Lean.Meta.Basic" in modules, "although none of its declarations is a premise"


@pytest.mark.parametrize("route", ["/max-new-premises", "/indexed-premises", "/indexed-modules"])
def test_what_is_got_is_json(client: httpx.Client, route: str) -> None:
    assert client.get(route).headers["content-type"] == "application/json"


@pytest.mark.parametrize("k", [0, -1, -(10**30), False, "0", "-7", 0.0])
def test_a_k_up_to_zero_answers_an_empty_array(client: httpx.Client, k: Any) -> None:
    assert retrieve(client, k=k).content == b"[]"


@pytest.mark.parametrize(("k", "whole"), [("7", 7), (7.0, 7), ("7.0", 7), (" 7 ", 7), ("+7", 7), (True, 1)])
def test_what_stands_for_a_whole_k_is_read_as_one(client: httpx.Client, k: Any, whole: int) -> None:
    answer = retrieve(client, k=k)
    assert len(answer.json()) == whole
    assert answer.content == retrieve(client, k=whole).content


@pytest.mark.parametrize("k", [7.5, "7.5", "seven", "", None, [7], {"k": 7}])
def test_what_is_no_whole_k_is_refused(client: httpx.Client, k: Any) -> None:
    assert "$.k" in error_sentence(client.post("/retrieve", json={"state": GOAL, "k": k}), 422)


@pytest.mark.parametrize("k", [MAX_K + 1, 10**30, 1e300])
def test_a_k_above_the_limit_is_clamped(client: httpx.Client, k: Any) -> None:
    many = [new_premise(f"new{i}") for i in range(MAX_K)]
    clamped = retrieve(client, k=k, new_premises=many)
    assert len(clamped.json()) == MAX_K
    assert clamped.content == retrieve(client, k=MAX_K, new_premises=many).content


def test_fewer_than_k_are_answered_if_there_are_no_more(client: httpx.Client) -> None:
    assert len(names(client, k=100, local_premises=["Nat.add_comm", "Nat.add"])) == 2


@pytest.mark.parametrize("missing", ["state", "k"])
def test_a_missing_required_field_is_named(client: httpx.Client, missing: str) -> None:
    body = {name: value for name, value in {"state": GOAL, "k": 3}.items() if name != missing}
    assert missing in error_sentence(client.post("/retrieve", json=body), 422)


@pytest.mark.parametrize("state", [None, 7, ["goal"]])
def test_a_state_that_is_no_string_is_refused(client: httpx.Client, state: Any) -> None:
    assert "$.state" in error_sentence(client.post("/retrieve", json={"state": state, "k": 3}), 422)


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    extra = retrieve(client, k=5, rerank=True, nested={"a": [1, None, {}]})
    assert extra.content == retrieve(client, k=5).content


def test_unknown_fields_of_a_new_premise_are_ignored(client: httpx.Client) -> None:
    assert names(client, imported_modules=[], new_premises=[{**new_premise("mine"), "module": 3}]) == ["mine"]


def test_null_lists_are_the_same_as_missing_ones(client: httpx.Client) -> None:
    nulls: dict[str, Any] = dict.fromkeys(
        ["imported_modules", "local_premises", "new_premises", "imported_all_modules"]
    )
    assert retrieve(client, **nulls).content == retrieve(client).content


def test_a_client_that_sends_three_fields_is_answered(client: httpx.Client) -> None:
    answer = client.post("/retrieve", json={"state": GOAL, "new_premises": [], "k": 5})
    assert [hit["name"] for hit in answer.json()] == names(client, k=5)


@pytest.mark.parametrize("field", ["imported_modules", "local_premises", "imported_all_modules"])
@pytest.mark.parametrize("entry", [None, 7.5, [1], {"name": "x"}])
def test_an_entry_that_is_no_name_or_position_is_refused(client: httpx.Client, field: str, entry: Any) -> None:
    answer = client.post("/retrieve", json={"state": GOAL, "k": 3, field: ["a", entry]})
    assert field in error_sentence(answer, 422)


@pytest.mark.parametrize(
    "new",
    [
        ["name"],
        [None],
        [{"name": "x"}],
        [{"decl": "x"}],
        [{"name": "x", "decl": None}],
        [{"name": 1, "decl": "x"}],
        {"name": "x", "decl": "x"},
    ],
)
def test_new_premises_that_are_not_name_and_decl_are_refused(client: httpx.Client, new: Any) -> None:
    answer = client.post("/retrieve", json={"state": GOAL, "k": 3, "new_premises": new})
    assert "new_premises" in error_sentence(answer, 422)


@pytest.mark.parametrize("state", ["", " ", "\n\t ", "\u00a0"])
def test_a_blank_state_is_ranked(client: httpx.Client, state: str) -> None:
    assert len(names(client, state=state, k=5)) == 5


@pytest.mark.parametrize("decl", ["", " \n"])
def test_a_blank_decl_is_ranked(client: httpx.Client, decl: str) -> None:
    assert names(client, imported_modules=[], new_premises=[new_premise("blank", decl)]) == ["blank"]
