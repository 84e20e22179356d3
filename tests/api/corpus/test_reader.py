"""The corpus: text of a declaration, filter, order, where a file ends, and the sentence for every fault."""

import json
import logging
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.corpus.archive import read_archive
from api.corpus.corpus import Corpus, SegmentCorpus
from api.corpus.declaration import Declaration, parse_declaration
from api.corpus.reader import NAME_COMPONENTS, ReadCorpus, read_corpus
from api.retrieval.access import accessible_premises
from shared.errors import StartupError
from tests.support.archives import DEMO_DATA, Line, data_files, declaration, jsonl, pack
from tests.support.repository import ROOT

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
    return parse_declaration(json.dumps(fields).encode()).text


def test_a_text_is_doc_kind_name_args_and_type() -> None:
    text = lean(
        name="Nat.succ_le", kind="theorem", args=["{m", "n : Nat}", "(h : m < n)"], type="m + 1 ≤ n", doc="A\nB"
    )
    assert text == "/-- A\nB -/\ntheorem Nat.succ_le {m n : Nat} (h : m < n) : m + 1 ≤ n"


@pytest.mark.parametrize("doc", [{}, {"doc": None}], ids=["absent", "null"])
def test_without_a_doc_the_first_line_is_missing(doc: dict[str, None]) -> None:
    assert lean(name="f", kind="def", args=["(n : Nat)"], type="Nat", **doc) == "def f (n : Nat) : Nat"


def test_without_args_two_spaces_stand_before_the_colon() -> None:
    assert lean(name="trivial", kind="theorem", args=[], type="True") == "theorem trivial  : True"


@pytest.mark.parametrize(
    ("doc", "first_line"),
    [
        ("Foo. ", "/-- Foo. -/"),
        ("\n  Foo.\n\n  Bar. \n", "/-- Foo.\n\n  Bar. -/"),
        ("\u00a0Foo.\u2003\u0085\u001c", "/-- Foo. -/"),
        ("\u200bFoo.\ufeff", "/-- \u200bFoo.\ufeff -/"),
        (" ", "/--  -/"),
        ("", "/--  -/"),
    ],
    ids=["a blank at its end", "inner lines stay", "Unicode's spaces", "no spaces to Python", "blank", "empty"],
)
def test_a_doc_loses_its_outer_white_space_as_python_has_it(doc: str, first_line: str) -> None:
    assert lean(name="f", kind="def", args=[], type="Nat", doc=doc) == f"{first_line}\ndef f  : Nat"


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
UNREAD = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("line", "column", "isProp", "isHumanTheorem", "somethingNew"), ANYTHING)
)


@settings(max_examples=200, deadline=None)
@given(
    both=st.fixed_dictionaries(
        {"name": TEXT, "kind": TEXT},
        optional={"doc": st.none() | TEXT, "inModuleSystem": st.booleans(), "isExposed": st.none() | st.booleans()},
    ),
    args=st.lists(TEXT, max_size=3),
    body=TEXT,
    unread=UNREAD,
    extra=st.fixed_dictionaries({}, optional={"args": st.lists(TEXT, max_size=2), "type": TEXT}),
)
def test_both_forms_of_a_line_are_one_declaration(
    both: dict[str, Any], args: list[str], body: str, unread: dict[str, Any], extra: dict[str, Any]
) -> None:
    older = parse_declaration(json.dumps({**both, "args": args, "type": body}).encode())
    newer = parse_declaration(json.dumps({**unread, **extra, "typeBody": body, **both, "typeArgs": args}).encode())
    assert newer == older
    lines = [] if both.get("doc") is None else ["/-- " + both["doc"].strip() + " -/"]
    lines.append(" ".join([both["kind"], both["name"], " ".join(args), ":", body]))
    assert newer.text == older.text == "\n".join(lines)
    flags = [bool(both.get(flag)) for flag in ("inModuleSystem", "isExposed")]
    assert [older.in_module_system, older.is_exposed] == flags


