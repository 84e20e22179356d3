"""The corpus and the accessible premises of one to three segments, against a slow, obvious model of sets and loops."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.corpus.corpus import Corpus, SegmentCorpus
from api.corpus.reader import MODULE_COMPONENTS, NAME_COMPONENTS, read_corpus
from api.http.bodies import RetrieveBody, parse_body
from api.retrieval.access import accessible_mask, accessible_premises
from api.search.index import PremiseIndex, Search
from api.search.premise_set import PremiseSet
from api.search.segments import SegmentedIndex

MODULES = ("A", "A.B", "A.b", "B", "B.Lemmas", "Lean.Meta", "X.Tactic.Y", "Z")
NAMES = ("p", "q", "r", "p.q", "Lean.x", "a.Qq", "black", "Leaner")
BLACKLIST = ("black", "unheard.of")

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no reason to fail."""

Item = dict[str, Any]
Entry = str | int | float | bool


@dataclass(frozen=True)
class Data:
    """What the generated files say."""

    listed: list[str]
    declarations: dict[str, list[Item]]

    def files(self) -> dict[str, bytes]:
        def lines(items: list[Item]) -> bytes:
            return "".join(json.dumps(item) + "\n" for item in items).encode()

        return {
            "Modules.jsonl": lines([{"name": name} for name in self.listed]),
            "HammerBlacklist.jsonl": lines([{"hammerBlacklist": BLACKLIST}]),
            **{f"Declarations/{module}.jsonl": lines(items) for module, items in self.declarations.items()},
        }


@dataclass(frozen=True)
class Premise:
    id: int
    name: str
    module: str
    needs_import_all: bool


class SlowModel:
    """The contract's semantics, read aloud."""

    def __init__(self, layers: list[Data]) -> None:
        self.modules: list[str] = []
        self.wire: list[str] = []
        self.premises: list[Premise] = []
        """Those that are found."""
        self.names: dict[int, str] = {}
        """Of every premise id, also of those that are not found."""
        for data in layers:
            known = set(self.modules)
            self.modules += sorted(name for name in data.listed if name not in known)
            own = self.own_premises(data, base=8 * math.ceil((max(self.names) + 1) / 8) if self.names else 0)
            self.names |= {premise.id: premise.name for premise in own}
            names = {premise.name for premise in own}
            self.premises = [premise for premise in self.premises if premise.name not in names] + own

    def own_premises(self, data: Data, base: int) -> list[Premise]:
        own: list[Premise] = []
        for module in sorted(data.declarations, key=lambda module: f"{module}.jsonl"):
            for item in data.declarations[module]:
                self.wire.append(item["name"])
                if self.passes(module, item) and not any(item["name"] == premise.name for premise in own):
                    hidden = item["kind"] != "theorem" and not item.get("isExposed", False)
                    closed = item.get("inModuleSystem", False) and hidden
                    own.append(Premise(base + len(own), item["name"], module, closed))
        return own

    def passes(self, module: str, item: Item) -> bool:
        return not (
            item["name"] in BLACKLIST
            or any(component in MODULE_COMPONENTS for component in module.split("."))
            or any(component in NAME_COMPONENTS for component in item["name"].split("."))
            or item["type"].startswith("Lean.")
        )

    def in_modules(self, entries: list[Entry]) -> set[int]:
        names = set()
        for entry in entries:
            if isinstance(entry, str):
                names.add((entry[: -len(".lean")] if entry.endswith(".lean") else entry).replace("/", "."))
            elif 0 <= entry < len(self.modules):
                names.add(self.modules[int(entry)])
        return {premise.id for premise in self.premises if premise.module in names}

    def named(self, entries: list[Entry]) -> set[int]:
        names = set()
        for entry in entries:
            if isinstance(entry, str):
                names.add(entry)
            elif 0 <= entry < len(self.wire):
                names.add(self.wire[int(entry)])
        return {premise.id for premise in self.premises if premise.name in names}

    def accessible(self, imported: list[Entry] | None, local: list[Entry] | None) -> set[int]:
        if imported is None and local is None:
            return {premise.id for premise in self.premises}
        return self.in_modules(imported or []) | self.named(local or [])

    def visible(self, imported_all: list[Entry] | None) -> set[int]:
        opened = self.in_modules(imported_all or [])
        return {premise.id for premise in self.premises if not premise.needs_import_all or premise.id in opened}


DECLARATIONS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "kind": st.sampled_from(["theorem", "def", "axiom"]),
        "type": st.sampled_from(["Nat", "Lean.Expr", "Leaning"]),
    },
    optional={"inModuleSystem": st.booleans(), "isExposed": st.booleans()},
)
REST: Item = {"args": []}
"""Fields that are needed and decide nothing."""


@st.composite
def corpora(draw: st.DrawFn) -> Data:
    """Modules in any order, some twice, some without a file; a corpus may not be empty, so one premise is there."""
    files = draw(st.dictionaries(st.sampled_from(MODULES), st.lists(DECLARATIONS, max_size=5)))
    sure = {**draw(DECLARATIONS), "name": "sure", "type": "Nat"}
    files["Z"] = [*files.get("Z", []), sure]
    listed = sorted(files.keys() | draw(st.sets(st.sampled_from(MODULES))))
    listed = draw(st.permutations([*listed, *draw(st.lists(st.sampled_from(listed), max_size=2))]))
    return Data(listed, {module: [{**REST, **item} for item in items] for module, items in files.items()})


