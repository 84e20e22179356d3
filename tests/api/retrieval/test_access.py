"""The corpus and the accessible premises against a slow, obvious model: sets and loops over the same data."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.corpus.corpus import Corpus
from api.corpus.reader import MODULE_COMPONENTS, NAME_COMPONENTS, read_corpus
from api.http.bodies import RetrieveBody, parse_body
from api.retrieval.access import accessible_premises, visible_premises

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
    name: str
    module: str
    needs_import_all: bool


class SlowModel:
    """The contract's semantics, read aloud."""

    def __init__(self, data: Data) -> None:
        self.modules = sorted(data.listed)
        self.wire: list[str] = []
        self.premises: list[Premise] = []
        for module in sorted(data.declarations, key=lambda module: f"{module}.jsonl"):
            for item in data.declarations[module]:
                self.wire.append(item["name"])
                if self.passes(module, item):
                    hidden = item["kind"] != "theorem" and not item.get("isExposed", False)
                    self.premises.append(Premise(item["name"], module, item.get("inModuleSystem", False) and hidden))

    def passes(self, module: str, item: Item) -> bool:
        return not (
            item["name"] in BLACKLIST
            or any(component in MODULE_COMPONENTS for component in module.split("."))
            or any(component in NAME_COMPONENTS for component in item["name"].split("."))
            or item["type"].startswith("Lean.")
            or any(item["name"] == premise.name for premise in self.premises)
        )

    def in_modules(self, entries: list[Entry]) -> set[int]:
        names = set()
        for entry in entries:
            if isinstance(entry, str):
                names.add((entry[: -len(".lean")] if entry.endswith(".lean") else entry).replace("/", "."))
            elif 0 <= entry < len(self.modules):
                names.add(self.modules[int(entry)])
        return {i for i, premise in enumerate(self.premises) if premise.module in names}

    def named(self, entries: list[Entry]) -> set[int]:
        names = set()
        for entry in entries:
            if isinstance(entry, str):
                names.add(entry)
            elif 0 <= entry < len(self.wire):
                names.add(self.wire[int(entry)])
        return {i for i, premise in enumerate(self.premises) if premise.name in names}

    def accessible(self, imported: list[Entry] | None, local: list[Entry] | None) -> set[int]:
        if imported is None and local is None:
            return set(range(len(self.premises)))
        return self.in_modules(imported or []) | self.named(local or [])

    def visible(self, imported_all: list[Entry] | None) -> set[int]:
        opened = self.in_modules(imported_all or [])
        return {i for i, premise in enumerate(self.premises) if not premise.needs_import_all or i in opened}


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
    listed = draw(st.permutations([*MODULES, *draw(st.lists(st.sampled_from(MODULES), max_size=2))]))
    return Data(listed, {module: [{**REST, **item} for item in items] for module, items in files.items()})


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


def corpus_and_model(data: Data) -> tuple[Corpus, SlowModel]:
    return Corpus.of(read_corpus(data.files())), SlowModel(data)


@settings(UNHURRIED, max_examples=100)
@given(corpora())
def test_the_corpus_keeps_all_names_for_the_wire_and_filters_the_premises(data: Data) -> None:
    corpus, model = corpus_and_model(data)
    assert corpus.module_names == model.modules
    assert corpus.wire_names == model.wire
    assert corpus.names == [premise.name for premise in model.premises]


@settings(UNHURRIED, max_examples=200)
@given(corpora(), MODULE_LISTS, NAME_LISTS)
def test_accessible_is_the_union_of_modules_and_local_premises_or_all(
    data: Data, imported: list[Entry] | None, local: list[Entry] | None
) -> None:
    corpus, model = corpus_and_model(data)
    fields = {"state": "", "k": 1, "imported_modules": imported, "local_premises": local}
    context = parse_body(json.dumps(fields).encode(), RetrieveBody)[1]
    mask = accessible_premises(corpus, context.imported_modules.read(), context.local_premises.read())
    assert ids(mask) == model.accessible(imported, local)


@settings(UNHURRIED, max_examples=200)
@given(corpora(), MODULE_LISTS)
def test_visible_is_what_is_theorem_or_exposed_or_imported_all_or_outside_the_module_system(
    data: Data, imported_all: list[Entry] | None
) -> None:
    corpus, model = corpus_and_model(data)
    fields = {"state": "", "k": 1, "imported_all_modules": imported_all}
    context = parse_body(json.dumps(fields).encode(), RetrieveBody)[1]
    assert ids(visible_premises(corpus, context.imported_all_modules.read())) == model.visible(imported_all)


@settings(UNHURRIED, max_examples=100)
@given(corpora())
def test_a_position_is_the_name_at_that_position(data: Data) -> None:
    corpus = Corpus.of(read_corpus(data.files()))
    for position, name in enumerate(corpus.wire_names):
        assert ids(accessible_premises(corpus, None, [position])) == ids(accessible_premises(corpus, None, [name]))
    for position, name in enumerate(corpus.module_names):
        assert ids(accessible_premises(corpus, [position], None)) == ids(accessible_premises(corpus, [name], None))