def test_the_page_about_the_data_shows_both_forms_their_text_and_the_filter() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    lines, text = (re.findall(rf"```{language}\n(.*?)\n```", page, re.DOTALL)[0] for language in ("jsonl", "text"))
    older, newer = [parse_declaration(line.encode()) for line in lines.splitlines()]
    assert older == newer
    assert older.text == text
    modules, names = (set(re.split(r",\s+", shown)) for shown in re.findall(r"component in \{(.*?)\}", page, re.DOTALL))
    assert modules == set(TOOLING)
    assert names == NAME_COMPONENTS


def test_half_of_the_newer_form_does_not_count() -> None:
    line = {"name": "f", "kind": "def", "args": ["(n : Nat)"], "type": "Nat"}
    whole = Declaration(name="f", kind="def", args=["(n : Nat)"], type="Nat")
    for half in ({"typeBody": "no"}, {"typeArgs": ["no"]}, {"typeArgs": ["no"], "typeBody": None}):
        assert parse_declaration(json.dumps(line | half).encode()) == whole


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


def test_of_the_newer_form_the_filter_reads_the_body_of_the_type(build: Build) -> None:
    lines = {
        "a": {"typeArgs": ["(n : Nat)"], "typeBody": "Lean.Name", "type": "∀ (n : Nat), Lean.Name"},
        "b": {"typeArgs": [], "typeBody": "Lean.Name", "type": "Lean.Name"},
        "c": {"typeArgs": ["(x : Lean.Name)"], "typeBody": "Nat", "type": "Lean.Name → Nat"},
    }
    assert build({"A": [{"name": name, "kind": "def", **line} for name, line in lines.items()]}).names == ["c"]


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


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end", "end end", "end blank end"])
def test_any_line_end_will_do_and_at_the_end_of_the_file_any_number(
    line_end: str, last: str, caplog: pytest.LogCaptureFixture
) -> None:
    end = line_end.encode()
    files = data_files({"A": [declaration("a"), declaration("b")]})
    tail = last.replace("end", line_end).replace("blank", "\t ").encode()
    corpus = read_corpus({name: content.rstrip().replace(b"\n", end) + tail for name, content in files.items()})
    assert corpus.names == ["a", "b"]
    assert corpus.revision == "v-test"
    assert corpus.left_out == ()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


GOOD = jsonl([declaration("good")])
STOPS = {
    "a blank line": (b"\n", "a blank line"),
    "a line of spaces": (b" \t\r\n", "a blank line"),
    "a cut line": (b'{"name": "a",\n', ""),
    "two objects in a line": (GOOD.strip() + GOOD, ""),
    "an array": (b"[1]\n", ""),
    "a missing key": (b'{"name": "a"}\n', "`kind`"),
    "no args": (b'{"name": "a", "kind": "def", "type": "Nat"}\n', "`args` and `type`"),
    "args that are no list": (jsonl([declaration("a", args="(n : Nat)")]), "args"),
    "a name that is no string": (jsonl([{**declaration("a"), "name": 1}]), "name"),
    "a null type": (jsonl([declaration("a", type=None)]), "type"),
    "a flag that is no bool": (jsonl([declaration("a", isExposed="no")]), "isExposed"),
    "invalid UTF-8": (GOOD.replace(b"good", b"\xff"), "utf-8"),
    "invalid UTF-8 where nothing is read": (GOOD.replace(b"{", b'{"x": "\xff", '), "utf-8"),
    "a character that was cut": (GOOD.replace(b"good", "α".encode()[:1]), "utf-8"),
    "half a surrogate pair": (GOOD.replace(b"good", b"\\ud800"), ""),
    "a raw tab": (GOOD.replace(b"good", b"a\tb"), ""),
    "endless nesting": (b'{"x":' + b"[" * 100_000 + b"\n", "recursion"),
    "a byte-order mark": (b"\xef\xbb\xbf" + GOOD, ""),
}


