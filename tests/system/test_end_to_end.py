"""A goal, asked of the whole system."""

import httpx

from tests.support.servers import Stack

GOAL = "a b : Nat\n⊢ a + b = b + a"


def test_commutativity_is_among_the_first_five(client: httpx.Client) -> None:
    answer = client.post("/retrieve", json={"state": GOAL, "k": 5})
    assert answer.status_code == 200
    assert "Nat.add_comm" in [hit["name"] for hit in answer.json()]


def test_cache_keys_are_readable(client: httpx.Client, served: Stack) -> None:
    client.post("/retrieve", json={"state": GOAL, "k": 1})
    with served.cache.client() as cache:
        keys = [key.decode() for key in cache.scan_iter("emb:*")]
        assert keys
        for key in keys:
            prefix, fingerprint, dtype, digest = key.split(":")
            assert prefix == "emb"
            assert fingerprint.startswith("all-MiniLM-L6-v2@")
            assert dtype == "float32"
            assert len(bytes.fromhex(digest)) == 32
        assert len(cache.get(keys[0]) or b"") == 4 * 384
