"""The corpus: text of a declaration, filter, order, and the sentence for every fault in the files."""

import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from api.corpus.archive import read_archive
from api.corpus.declaration import Declaration
from api.corpus.reader import ReadCorpus, read_corpus
from shared.errors import StartupError
from tests.support.archives import DEMO_DATA, Line, data_files, declaration, jsonl, pack

# fmt: off
TOOLING = [
    "Aesop", "Auto", "Cli", "CodeAction", "DocGen4", "Duper", "ImportGraph", "Lake", "Lean", "LeanSearchClient",
    "Linter", "Mathport", "MD4Lean", "Plausible", "ProofWidgets", "Qq", "QuerySMT", "Tactic", "TacticExtra", "Test",
    "Testing", "UnicodeBasic", "Util",
]
# fmt: on

Build = Callable[..., ReadCorpus]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Pack modules into an archive and read it as the server does."""

    def corpus_of(modules: Mapping[str, Iterable[Line]], blacklist: Iterable[str] = ()) -> ReadCorpus:
        return read_corpus(read_archive(pack(tmp_path / "premises.tar.gz", data_files(modules, blacklist))))

    return corpus_of


def lean(**fields: object) -> str:
    """Text of a declaration; `fields` as in the files."""
    values = {"line": None, "column": None, "is_prop": True, "is_human_theorem": True, "doc": None}
    return Declaration(**(values | fields)).text  # type: ignore[arg-type]


def test_a_text_is_doc_kind_name_args_and_type() -> None:
    text = lean(
        name="Nat.succ_le", kind="theorem", args=["{m", "n : Nat}", "(h : m < n)"], type="m + 1 ≤ n", doc="A\nB"
    )
    assert text == "/-- A\nB -/\ntheorem Nat.succ_le {m n : Nat} (h : m < n) : m + 1 ≤ n"


def test_without_a_doc_the_first_line_is_missing() -> None:
    assert lean(name="f", kind="def", args=["(n : Nat)"], type="Nat") == "def f (n : Nat) : Nat"


def test_without_args_two_spaces_stand_before_the_colon() -> None:
    assert lean(name="trivial", kind="theorem", args=[], type="True") == "theorem trivial  : True"


def test_a_blacklisted_name_is_no_premise(build: Build) -> None:
    corpus = build({"A": [declaration("bad"), declaration("bad.good")]}, blacklist=["bad"])
    assert corpus.names == ["bad.good"]


def test_a_module_with_a_tooling_component_holds_no_premise(build: Build) -> None:
    tooling = [*TOOLING, *(f"Mathlib.{part}.Basic" for part in TOOLING), "Mathlib.Tactic"]
    kept = ["Mathlib.LeanStuff", "Mathlib.lean", "Utilities", "Mathlib.Tests"]
    corpus = build({module: [declaration(f"in_{module}")] for module in [*tooling, *kept]})
    assert sorted(corpus.names) == sorted(f"in_{module}" for module in kept)


def test_a_name_with_a_tooling_component_is_no_premise(build: Build) -> None:
    tooling = ["Lean.Meta.f", "Foo.Lean", "Foo.Lake.f", "Qq"]
    kept = ["Leaning.f", "Foo.lean", "Foo.Util.f", "Foo.Tactic"]
    assert build({"A": [declaration(name) for name in [*tooling, *kept]]}).names == kept


def test_a_type_that_starts_with_lean_is_no_premise(build: Build) -> None:
    types = {"a": "Lean.Name", "b": "Lean.MVarId → Nat", "c": "Nat → Lean.Name", "d": "LeanName", "e": " Lean.Name"}
    assert build({"A": [declaration(name, type=type_) for name, type_ in types.items()]}).names == ["c", "d", "e"]


def test_of_two_premises_with_one_name_the_first_stays(build: Build) -> None:
    corpus = build(
        {"A": [declaration("twice", doc="one"), declaration("x")], "B": [declaration("twice", doc="two")]},
    )
    assert corpus.names == ["twice", "x"]
    assert corpus.texts[0].startswith("/-- one -/")


def test_a_name_that_was_only_seen_filtered_out_can_still_become_a_premise(build: Build) -> None:
    corpus = build(
        {
            "A.Lean": [declaration("twice", doc="tooling module")],
            "B": [declaration("twice", doc="tooling type", type="Lean.Name"), declaration("twice", doc="kept")],
        }
    )
    assert corpus.texts == ["/-- kept -/\ntheorem twice  : True"]


def test_every_declaration_has_a_wire_index_and_a_duplicate_leads_to_the_one_premise(build: Build) -> None:
    corpus = build({"A": [declaration("twice"), declaration("Lean.f")], "B": [declaration("b"), declaration("twice")]})
    assert corpus.wire_names == ["twice", "Lean.f", "b", "twice"]
    assert corpus.wire_premise.tolist() == [0, -1, 1, 0]


def test_rows_come_by_file_name_and_then_by_line(build: Build) -> None:
    # As file names "A.B.jsonl" comes before "A.jsonl"; as module names it is the other way round.
    corpus = build(
        {
            "B": [declaration("b")],
            "A": [declaration("a2"), declaration("a1")],
            "A.B": [declaration("ab")],
            "Empty": [],
        }
    )
    assert corpus.names == ["ab", "a2", "a1", "b"]
    assert corpus.module_names == ["A", "A.B", "B", "Empty"]
    spans = zip(corpus.module_start.tolist(), corpus.module_stop.tolist(), strict=True)
    in_module = {name: corpus.names[start:stop] for name, (start, stop) in zip(corpus.module_names, spans, strict=True)}
    assert in_module == {"A": ["a2", "a1"], "A.B": ["ab"], "B": ["b"], "Empty": []}


def test_the_order_of_files_in_the_archive_does_not_matter(build: Build, tmp_path: Path) -> None:
    modules = {"A": [declaration("a")], "B": [declaration("b")], "A.B": [declaration("ab")]}
    files = data_files(modules)
    backwards = pack(tmp_path / "backwards.tar.gz", dict(reversed(files.items())))
    assert read_corpus(read_archive(backwards)).names == build(modules).names


def test_what_the_data_does_not_say_about_the_module_system_is_false(build: Build) -> None:
    hidden = {"kind": "def", "inModuleSystem": True, "isExposed": False}
    corpus = build(
        {
            "A": [
                declaration("old", kind="def"),
                declaration("hidden", **hidden),
                declaration("not_said_to_be_exposed", kind="def", inModuleSystem=True),
                declaration("exposed", **(hidden | {"isExposed": True})),
                declaration("theorem", **(hidden | {"kind": "theorem"})),
            ]
        }
    )
    visible_after_import_all_only = dict(zip(corpus.names, corpus.needs_import_all.tolist(), strict=True))
    assert visible_after_import_all_only == {
        "old": False,
        "hidden": True,
        "not_said_to_be_exposed": True,
        "exposed": False,
        "theorem": False,
    }


def test_fields_that_newer_data_may_add_are_ignored(build: Build) -> None:
    assert build({"A": [declaration("a", deprecated={"since": "2026"})]}).names == ["a"]


def test_windows_line_ends_and_blank_lines_are_fine() -> None:
    files = data_files({"A": [declaration("a"), declaration("b")]})
    spaced = {name: b"\n" + content.replace(b"\n", b"\r\n\r\n  \n") for name, content in files.items()}
    corpus = read_corpus(spaced)
    assert corpus.names == ["a", "b"]
    assert corpus.revision == "v-test"


def test_the_last_line_needs_no_line_end() -> None:
    files = data_files({"A": [declaration("a"), declaration("b")]})
    assert read_corpus({name: content.rstrip() for name, content in files.items()}).names == ["a", "b"]


GOOD = jsonl([declaration("good")])
FAULTS = {
    "a malformed line": ("Declarations/A.jsonl", GOOD + b'{"name": "a",\n', "Declarations/A.jsonl line 2: "),
    "a blank line is counted": ("Declarations/A.jsonl", GOOD + b"\r\n\nx", "Declarations/A.jsonl line 4: "),
    "two objects in a line": ("Declarations/A.jsonl", GOOD + GOOD.strip() + GOOD, "Declarations/A.jsonl line 2: "),
    "an array": ("Declarations/A.jsonl", b"[1]", "Declarations/A.jsonl line 1: "),
    "a missing key": ("Declarations/A.jsonl", b'{"name": "a"}', "Declarations/A.jsonl line 1: .*`kind`"),
    "args that are no list": (
        "Declarations/A.jsonl",
        GOOD + jsonl([declaration("a", args="(n : Nat)")]),
        "Declarations/A.jsonl line 2: .*args",
    ),
    "a name that is no string": ("Declarations/A.jsonl", jsonl([{**declaration("a"), "name": 1}]), "line 1: .*name"),
    "a null type": ("Declarations/A.jsonl", jsonl([declaration("a", type=None)]), "line 1: .*type"),
    "a flag that is no bool": (
        "Declarations/A.jsonl",
        jsonl([declaration("a", isExposed="no")]),
        "line 1: .*isExposed",
    ),
    "invalid UTF-8": ("Declarations/A.jsonl", GOOD.replace(b"good", b"\xff"), "Declarations/A.jsonl line 1: .*utf-8"),
    "half a surrogate pair": (
        "Declarations/A.jsonl",
        GOOD.replace(b"good", b"\\ud800"),
        "Declarations/A.jsonl line 1: ",
    ),
    "endless nesting": ("Declarations/A.jsonl", b'{"x":' + b"[" * 100_000, "Declarations/A.jsonl line 1: "),
    "an unlisted module": ("Declarations/B.jsonl", GOOD, "Declarations/B.jsonl: .*Modules.jsonl"),
    "no module list": ("Modules.jsonl", None, "no Modules.jsonl"),
    "a module that is no object": ("Modules.jsonl", b'{"name": "A"}\n"B"\n', "Modules.jsonl line 2: "),
    "a module listed twice": ("Modules.jsonl", b'{"name": "A"}\n{"name": "A"}\n', "Modules.jsonl line 2: A "),
    "no blacklist": ("HammerBlacklist.jsonl", None, "no HammerBlacklist.jsonl"),
    "a blacklist without its key": ("HammerBlacklist.jsonl", b'{"names": []}', "HammerBlacklist.jsonl line 1: "),
    "a blacklist that is no list": (
        "HammerBlacklist.jsonl",
        b'{"hammerBlacklist": {"a": 1}}',
        "HammerBlacklist.jsonl line 1: ",
    ),
    "no premise at all": ("Declarations/A.jsonl", b"", "no premise"),
}


@pytest.mark.parametrize(("file", "content", "names"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_the_data_is_one_sentence_with_file_and_line(file: str, content: bytes | None, names: str) -> None:
    files: dict[str, bytes] = data_files({"A": [declaration("a")]})
    if content is None:
        del files[file]
    else:
        files[file] = content
    with pytest.raises(StartupError, match=names) as refusal:
        read_corpus(files)
    sentence = str(refusal.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300


def test_the_demo_corpus_is_large_enough_to_be_interesting(demo_corpus: ReadCorpus) -> None:
    assert len(demo_corpus) >= 400


def test_the_demo_archive_holds_what_its_folder_holds() -> None:
    """If not, run `make demo-corpus`."""
    folder = DEMO_DATA / "premises"
    in_folder = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert read_archive(DEMO_DATA / "premises.tar.gz") == in_folder
    with tarfile.open(DEMO_DATA / "premises.tar.gz") as archive:
        assert len([member for member in archive if member.isfile()]) == len(in_folder)