@pytest.mark.parametrize(("stop", "reason"), STOPS.values(), ids=STOPS.keys())
@pytest.mark.parametrize("before", [0, 2])
def test_a_file_ends_at_its_first_blank_or_malformed_line(
    before: int, stop: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [f"kept{i}" for i in range(before)]
    files = data_files({"A": [declaration(name) for name in kept], "B": [declaration("b")]})
    files["Declarations/A.jsonl"] += stop + b"\n" + GOOD + b"\n\n" + GOOD
    corpus = read_corpus(files)
    assert corpus.wire_names == corpus.names == [*kept, "b"]
    (left_out,) = corpus.left_out
    lines = 2 if "blank" in reason else 3
    assert (left_out.file, left_out.line, left_out.lines) == ("Declarations/A.jsonl", before + 1, lines)
    assert reason in left_out.reason
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"Declarations/A.jsonl ends at line {before + 1} ({left_out.reason}): {lines} lines ")
    assert "\n" not in warning
    assert len(warning) < 300


def test_a_last_line_that_is_malformed_is_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    files = data_files({"A": [declaration("a")]})
    files["Declarations/A.jsonl"] += GOOD[:-9]
    corpus = read_corpus(files)
    assert corpus.names == ["a"]
    assert [(end.line, end.lines) for end in corpus.left_out] == [(2, 1)]
    assert "line 2" in caplog.text


NAMES = ("p", "q", "r", "a.Qq", "black", "Leaner")
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
GOOD_LINES = st.builds(
    lambda name, newer, body: json.dumps(
        {"name": name, "kind": "def", **({"typeArgs": [], "typeBody": body} if newer else {"args": [], "type": body})}
    ).encode(),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(["Nat", "Lean.Expr"]),
)
ODD_LINES = st.one_of(
    st.sampled_from([b"", b" ", b"\xc2\xa0", b"{}", b"null", b"\x00\x00", b'{"name": "a", "kind": "def", "args": []}']),
    st.builds(lambda line, cut: line[:-cut], GOOD_LINES, st.integers(1, 20)),
    st.builds(
        lambda line, at, byte: line[:at] + byte + line[at:], GOOD_LINES, st.integers(0, 60), st.binary(max_size=2)
    ),
)
FILES = st.lists(st.tuples(st.one_of(GOOD_LINES, GOOD_LINES, GOOD_LINES, ODD_LINES), ENDS), max_size=7).map(
    lambda lines: b"".join(line + end for line, end in lines)
)
ARCHIVES = st.fixed_dictionaries({"A": FILES, "A.B": FILES, "A-B": FILES, "X.Util": FILES})


def slow_declaration(line: bytes) -> tuple[str, str] | None:
    """Name and body of the type; nothing if the line is malformed. Without the library under test."""
    try:
        item = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("name", "kind")):
        return None
    for args, body in (("typeArgs", "typeBody"), ("args", "type")):
        if isinstance(item.get(args), list) and isinstance(item.get(body), str):
            return item["name"], item[body]
    return None


def slow_read(content: bytes) -> tuple[list[tuple[str, str]], tuple[int, int] | None]:
    """Declarations of a file, and line and count of what is left out."""
    read: list[tuple[str, str]] = []
    lines = re.split(rb"\r\n|\r|\n", content)
    for number, line in enumerate(lines, 1):
        item = slow_declaration(line)
        if item is None:
            rest = len([later for later in lines[number - 1 :] if later.strip()])
            return read, (number, rest) if rest else None
        read.append(item)
    return read, None


@settings(max_examples=400, deadline=None)
@given(files=ARCHIVES)
def test_files_end_names_are_numbered_and_premises_kept_as_the_rules_say(files: dict[str, bytes]) -> None:
    listed = ["A-B", "A", "Last", "A.B"]  # every declaration of X.Util is filtered, so it need not be listed
    corpus = read_corpus(
        data_files(dict.fromkeys(listed, ()), ["black"])
        | {f"Declarations/{module}.jsonl": content for module, content in files.items()}
        | {"Declarations/Last.jsonl": jsonl([declaration("last")])}
    )
    wire: list[str] = []
    premises: list[str] = []
    left_out: list[tuple[str, int, int]] = []
    spans: dict[str, range] = {}
    for module in ("A-B", "A.B", "A", "Last", "X.Util"):  # by file name
        items, end = slow_read(files.get(module, jsonl([declaration("last")])))
        first = len(premises)
        for name, body in items:
            wire.append(name)
            odd = name == "black" or module == "X.Util" or name == "a.Qq" or body.startswith("Lean.")
            if not odd and name not in premises:
                premises.append(name)
        spans[module] = range(first, len(premises))
        if end:
            left_out.append((f"Declarations/{module}.jsonl", *end))
    assert corpus.wire_names == wire
    assert corpus.names == premises
    assert [(end.file, end.line, end.lines) for end in corpus.left_out] == left_out
    assert sum(corpus.filtered.values()) == len(wire) - len(premises)
    for i, module in enumerate(corpus.module_names):
        assert [*range(corpus.module_start[i], corpus.module_stop[i])] == [*spans[module]]


