"""Shows the shapes of errors in the OpenAPI description of a FastAPI application."""

from collections.abc import Callable, Iterator
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("fastapi", module=__name__):
    from fastapi import FastAPI

from huleedu_service_libs.error_handling.catalogue import FAMILIES

__all__ = ["describe_errors"]

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_ERROR = {"$ref": "#/components/schemas/HuleEduErrorResponse"}
_PROBLEM = {"$ref": "#/components/schemas/HuleEduErrorProblem"}
_OWN = {"$ref": "#/components/schemas/HuleEduFrameworkError"}


def describe_errors(app: FastAPI, *, own_errors: bool) -> None:
    """From now on ``app.openapi()`` names the error body for every operation.

    Args:
        app: The application.
        own_errors: FastAPI's own errors keep FastAPI's shape, which is then named too.
    """
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make()
        _add_components(schema, own_errors=own_errors)
        body = {"anyOf": [_ERROR, _OWN]} if own_errors else _ERROR
        for operation in _operations(schema):
            responses = operation.setdefault("responses", {})
            responses.setdefault("default", _response("An error", body))
            if "HTTPValidationError" in str(responses.get("422")):
                responses["422"] = _response("The request is not valid", _ERROR)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema.get("paths", {}).values():
        yield from (operation for method, operation in path.items() if method in _METHODS)


def _response(description: str, body: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": body}, "application/problem+json": {"schema": _PROBLEM}}
    return {"description": description, "content": content}


def _add_components(schema: dict[str, Any], *, own_errors: bool) -> None:
    known = schema.setdefault("components", {}).setdefault("schemas", {})
    fields = _fields()
    body = _object({**fields, "message": {"type": "string"}})
    known["HuleEduErrorResponse"] = _object({"error": body}, closed=True)
    known["HuleEduErrorProblem"] = _object(
        {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            **fields,
        }
    )
    if own_errors:
        known["HuleEduFrameworkError"] = _object({"detail": {}})


def _fields() -> dict[str, Any]:
    codes = [each.code.value for family in FAMILIES for each in family.codes]
    return {
        "code": {"type": "string", "enum": codes},
        "correlation_id": {"type": "string"},
        "service": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "details": {"type": "object", "additionalProperties": True},
    }


def _object(properties: dict[str, Any], *, closed: bool = False) -> dict[str, Any]:
    described = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {**described, "additionalProperties": False} if closed else described
