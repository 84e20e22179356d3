"""`POST /declarations`: what stands behind names, read from a file that every process maps."""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.corpus import segment
from api.corpus.corpus import Corpus, SegmentCorpus
from api.corpus.declarations_file import Declarations, DeclarationsFile, save_declarations
from api.corpus.reader import ReadCorpus, read_corpus
from api.corpus.segment import build, is_whole, open_segment, segment_directory
from shared.commands.redis_server import free_port
from tests.support.archives import Line, data_files, declaration, jsonl
from tests.support.demo_data import demo_declarations
from tests.support.lean_client import ALL, error_sentence
from tests.support.servers import Stack, running, wait_until_ready

FIELDS = ("name", "kind", "module", "args", "type", "doc")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
# Names that begin one another: files are sorted with their ending, modules without.
MODULES = st.sampled_from(["A", "A.B", "A-B", "A0", "B", "Ω"])
LINES = st.builds(
    declaration,
    name=st.one_of(TEXT, st.sampled_from(["twice", "Lean.no", "no"])),
    kind=st.sampled_from(["theorem", "def"]),
    args=st.lists(TEXT, max_size=3),
    type=TEXT,
    doc=st.none() | TEXT,
)


def plain(modules: Mapping[str, list[Line]], corpus: ReadCorpus) -> dict[str, dict[str, object]]:
    """The first declaration of every premise's name, files in the order of their names."""
    found: dict[str, dict[str, object]] = {}
    for module in sorted(modules, key=lambda module: f"{module}.jsonl"):
        for line in modules[module]:
            name = str(line["name"])
            kept = not str(line["type"]).startswith("Lean.") and name in corpus.premise_ids
            if kept and name not in found:
                found[name] = {**{field: line.get(field) for field in FIELDS}, "module": module}
    return found


@settings(max_examples=150, deadline=None)
@given(
    layers=st.lists(
        st.dictionaries(MODULES, st.lists(LINES, max_size=4), min_size=1),
        min_size=1,
        max_size=3,
    ),
    twice=st.sets(MODULES),
)
def test_every_premise_is_read_back_as_the_last_data_that_has_it(
    layers: list[dict[str, list[Line]]], twice: set[str]
) -> None:
    expected: dict[str, dict[str, object]] = {}
    read, files = [], []
    for number, modules in enumerate(layers):
        modules["Always"] = [declaration("always", doc=f"in layer {number}")]
        data = data_files(modules, blacklist=["no"])
        data["Modules.jsonl"] += jsonl({"name": module} for module in sorted(twice))
        read.append(read_corpus(data))
        expected |= plain(modules, read[-1])
        with TemporaryDirectory() as directory:
            save_declarations(Path(directory), read[-1])
            files.append(DeclarationsFile(Path(directory)))
    corpus = Corpus.of([SegmentCorpus.of(one) for one in read])
    declarations = Declarations(files, corpus.ranges, corpus.premise_ids)
    names = [name for one in read for name in one.names]
    assert msgspec.json.decode(declarations.answer(names)) == [expected[name] for name in names]
    assert [msgspec.json.decode(declarations.entry(i)) for i in corpus.premise_ids.values()] == [
        expected[name] for name in corpus.premise_ids
    ]
    assert len(corpus) == len(expected)
    for file in files:
        file.close()


def ask(client: httpx.Client, names: list[str]) -> list[dict[str, Any] | None]:
    answer = client.post("/declarations", json={"names": names})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    declared: list[dict[str, Any] | None] = answer.json()
    return declared


def test_the_server_answers_in_the_order_asked_with_null_for_a_name_it_does_not_have(
    client: httpx.Client, demo_corpus: ReadCorpus
) -> None:
    names = [*demo_corpus.names, "Lean.Name", "no such name", ""]
    random.Random(1).shuffle(names)
    expected = demo_declarations()
    assert ask(client, names) == [expected[n] if n in demo_corpus.premise_ids else None for n in names]
    assert ask(client, ["Nat.add_comm"] * 3) == [expected["Nat.add_comm"]] * 3
    assert ask(client, []) == []


def test_what_retrieve_answers_can_be_looked_up(client: httpx.Client) -> None:
    hits = client.post("/retrieve", json={"state": "⊢ True", "k": ALL}).json()
    declared = ask(client, [hit["name"] for hit in hits])
    assert [d and d["name"] for d in declared] == [hit["name"] for hit in hits]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"names":"x"}', b'{"names":[1]}', b'{"names":null}', b'{"names":']
)
def test_a_body_of_another_form_is_refused(client: httpx.Client, body: bytes) -> None:
    error_sentence(client.post("/declarations", content=body), 422)


def test_as_many_names_as_premises_in_an_answer_and_no_more(client: httpx.Client) -> None:
    assert ask(client, ["x"] * ALL) == [None] * ALL
    assert str(ALL) in error_sentence(client.post("/declarations", json={"names": ["x"] * (ALL + 1)}), 422)


def test_a_build_of_another_format_is_not_read(
    tmp_path: Path, demo_corpus: ReadCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_from = {"archive": "a"}
    rows = np.eye(len(demo_corpus), 8, dtype=np.float32) + 0.1
    directory = segment_directory(tmp_path, made_from)
    build(directory, made_from, demo_corpus, rows, {0: "x"})
    assert is_whole(directory, made_from)
    opened = open_segment(directory)
    assert msgspec.json.decode(opened.declarations.entry(0)) == demo_declarations()[demo_corpus.names[0]]
    opened.close()
    monkeypatch.setattr(segment, "FORMAT", segment.FORMAT - 1)
    older = segment_directory(tmp_path, made_from)
    assert older != directory
    assert not is_whole(older, made_from)


def test_a_start_from_an_existing_build_serves_them(served: Stack, client: httpx.Client, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    with running([sys.executable, "-P", "-m", "api"], {**served.env, "PORT": str(port)}, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        assert "building the index" not in log.read_text()
        body = {"names": ["Nat.add_comm", "nope"]}
        assert httpx.post(f"{url}/declarations", json=body).json() == ask(client, body["names"])
        mapped = {Path(area.path).name for area in psutil.Process(process.pid).memory_maps()}
        assert {"declarations.jsonl", "declarations.npy"} <= mapped