def test_the_log_says_how_many_declarations_the_filter_removed_and_by_which_rule(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    corpus = build(
        {
            "A": [declaration(name) for name in ("black", "kept", "kept", "Lean.x")],
            "My.Util": [declaration("black"), declaration("u"), declaration("v")],
            "Z": [declaration("typed", type="Lean.Name"), declaration("typed")],
        },
        blacklist=["black"],
    )
    counts = {"blacklist": 2, "module Util": 2, "name component": 1, "name seen before": 1, "type prefix": 1}
    assert corpus.filtered == counts
    (line,) = [record.getMessage() for record in caplog.records if "filter" in record.getMessage()]
    assert line == f"the filter removed 7 declarations: {', '.join(f'{rule} {n}' for rule, n in counts.items())}"


def test_a_module_that_is_listed_twice_keeps_both_positions() -> None:
    files = data_files({"B": [declaration("b")], "A": [declaration("a"), declaration("a2")], "C": []})
    files["Modules.jsonl"] += jsonl([{"name": "A"}, {"name": "C"}])
    corpus = Corpus.of([SegmentCorpus.of(read_corpus(files))])
    assert corpus.module_names == ["A", "A", "B", "C", "C"]
    for module in (0, 1, "A", "A.lean"):
        assert accessible_premises(corpus, [module], None).tolist() == [True, True, False]
    assert accessible_premises(corpus, [2], None).tolist() == [False, False, True]
    for module in (3, 4, "C"):
        assert not accessible_premises(corpus, [module], None).any()


def test_an_unlisted_module_may_be_there_as_long_as_none_of_its_declarations_is_a_premise() -> None:
    files = data_files({"A": [declaration("a")]}, blacklist=["black"])
    files["Declarations/B.jsonl"] = jsonl([declaration("black"), declaration("a"), declaration("Lean.x")])
    files["Declarations/Empty.jsonl"] = b""
    files["Declarations/My.Tactic.jsonl"] = jsonl([declaration("t")])
    corpus = read_corpus(files)
    assert corpus.names == ["a"]
    assert corpus.module_names == ["A"]
    assert corpus.wire_names == ["a", "black", "a", "Lean.x", "t"]
    assert corpus.wire_premise.tolist() == [0, -1, 0, -1, -1]


@pytest.mark.parametrize(
    "written",
    [
        '{"hammerBlacklist":["a","b"]}',
        '{"hammerBlacklist": ["a", "b"], "since": 1}\n\n',
        '\ufeff{\r\n  "hammerBlacklist": [\r\n    "a",\r\n    "b"\r\n  ]\r\n}\r\n',
    ],
    ids=["in a line", "with more", "pretty-printed on Windows"],
)
def test_the_blacklist_is_one_document_however_it_is_laid_out(written: str) -> None:
    files = data_files({"A": [declaration(name) for name in "abc"]})
    files["HammerBlacklist.jsonl"] = written.encode()
    assert read_corpus(files).names == ["c"]


def test_a_list_of_modules_may_have_blank_lines_and_a_byte_order_mark() -> None:
    files = data_files({"A": [declaration("a")]})
    files["Modules.jsonl"] = b'\xef\xbb\xbf\n{"name": "A"}\r\n\r\n  \n{"name": "B"}'
    assert read_corpus(files).module_names == ["A", "B"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (None, ""),
        (b"", ""),
        (b" v4.33.0 \r\n", "v4.33.0"),
        (b"\xef\xbb\xbfv1\n", "v1"),
        ("révision α".encode(), "révision α"),
        (b"v\xff1", "v\ufffd1"),
        (b"v1\n\x1b[31mINFO", "v1\ufffd\ufffd[31mINFO"),
        (b"x" * 10_000_000, "x" * 200),
    ],
    ids=["missing", "empty", "blanks", "BOM", "Unicode", "no UTF-8", "control characters", "endless"],
)
def test_the_revision_is_a_short_line_whatever_its_file_holds(content: bytes | None, shown: str) -> None:
    files = data_files({"A": [declaration("a")]})
    del files["revision"]
    if content is not None:
        files["revision"] = content
    assert read_corpus(files).revision == shown


