"""Requests as Lean clients send them, and what the contract says of every answer."""

from typing import Any

import httpx

GOAL = "a b : Nat\n⊢ a + b = b + a"
LEAN_AGENT = "LeanProver (https://leanprover-community.github.io/)"
ALL = 1024
"""More than the demo corpus holds, and as much as may be asked for."""

Hit = tuple[str, float]


def retrieve(client: httpx.Client, *, agent: str = "tests", **fields: Any) -> httpx.Response:
    """A successful answer; `fields` are the body's, on top of the least one."""
    body = {"state": GOAL, "k": ALL, **fields}
    answer = client.post("/retrieve", json=body, headers={"User-Agent": agent})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer


def ranked(client: httpx.Client, **fields: Any) -> list[Hit]:
    hits = retrieve(client, **fields).json()
    assert all(list(hit) == ["name", "score"] for hit in hits)
    return [(hit["name"], hit["score"]) for hit in hits]


def names(client: httpx.Client, **fields: Any) -> list[str]:
    """Best first."""
    return [name for name, _ in ranked(client, **fields)]


def new_premise(name: str, decl: str = "def helper : Nat") -> dict[str, str]:
    return {"name": name, "decl": decl}


def error_sentence(answer: httpx.Response, status: int) -> str:
    """The sentence of an error answer, which has the contract's form."""
    assert answer.status_code == status, answer.text[:200]
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) < 2048
    assert list(answer.json()) == ["detail"]
    sentence: str = answer.json()["detail"]
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence
