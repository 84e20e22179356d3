"""The running server against its own OpenAPI document: what fits a schema is answered, what does not is refused."""

import json
from typing import Any

import pytest
import schemathesis
from schemathesis import Case, GenerationMode

from tests.support.fuzz import fuzz
from tests.support.servers import Stack

EXAMPLES = 12


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ["/retrieve", "/retrieve/batch", "/declarations"])
def test_bodies_drawn_from_the_document_get_an_answer_of_the_contract(
    served: Stack, route: str, mode: GenerationMode, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = schemathesis.openapi.from_url(f"{served.base_url}/openapi.json")

    def check(case: Case[Any]) -> None:
        answer = case.call(base_url=served.base_url)
        # The document is wider than the contract: any string may stand for a whole number there.
        assert answer.status_code in ((200, 422) if mode is GenerationMode.POSITIVE else (422,))
        body = json.loads(answer.content)
        assert isinstance(body, list) if answer.status_code == 200 else list(body) == ["detail"]

    cases = fuzz(schema[route]["POST"].as_strategy(generation_mode=mode), check, EXAMPLES)
    with capsys.disabled():
        print(f"\nfuzz {route} from OpenAPI, {mode.value}: {cases} cases, no finding", end=" ")