FAULTS = {
    "an unlisted module": (
        "Declarations/B.jsonl",
        jsonl([declaration("Lean.x")]) + GOOD,
        "^Declarations/B.jsonl line 2: good .*Modules.jsonl",
    ),
    "a folder in Declarations": ("Declarations/A/B.jsonl", GOOD, "^Declarations/A/B.jsonl line 1: "),
    "a file with a line end in its name": ("Declarations/A\nB.jsonl", GOOD, r"Declarations/A\\nB.jsonl"),
    "a name without end": ("Declarations/B.jsonl", jsonl([declaration("x" * 9_999)]), "line 1: xxx"),
    "no module list": ("Modules.jsonl", None, "no Modules.jsonl"),
    "a module that is no object": ("Modules.jsonl", b'{"name": "A"}\n"B"\n', "^Modules.jsonl line 2: "),
    "a module that was cut": ("Modules.jsonl", b'\n{"name": "A"}\n{"na', "^Modules.jsonl line 3: "),
    "a module that is no UTF-8": ("Modules.jsonl", b'{"name": "\xff"}', "^Modules.jsonl line 1: "),
    "no blacklist": ("HammerBlacklist.jsonl", None, "no HammerBlacklist.jsonl"),
    "an empty blacklist": ("HammerBlacklist.jsonl", b"", "^HammerBlacklist.jsonl is empty"),
    "a blank blacklist": ("HammerBlacklist.jsonl", b"\xef\xbb\xbf \r\n", "^HammerBlacklist.jsonl is empty"),
    "a blacklist without its key": ("HammerBlacklist.jsonl", b'{"names": []}', "^HammerBlacklist.jsonl: "),
    "a blacklist that is no list": (
        "HammerBlacklist.jsonl",
        b'{"hammerBlacklist": {"a": 1}}',
        "^HammerBlacklist.jsonl: ",
    ),
    "a blacklist that was cut": ("HammerBlacklist.jsonl", b'{"hammerBlacklist": ["a"', "^HammerBlacklist.jsonl: "),
    "two blacklists": ("HammerBlacklist.jsonl", b'{"hammerBlacklist": []}\n' * 2, "^HammerBlacklist.jsonl: "),
    "a blacklist nested too deep": ("HammerBlacklist.jsonl", b'{"x":' + b"[" * 100_000, "^HammerBlacklist.jsonl: "),
    "no premise at all": ("Declarations/A.jsonl", b"", "no premise"),
    "nothing read": (
        "Declarations/A.jsonl",
        b"\xff\xfe{\n" + GOOD,
        "no premise .*: Declarations/A.jsonl ends at line 1 ",
    ),
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
    assert len(sentence) < 400


def test_the_demo_corpus_is_large_enough_to_be_interesting(demo_corpus: ReadCorpus) -> None:
    assert len(demo_corpus) >= 400


def test_the_demo_archive_holds_what_its_folder_holds() -> None:
    """If not, run `make demo-corpus`."""
    folder = DEMO_DATA / "premises"
    in_folder = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert read_archive(DEMO_DATA / "premises.tar.gz") == in_folder
    with tarfile.open(DEMO_DATA / "premises.tar.gz") as archive:
        assert len([member for member in archive if member.isfile()]) == len(in_folder)
