"""A build is whole or not there, is made once, and serves what the data holds."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from api.corpus.corpus import Corpus
from api.corpus.reader import ReadCorpus
from api.corpus.segment import artifacts_directory, build, is_whole, open_artifacts
from api.search.index import PremiseIndex, Search
from api.search.premise_set import PremiseSet

MADE_FROM = {"archive": "a", "embeddings": "e", "model": "m"}
SAMPLE = {0: "text of 0"}


@pytest.fixture(scope="module")
def rows(demo_corpus: ReadCorpus) -> NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((len(demo_corpus), 32)).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.fixture
def built(tmp_path: Path, demo_corpus: ReadCorpus, rows: NDArray[np.float32]) -> Path:
    directory = artifacts_directory(tmp_path, MADE_FROM)
    build(directory, MADE_FROM, demo_corpus, rows, SAMPLE)
    return directory


def test_what_is_read_back_is_what_was_built(built: Path, demo_corpus: ReadCorpus, rows: NDArray[np.float32]) -> None:
    artifacts = open_artifacts(built)
    corpus, read = artifacts.corpus, Corpus.of(demo_corpus)
    for name in ("revision", "module_names", "wire_names", "names", "module_ids", "premise_ids"):
        assert getattr(corpus, name) == getattr(read, name)
    for name in ("wire_premise", "module_start", "module_stop", "needs_import_all"):
        np.testing.assert_array_equal(getattr(corpus, name), getattr(demo_corpus, name))
    assert artifacts.sample == SAMPLE
    assert json.loads(artifacts.premises_file.plain) == demo_corpus.wire_names
    everything = PremiseSet.of(np.ones(len(rows), np.bool_))
    for state in rows[:5]:
        search = Search(state, everything, 40)
        (mapped,), (fresh,) = (index.search([search]) for index in (artifacts.index, PremiseIndex.of(rows)))
        assert mapped.ids.tolist() == fresh.ids.tolist()
        assert mapped.scores.tobytes() == fresh.scores.tobytes()


def test_a_whole_build_is_recognised_and_one_of_other_sources_is_not(built: Path) -> None:
    assert is_whole(built, MADE_FROM)
    assert not is_whole(built, {**MADE_FROM, "model": "another"})


@pytest.mark.parametrize("name", ["flat.faiss", "quantised.faiss", "premises.json", "arrays.npz", "manifest.json"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "longer"])
def test_a_damaged_build_is_not_whole(built: Path, name: str, fault: str) -> None:
    path = built / name
    content = path.read_bytes()
    match fault:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(content[:-7])
        case "longer":
            path.write_bytes(content + b"x")
    assert not is_whole(built, MADE_FROM)


def test_a_build_that_was_interrupted_is_made_again(
    built: Path, demo_corpus: ReadCorpus, rows: NDArray[np.float32]
) -> None:
    (built / "flat.faiss").write_bytes(b"half")
    partial = built.with_suffix(".partial")
    partial.mkdir()
    (partial / "rubbish").touch()
    build(built, MADE_FROM, demo_corpus, rows, SAMPLE)
    assert is_whole(built, MADE_FROM)
    assert not partial.exists()


def test_names_come_with_a_tag_and_compressed_when_asked(client: httpx.Client) -> None:
    for route in ("/indexed-premises", "/indexed-modules"):
        plain = client.get(route, headers={"Accept-Encoding": "identity"})
        zipped = client.get(route, headers={"Accept-Encoding": "br, gzip;q=0.5"})
        refused = client.get(route, headers={"Accept-Encoding": "gzip;q=0"})
        assert "content-encoding" not in plain.headers
        assert "content-encoding" not in refused.headers
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.content == plain.content == refused.content
        known = client.get(route, headers={"If-None-Match": f'"x", W/{plain.headers["etag"]}'})
        assert (known.status_code, known.content) == (304, b"")
