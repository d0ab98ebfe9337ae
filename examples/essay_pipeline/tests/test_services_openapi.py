"""*notify* against its own OpenAPI description: whatever is sent, the answer is one that it describes."""

from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from essay_pipeline.demo.processes import PipelineProcesses

pytestmark = pytest.mark.integration

_SHAPE = {"code", "message", "correlation_id", "service", "timestamp", "details"}
_CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


def _judge(case: Any) -> None:
    response = case.call()
    case.validate_response(response, checks=_CHECKS)
    if response.status_code >= 400:
        assert response.headers["content-type"][0].startswith("application/json")
        assert set(response.json()["error"]) == _SHAPE


def test_answers_are_those_of_the_description(pipeline: PipelineProcesses) -> None:
    """No 500, no undescribed status, and every error has the stated shape: valid and invalid requests alike."""
    schema = schemathesis.openapi.from_url(f"{pipeline.notify_url}/openapi.json")
    judged: Counter[str] = Counter()
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an Err raises here, as it should
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=25,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                deadline=None,
            )
            def run(case: Any) -> None:
                _judge(case)
                judged[case.operation.label] += 1

            with suppress(Unsatisfiable):  # without parameters there is nothing to get wrong
                run()
        assert judged[operation.label], f"nothing was asked of {operation.label}"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/texts/x", 405)])
def test_refusals_have_the_shape_too(pipeline: PipelineProcesses, method: str, path: str, status: int) -> None:
    """Unknown paths and wrong methods are described by nobody, and still answered in the services' form."""
    response = httpx.request(method, pipeline.notify_url + path)
    assert response.status_code == status
    assert set(response.json()["error"]) == _SHAPE
