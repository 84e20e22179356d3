"""`premise-server cache`, run as a person runs it, against a live system."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.commands.cache.entry import belongs_to, of_model
from api.commands.cache.flush import flush, to_flush
from api.commands.cache.inventory import SAMPLED
from api.commands.cache.texts import read_texts
from api.commands.cache.warm import window
from shared.errors import PremiseServerError
from shared.model.text import text_digest
from shared.progress import Pace, duration
from shared.redis import keys as redis_keys
from shared.redis.client import connect, disconnect
from tests.support.servers import RedisServer, Stack, redis_server, role_env, wait_for

SCRIPT = str(Path(sys.executable).with_name("premise-server"))
GOAL = "p q : Prop\nh : p ∧ q\n⊢ q ∧ p"
NOWHERE = "redis://127.0.0.1:1/0"


def cache(
    arguments: list[str], env: Mapping[str, str], directory: Path, given: str | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """A command that ends with that status and never with a traceback."""
    finished = subprocess.run(
        [SCRIPT, "cache", *arguments],
        env=dict(env),
        cwd=directory,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in finished.stderr + finished.stdout
    assert finished.returncode == status, finished.stderr + finished.stdout
    return finished


def model_of(stack: Stack) -> str:
    return str(httpx.get(f"{stack.base_url}/version", trust_env=False).json()["model"])


def rank(stack: Stack, **body: Any) -> list[dict[str, Any]]:
    answer = httpx.post(f"{stack.base_url}/retrieve", json={"k": 5, **body}, timeout=60, trust_env=False)
    hits: list[dict[str, Any]] = answer.raise_for_status().json()
    return hits


@pytest.fixture
def redis_only(tmp_path: Path) -> Iterator[tuple[RedisServer, dict[str, str]]]:
    """A cache without anything else, and the environment to find it in."""
    with redis_server(tmp_path, cache=True) as server:
        yield server, role_env(tmp_path, REDIS_URL=NOWHERE, CACHE_REDIS_URL=server.url)


# -- help and what goes wrong


def test_help_is_that_of_the_program_behind_it(tmp_path: Path) -> None:
    listed = cache(["--help"], os.environ, tmp_path).stdout
    for name in ("stats", "find", "show", "warm", "flush"):
        assert re.search(rf"^│ {name} ", listed, re.MULTILINE)
    assert "Usage: premise-server cache flush" in cache(["flush", "--help"], os.environ, tmp_path).stdout


def test_a_redis_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    error = cache(["stats"], role_env(tmp_path, CACHE_REDIS_URL=NOWHERE), tmp_path, status=1).stderr
    assert error.startswith("premise-server cache: Redis at redis://127.0.0.1:1/0 (CACHE_REDIS_URL) cannot be used")
    assert len(error.splitlines()) == 1


# -- find, show, stats


def test_a_goal_that_was_asked_is_found_and_shown_with_what_the_api_answers(served: Stack, tmp_path: Path) -> None:
    hits = rank(served, state=GOAL)
    key = redis_keys.embedding(model_of(served), text_digest(GOAL))

    said = cache(["find", GOAL], served.env, tmp_path).stdout
    assert f"digest   {text_digest(GOAL)}\n" in said
    assert f"key      {key}\n" in said
    assert "384 dimensions, norm 1.000000" in said
    assert (
        cache(["find", "-"], served.env, tmp_path, given=GOAL + "\n").stdout.splitlines()[:2] == said.splitlines()[:2]
    )

    shown = cache(["show", key], served.env, tmp_path).stdout
    assert f"model    {model_of(served)}\n" in shown
    nearest = [(float(score), name) for score, name in re.findall(r"^(\d\.\d{4}) {3}(\S+)$", shown, re.MULTILINE)]
    assert [name for _, name in nearest] == [hit["name"] for hit in hits]
    assert [score for score, _ in nearest] == pytest.approx([hit["score"] for hit in hits], abs=1e-4)
    with served.cache.client() as client:
        value: Any = client.get(key)
    assert f"starts   {np.frombuffer(value, '<f4')[0]:.6g}, " in shown


def test_a_text_that_is_not_cached_is_said_so(served: Stack, tmp_path: Path) -> None:
    said = cache(["find", f"{GOAL} "], served.env, tmp_path).stdout
    assert text_digest(f"{GOAL} ") in said
    assert "This text is not cached." in said
    assert "key " not in said
    missing = redis_keys.embedding(model_of(served), text_digest(f"{GOAL} "))
    error = cache(["show", missing], served.env, tmp_path, status=1).stderr
    assert error == f"premise-server cache: Nothing is cached under {missing}.\n"


def test_show_without_an_index_or_of_another_model_still_shows_the_vector(
    redis_only: tuple[RedisServer, dict[str, str]], tmp_path: Path
) -> None:
    server, env = redis_only
    stranger = redis_keys.embedding("stranger@1:float16", text_digest("a"))
    with server.client() as client:
        client.set(stranger, np.array([0.6, 0.8], "<f4").tobytes())
        client.set("emb:stranger@1:float16:b", b"odd")
    shown = cache(["show", stranger], env, tmp_path).stdout
    assert "2 dimensions, norm 1.000000, no TTL" in shown
    assert "Nearest premises: the settings are for all-MiniLM-L6-v2@" in shown
    assert "no row of float32" in cache(["show", "stranger@1:float16:b"], env, tmp_path).stdout
    away = {**env, "MODEL_ID": "lab/nowhere", "HF_ENDPOINT": "http://127.0.0.1:1"}
    assert (
        "Nearest premises: lab/nowhere at 'v4.33.0' is not in DATA_DIR yet."
        in cache(["show", stranger], away, tmp_path).stdout
    )


def test_stats_count_what_is_there(redis_only: tuple[RedisServer, dict[str, str]], tmp_path: Path) -> None:
    server, env = redis_only
    many = 5 * SAMPLED
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for i in range(many):
            pipe.set(redis_keys.embedding("many@1:float32", f"{i:064x}"), bytes(4 * 768), px=100_000)
        pipe.set(redis_keys.embedding("one@2:bfloat16", f"{0:064x}"), bytes(4 * 3))
        pipe.set("other", b"somebody else's")
        pipe.get("other")
        pipe.get("nothing")
        pipe.execute()
        true_size: Any = client.memory_usage(redis_keys.embedding("many@1:float32", f"{7:064x}"))
    stats = json.loads(cache(["stats", "--json"], env, tmp_path).stdout)
    many_stats, one = stats["models"]
    assert (many_stats["fingerprint"], many_stats["keys"], many_stats["dimension"]) == ("many@1:float32", many, 768)
    assert many_stats["bytes_per_key"] == pytest.approx(true_size, abs=16)
    assert many_stats["bytes_total"] == many * many_stats["bytes_per_key"]
    assert all(60 < ttl <= 100 for ttl in many_stats["ttl_s"])
    assert (one["fingerprint"], one["keys"], one["dimension"], one["ttl_s"]) == ("one@2:bfloat16", 1, 3, [])
    assert stats["instance"]["keys"] == many + 2
    assert (stats["instance"]["hits"], stats["instance"]["misses"]) == (1, 1)
    assert (stats["instance"]["max_bytes"], stats["instance"]["policy"]) == (64 << 20, "allkeys-lfu")
    lines = cache(["stats"], env, tmp_path).stdout.splitlines()
    assert lines[1].startswith("many@1:float32  1,000  768  ")
    assert any(re.fullmatch(r"hit rate  [\d.]+ % \(\d+ hits, 1 misses since it started\)", line) for line in lines)


# -- warm


def warmed(texts: Path, served: Stack, tmp_path: Path, *options: str, status: int = 0) -> list[int]:
    """Counts of texts that were cached, embedded, failed."""
    printed = cache(["warm", str(texts), *options], served.env, tmp_path, status=status).stdout
    counts = re.fullmatch(r"([\d,]+) were cached already, ([\d,]+) were embedded, (\w+) failed\.\n", printed)
    assert counts, printed
    return [0 if count == "none" else int(count.replace(",", "")) for count in counts.groups()]


def test_warm_embeds_what_is_missing_as_a_request_would(served: Stack, tmp_path: Path) -> None:
    row = {"name": "w.one", "kind": "theorem", "args": ["(n : Nat)"], "type": "n = n", "doc": "Itself.", "line": 1}
    row |= {"column": 0, "isProp": True, "isHumanTheorem": True}
    texts = ["/-- Itself. -/\ntheorem w.one (n : Nat) : n = n", "def w.two : Nat", "theorem w.three :\n  True"]
    lines = [
        json.dumps(row),
        json.dumps({"name": "w.two", "decl": texts[1]}),
        json.dumps(texts[2]),
        "",
        json.dumps(row),
    ]
    file = tmp_path / "declarations.jsonl"
    file.write_text("\n".join(lines))
    assert warmed(file, served, tmp_path) == [0, 3, 0]
    assert warmed(file, served, tmp_path) == [3, 0, 0]
    with served.cache.client() as client:
        ttls: list[Any] = [client.ttl(redis_keys.embedding(model_of(served), text_digest(t))) for t in texts]
    assert all(86_000 < ttl <= 86_400 for ttl in ttls)

    plain = tmp_path / "goals.txt"
    plain.write_text("⊢ w.goal = 1\r\n" + json.dumps("w : Nat\n⊢ w = w") + "\n")
    assert warmed(plain, served, tmp_path, "--states") == [0, 2, 0]
    for state in ("⊢ w.goal = 1", "w : Nat\n⊢ w = w"):
        with served.cache.client() as client:
            assert client.exists(redis_keys.embedding(model_of(served), text_digest(state))) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'"fine"\nnot json', "a.jsonl line 2: JSON is malformed"),
        ("a.jsonl", b"7", "a.jsonl line 1: neither a string nor an object."),
        ("a.txt", b'{"kind": "theorem"}', "a.txt line 1: Object missing required field `name`."),
        ("a.txt", b"\xff\xfe", "a.txt line 1: 'utf-8' codec"),
    ],
)
def test_a_line_that_is_no_text_is_named(name: str, content: bytes, says: str) -> None:
    with pytest.raises(PremiseServerError) as raised:
        list(read_texts(BytesIO(content), name, states=False))
    assert str(raised.value).startswith(says)
    assert "\n" not in str(raised.value)


def test_warm_waits_for_workers_and_stops_on_ctrl_c_with_its_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("theorem alone : True\n")
    with redis_server(tmp_path) as server:
        env = role_env(tmp_path, REDIS_URL=server.url, CACHE_REDIS_URL="")
        log = tmp_path / "warm.log"
        with (
            log.open("wb") as err,
            subprocess.Popen(
                [SCRIPT, "cache", "warm", "a.txt"], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=err
            ) as process,
        ):
            wait_for(lambda: "waiting: No worker is alive" in log.read_text(), "the reason", 40)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=20)
        assert printed == b"0 were cached already, 0 were embedded, none failed.\n"
        assert process.returncode != 0
        assert "Traceback" not in log.read_text()


def test_the_queue_keeps_room_for_requests() -> None:
    assert window(8_192) == 512
    assert window(1_000) == 250
    assert window(1) == 1


def test_lines_of_a_file_become_texts() -> None:
    content = '{α : Type}\n\n{"state": "⊢ a"}\n'.encode()
    assert list(read_texts(BytesIO(content), "goals.txt", states=True)) == ["{α : Type}", "⊢ a"]
    with pytest.raises(PremiseServerError, match=r"goals\.txt line 3"):
        list(read_texts(BytesIO(content), "goals.txt", states=False))


# -- flush


def plant(server: RedisServer, fingerprints: dict[str, int]) -> None:
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for fingerprint, count in fingerprints.items():
            for i in range(count):
                pipe.set(redis_keys.embedding(fingerprint, f"{i:064x}"), b"x")
        pipe.set("queue:a@1:float32:interactive", b"a job")
        pipe.execute()


def left(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        keys = [key.decode() for key in client.scan_iter(count=1000)]
    models = {key.rpartition(":")[0] for key in keys}
    return {model: sum(key.rpartition(":")[0] == model for key in keys) for model in models}


ALL = {"a@1:float32": 1_500, "a@2:float32": 3, "a@2:float16": 2, "a-b@1:float32": 4, "[a]*@1:float32": 5}


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("a", {"a@1:float32", "a@2:float32", "a@2:float16"}),
        ("a@2", {"a@2:float32", "a@2:float16"}),
        ("a@1:float32", {"a@1:float32"}),
        ("[a]*", {"[a]*@1:float32"}),
        ("*", set()),
    ],
)
def test_flush_removes_one_model_and_nothing_else(name: str, gone: set[str], redis_instance: RedisServer) -> None:
    plant(redis_instance, ALL)

    async def flushed() -> tuple[set[str], int]:
        redis = connect(redis_instance.url)
        try:
            models = await to_flush(redis, name, lambda _: None)
            return {model.fingerprint for model in models}, await flush(redis, name, lambda _: None)
        finally:
            await disconnect(redis)

    assert asyncio.run(flushed()) == (gone, sum(ALL[model] for model in gone))
    kept = {f"emb:{model}": count for model, count in ALL.items() if model not in gone}
    assert left(redis_instance) == {**kept, "queue:a@1:float32": 1}


def test_flush_all_leaves_what_is_no_embedding(redis_only: tuple[RedisServer, dict[str, str]], tmp_path: Path) -> None:
    server, env = redis_only
    plant(server, ALL)
    cache(["flush", "--all", "--yes"], env, tmp_path)
    assert left(server) == {"queue:a@1:float32": 1}


def test_flush_says_what_it_lacks(redis_only: tuple[RedisServer, dict[str, str]], tmp_path: Path) -> None:
    server, env = redis_only
    plant(server, {"a@1:float32": 3})
    assert "without a terminal to ask on, say --yes" in cache(["flush", "--model", "a"], env, tmp_path, status=1).stderr
    assert "Say which embeddings: --model NAME, or --all." in cache(["flush"], env, tmp_path, status=1).stderr
    assert left(server)["emb:a@1:float32"] == 3


@pytest.mark.parametrize(("answer", "removes"), [(b"n\n", False), (b"y\n", True)])
def test_flush_asks_on_a_terminal(
    answer: bytes, removes: bool, redis_only: tuple[RedisServer, dict[str, str]], tmp_path: Path
) -> None:
    server, env = redis_only
    plant(server, {"a@1:float32": 3})
    ours, theirs = pty.openpty()
    try:
        command = [SCRIPT, "cache", "flush", "--model", "a"]
        with subprocess.Popen(command, env=env, cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE) as process:
            os.write(ours, answer)
            printed, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"3 of a@1:float32" in printed
    assert (b"3 removed" in printed) is removes
    assert ("emb:a@1:float32" in left(server)) is not removes


@pytest.mark.parametrize("name", ["m", "m@1", "m@1:float32"])
def test_a_model_is_named_whole(name: str) -> None:
    assert belongs_to("m@1:float32", name)
    assert not belongs_to("mm@1:float32", name)
    assert not belongs_to("m@12:float32", name) or name == "m"
    assert of_model(name).startswith(f"emb:{name}")


# -- progress


def test_progress_says_how_far_and_how_fast() -> None:
    pace = Pace(4_000, every_s=0)
    said = pace.advance(1_000)
    assert said is not None
    assert re.fullmatch(r"1,000 of 4,000 \(25 %\), [\d,]+ a second", said)
    assert Pace(10, every_s=60).advance(5) is None


@pytest.mark.parametrize(("seconds", "says"), [(1, "1 s"), (119, "119 s"), (120, "2 min"), (86_400, "24 h")])
def test_a_duration_is_in_a_unit_that_says_something(seconds: float, says: str) -> None:
    assert duration(seconds) == says