LAYERS = st.lists(corpora(), min_size=1, max_size=3)
NUMBERS = st.one_of(
    st.integers(-2, 30),
    st.sampled_from([10**30, -(10**30), 2**62, 2**63, -(2**63), 2**64, True, False, 3.0, 1e300]),
)
MODULE_STRINGS = st.sampled_from(
    [*MODULES, "A/B", "A/B.lean", "A.B.lean", "B/Lemmas.lean", "Nowhere", "", ".lean", "3"]
)
NAME_STRINGS = st.sampled_from([*NAMES, "sure", "Nowhere", "", "p.lean", "p/q", "3"])
MODULE_LISTS = st.none() | st.lists(MODULE_STRINGS | NUMBERS, max_size=6)
NAME_LISTS = st.none() | st.lists(NAME_STRINGS | NUMBERS, max_size=6)


def ids(mask: NDArray[np.bool_]) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


def corpus_of(layers: list[Data]) -> Corpus:
    return Corpus.of([SegmentCorpus.of(read_corpus(data.files())) for data in layers])


@settings(UNHURRIED, max_examples=100)
@given(LAYERS)
def test_the_corpus_keeps_all_names_for_the_wire_and_filters_the_premises(layers: list[Data]) -> None:
    corpus, model = corpus_of(layers), SlowModel(layers)
    assert corpus.module_names == model.modules
    assert corpus.wire_names == model.wire
    assert {i: name for i, name in enumerate(corpus.names) if name} == model.names
    assert {name: corpus.premise_ids[name] for name in corpus.premise_ids} == {p.name: p.id for p in model.premises}
    assert len(corpus) == len(model.premises)


@settings(UNHURRIED, max_examples=200)
@given(LAYERS, MODULE_LISTS, NAME_LISTS)
def test_accessible_is_the_union_of_modules_and_local_premises_or_all(
    layers: list[Data], imported: list[Entry] | None, local: list[Entry] | None
) -> None:
    fields = {"state": "", "k": 1, "imported_modules": imported, "local_premises": local}
    context = parse_body(json.dumps(fields).encode(), RetrieveBody)[1]
    mask = accessible_premises(corpus_of(layers), context.imported_modules.read(), context.local_premises.read())
    assert ids(mask) == SlowModel(layers).accessible(imported, local)


@settings(UNHURRIED, max_examples=100)
@given(LAYERS, MODULE_LISTS, NAME_LISTS, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_a_search_over_segments_answers_as_one_over_all_rows_without_those_that_others_stand_for(
    layers: list[Data], imported: list[Entry] | None, local: list[Entry] | None, k: int, seed: int
) -> None:
    fields = {"state": "", "k": k, "imported_modules": imported, "local_premises": local}
    context = parse_body(json.dumps(fields).encode(), RetrieveBody)[1]
    corpus, model = corpus_of(layers), SlowModel(layers)
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.array([-0.5, 0, 0.5], np.float32), size=(len(model.names), 3))  # many ties
    parts = np.split(rows, np.cumsum([len(ids) for ids in corpus.ranges])[:-1])
    accessible = model.accessible(imported, local)
    whole = SegmentedIndex([PremiseIndex.of(rows)])
    of_rows = PremiseSet.of(np.array([i in accessible for i in model.names]))
    (expected,) = whole.search([Search(rows[0], of_rows, k)])
    segmented = SegmentedIndex([PremiseIndex.of(part) for part in parts])
    (hits,) = segmented.search([Search(rows[0], PremiseSet.of(accessible_mask(corpus, context)), k)])
    assert hits.ids.tolist() == [list(model.names)[row] for row in expected.ids]
    assert hits.scores.tobytes() == expected.scores.tobytes()


@settings(UNHURRIED, max_examples=200)
@given(LAYERS, MODULE_LISTS)
def test_visible_is_what_is_theorem_or_exposed_or_imported_all_or_outside_the_module_system(
    layers: list[Data], imported_all: list[Entry] | None
) -> None:
    fields = {"state": "", "k": 1, "imported_all_modules": imported_all, "caller_in_module_system": True}
    context = parse_body(json.dumps(fields).encode(), RetrieveBody)[1]
    assert ids(accessible_mask(corpus_of(layers), context)) == SlowModel(layers).visible(imported_all)


@settings(UNHURRIED, max_examples=100)
@given(LAYERS)
def test_a_position_is_the_name_at_that_position(layers: list[Data]) -> None:
    corpus = corpus_of(layers)
    for position, name in enumerate(corpus.wire_names):
        assert ids(accessible_premises(corpus, None, [position])) == ids(accessible_premises(corpus, None, [name]))
    for position, name in enumerate(corpus.module_names):
        assert ids(accessible_premises(corpus, [position], None)) == ids(accessible_premises(corpus, [name], None))


def test_a_later_segment_appends_its_positions_and_stands_for_names_of_an_earlier_one() -> None:
    def theorem(name: str, **fields: Any) -> Item:
        return {"name": name, "kind": "theorem", "type": "Nat", **REST, **fields}

    below = Data(["B", "A"], {"A": [theorem("a"), theorem("late", type="Lean.x")], "B": [theorem("b"), theorem("c")]})
    above = Data(["C", "B"], {"B": [theorem("b"), theorem("late")], "C": [theorem("d"), theorem("c", type="Lean.x")]})
    corpus = corpus_of([below, above])
    assert corpus.module_names == ["A", "B", "C"]
    assert corpus.wire_names == ["a", "late", "b", "c", "b", "late", "d", "c"]
    assert corpus.wire_premise.tolist() == [0, 9, 8, 2, 8, 9, 10, 2]
    assert ids(accessible_premises(corpus, None, None)) == {0, 2, 8, 9, 10}
    assert ids(accessible_premises(corpus, ["B"], None)) == {2, 8, 9}
    assert corpus.names == ["a", "b", "c", "", "", "", "", "", "b", "late", "d"]
