"""A build is whole or not there, is made once, and serves what the data holds."""

import gzip
import json
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from api.corpus.corpus import SegmentCorpus
from api.corpus.reader import ReadCorpus, read_corpus
from api.corpus.segment import build, is_whole, open_segment, segment_directory
from api.corpus.snapshot import Snapshot
from api.search.index import PremiseIndex, Search
from api.search.premise_set import PremiseSet
from api.search.segments import SegmentedIndex
from tests.support.archives import data_files, declaration

MADE_FROM = {"archive": "a", "embeddings": "e", "model": "m"}
SAMPLE = {0: "text of 0"}


@pytest.fixture(scope="module")
def rows(demo_corpus: ReadCorpus) -> NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((len(demo_corpus), 32)).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.fixture
def built(tmp_path: Path, demo_corpus: ReadCorpus, rows: NDArray[np.float32]) -> Path:
    directory = segment_directory(tmp_path, MADE_FROM)
    build(directory, MADE_FROM, demo_corpus, rows, SAMPLE)
    return directory


def test_what_is_read_back_is_what_was_built(built: Path, demo_corpus: ReadCorpus, rows: NDArray[np.float32]) -> None:
    segment = open_segment(built)
    read = SegmentCorpus.of(demo_corpus)
    for name in ("revision", "module_names", "wire_names", "names", "rows"):
        assert getattr(segment.corpus, name) == getattr(read, name)
    for name in ("wire_row", "module_start", "module_stop", "needs_import_all"):
        np.testing.assert_array_equal(getattr(segment.corpus, name), getattr(read, name))
    assert segment.manifest.sample == SAMPLE
    np.testing.assert_array_equal(segment.sample_rows(), rows[:1])
    assert json.loads(segment.premises_file.plain) == demo_corpus.wire_names
    everything = PremiseSet.of(np.ones(len(rows), np.bool_))
    fresh_index = SegmentedIndex([PremiseIndex.of(rows)])
    for state in rows[:5]:
        search = Search(state, everything, 40)
        (mapped,), (fresh,) = (index.search([search]) for index in (Snapshot.of([segment]).index, fresh_index))
        assert mapped.ids.tolist() == fresh.ids.tolist()
        assert mapped.scores.tobytes() == fresh.scores.tobytes()
    segment.close()


def test_a_snapshot_of_one_segment_serves_its_very_bytes_and_numbers(built: Path, demo_corpus: ReadCorpus) -> None:
    segment = open_segment(built)
    snapshot = Snapshot.of([segment])
    assert snapshot.premises_file is segment.premises_file
    assert snapshot.modules_file is segment.modules_file
    corpus = snapshot.corpus
    assert corpus.names is segment.corpus.names
    assert corpus.premise_ids is segment.corpus.rows
    np.testing.assert_array_equal(corpus.wire_premise, demo_corpus.wire_premise)
    assert corpus.served.all()
    assert len(corpus.served) == len(corpus) == len(demo_corpus)
    segment.close()


def test_a_snapshot_of_two_segments_serves_both(built: Path, tmp_path: Path, demo_corpus: ReadCorpus) -> None:
    name = demo_corpus.names[3]
    theirs = {"A.New": [declaration("new")], "Init.Data.Prod": [declaration(name, doc="a better one")]}
    above = read_corpus(data_files(theirs))
    directory = segment_directory(tmp_path, {"archive": "above"})
    build(directory, {"archive": "above"}, above, np.eye(2, 32, dtype=np.float32), {1: "text"})
    segments = [open_segment(built), open_segment(directory)]
    snapshot = Snapshot.of(segments)
    base = -(-len(demo_corpus) // 8) * 8
    assert json.loads(snapshot.premises_file.plain) == [*demo_corpus.wire_names, "new", name]
    assert json.loads(gzip.decompress(snapshot.premises_file.gzipped)) == snapshot.corpus.wire_names
    assert json.loads(snapshot.modules_file.plain) == [*demo_corpus.module_names, "A.New"]
    (hits,) = snapshot.index.search(
        [Search(np.eye(1, 32, 1, dtype=np.float32)[0], PremiseSet.of(snapshot.corpus.served), 1)]
    )
    assert (hits.ids.tolist(), hits.scores.tolist()) == ([base + 1], [1.0])
    first, new, better, none = json.loads(snapshot.declarations.answer([demo_corpus.names[0], "new", name, "none"]))
    assert (first["name"], new["module"], better["doc"]) == (demo_corpus.names[0], "A.New", "a better one")
    assert none is None
    assert snapshot.corpus.revision == f"{demo_corpus.revision}+v-test"
    for segment in segments:
        segment.close()


def test_a_segment_that_is_closed_is_unmapped_when_the_last_search_is_done(built: Path) -> None:
    def mapped() -> set[str]:
        return {Path(area.path).name for area in psutil.Process().memory_maps() if built.name in area.path}

    segment = open_segment(built)
    snapshot = Snapshot.of([segment])
    assert mapped() == {"flat.faiss", "quantised.faiss", "declarations.jsonl", "declarations.npy"}
    searching = segment.index.parts()
    segment.close()
    assert mapped() == {"flat.faiss", "quantised.faiss"}
    assert np.isfinite(searching[0]).all()
    del searching
    assert mapped() == set()
    with pytest.raises(ValueError, match="closed"):
        snapshot.index.search([Search(np.ones(32, np.float32), PremiseSet.of(snapshot.corpus.served), 1)])
    with pytest.raises((IndexError, ValueError)):
        snapshot.declarations.entry(0)


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
