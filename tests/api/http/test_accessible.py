"""Which premises a request may be answered with, asked of the running system."""

from typing import Any

import httpx
import pytest

from tests.support.demo_data import demo_modules, demo_rows
from tests.support.lean_client import names, new_premise, retrieve

THEOREM, EXPOSED, HIDDEN, OUTSIDE = "Classical.em", "Nat.add", "Classical.choose", "Prod.swap"
"""In the module system: a theorem, an exposed definition and another; and a definition outside of it."""
FOUR = {THEOREM, EXPOSED, HIDDEN, OUTSIDE}


def declared_in(*modules: str) -> set[str]:
    return {row.name for row in demo_rows() if row.module in modules}


def wire_positions(name: str) -> list[int]:
    return [position for position, row in enumerate(demo_rows()) if row.name == name]


def visible(client: httpx.Client, **fields: Any) -> set[str]:
    return set(names(client, local_premises=sorted(FOUR), **fields))


def test_the_imported_modules_make_their_premises_accessible(client: httpx.Client) -> None:
    imported = ["Init.Data.Function", "Init.Data.Prod"]
    assert set(names(client, imported_modules=imported)) == declared_in(*imported)


def test_accessible_is_the_union_of_modules_and_local_premises(client: httpx.Client) -> None:
    found = names(client, imported_modules=["Init.Data.Prod"], local_premises=["Nat.add_comm", "Prod.swap"])
    assert set(found) == declared_in("Init.Data.Prod") | {"Nat.add_comm"}
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "lists",
    [
        {"imported_modules": []},
        {"local_premises": []},
        {"imported_modules": [], "local_premises": []},
        {"imported_modules": ["Nowhere"], "local_premises": None},
        {"imported_modules": ["Lean.Meta.Basic"]},
    ],
)
def test_an_empty_union_leaves_only_new_premises(client: httpx.Client, lists: dict[str, Any]) -> None:
    assert retrieve(client, **lists).content == b"[]"
    assert names(client, new_premises=[new_premise("mine")], **lists) == ["mine"]


def test_one_list_given_means_only_the_union(client: httpx.Client) -> None:
    assert set(names(client, imported_modules=["Init.Data.Prod"])) == declared_in("Init.Data.Prod")
    assert names(client, local_premises=["Prod.swap"]) == ["Prod.swap"]


@pytest.mark.parametrize("spelling", ["Init/Data/Prod", "Init/Data/Prod.lean", "Init.Data.Prod.lean", "Init/Data.Prod"])
def test_a_module_may_be_given_as_a_path(client: httpx.Client, spelling: str) -> None:
    assert set(names(client, imported_modules=[spelling])) == declared_in("Init.Data.Prod")


def test_a_module_position_equals_the_name_there(client: httpx.Client) -> None:
    for position, name in enumerate(demo_modules()):
        by_position, by_name = retrieve(client, imported_modules=[position]), retrieve(client, imported_modules=[name])
        assert by_position.content == by_name.content


@pytest.mark.parametrize("position", [0, 1, 200, 835])
def test_a_premise_position_equals_the_name_there(client: httpx.Client, position: int) -> None:
    name = demo_rows()[position].name
    by_position, by_name = names(client, local_premises=[position]), names(client, local_premises=[name])
    assert by_position == by_name
    assert by_name in ([name], [])


@pytest.mark.parametrize("name", ["Nat.sub_self", "or_comm"])
def test_both_positions_of_a_duplicate_equal_its_name(client: httpx.Client, name: str) -> None:
    first, second = wire_positions(name)
    assert names(client, local_premises=[first]) == names(client, local_premises=[second]) == [name]


def test_bools_and_whole_floats_are_positions(client: httpx.Client) -> None:
    assert names(client, local_premises=[True, False]) == names(client, local_premises=[1, 0])
    assert names(client, imported_modules=[True]) == names(client, imported_modules=[1])
    assert names(client, imported_modules=[3.0]) == names(client, imported_modules=[3])


def test_unknown_names_and_positions_are_ignored(client: httpx.Client) -> None:
    noise = ["Nowhere", "", "1", "nul\x00", -1, -(10**30), 836, 10**6, 2**63, 2**64, 10**30, 1e300]
    found = names(client, imported_modules=[*noise, "Init.Data.Prod"], local_premises=[*noise, "Nat.add_comm"])
    assert set(found) == declared_in("Init.Data.Prod") | {"Nat.add_comm"}


@pytest.mark.parametrize("name", ["rfl", "Lean.Meta.whnfD", "Lean.Name", "«term_↔_»"])
def test_a_local_premise_that_the_filter_removed_is_ignored(client: httpx.Client, name: str) -> None:
    assert names(client, local_premises=[name]) == []
    assert names(client, local_premises=wire_positions(name)) == []


def test_the_premises_of_the_visibility_tests_are_of_four_kinds() -> None:
    flags = {row.name: (row.kind == "theorem", row.in_module_system, row.exposed) for row in demo_rows()}
    assert flags[THEOREM] == (True, True, False)
    assert flags[EXPOSED] == (False, True, True)
    assert flags[HIDDEN] == (False, True, False)
    assert flags[OUTSIDE] == (False, False, False)


def test_in_the_module_system_theorems_and_exposed_definitions_are_eligible_and_others_not(
    client: httpx.Client,
) -> None:
    assert visible(client, caller_in_module_system=True) == FOUR - {HIDDEN}


@pytest.mark.parametrize("module", ["Init.Classical", "Init/Classical.lean", 0, False])
def test_import_all_of_its_module_makes_a_premise_eligible(client: httpx.Client, module: str | int) -> None:
    assert visible(client, caller_in_module_system=True, imported_all_modules=[module]) == FOUR


@pytest.mark.parametrize("modules", [None, [], ["Init.Core"], ["Nowhere", -1, 10**30]])
def test_import_all_of_another_module_does_not(client: httpx.Client, modules: list[str | int] | None) -> None:
    assert visible(client, caller_in_module_system=True, imported_all_modules=modules) == FOUR - {HIDDEN}


@pytest.mark.parametrize("fields", [{}, {"caller_in_module_system": False}, {"imported_all_modules": ["Init.Core"]}])
def test_a_caller_outside_the_module_system_knows_no_visibility(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert visible(client, **fields) == FOUR


def test_import_all_makes_nothing_accessible(client: httpx.Client) -> None:
    imports = {"imported_modules": ["Init.Data.Prod"], "imported_all_modules": ["Init.Classical"]}
    assert set(names(client, caller_in_module_system=True, **imports)) == declared_in("Init.Data.Prod")


def test_visibility_over_the_whole_corpus(client: httpx.Client) -> None:
    hidden = {
        row.name
        for row in demo_rows()
        if row.in_module_system and row.kind != "theorem" and not row.exposed and row.module != "Init.Core"
    }
    everything = set(names(client))
    shown = set(names(client, caller_in_module_system=True, imported_all_modules=["Init.Core"]))
    assert shown == everything - hidden
    assert hidden & everything
