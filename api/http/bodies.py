"""Bodies of requests, on their way in and in the OpenAPI document."""

import asyncio
from typing import Any

import msgspec
from fastapi import FastAPI, Request

from api.retrieval.context import BatchBody, DeclarationsBody, RetrieveBody
from shared.errors import BodyTooLarge, BodyTooSlow
from shared.settings import Settings

SCHEMA_REFERENCE = "#/components/schemas/{name}"
"""Where OpenAPI keeps what several routes share."""


async def read_body(request: Request, settings: Settings) -> bytes:
    """All of it.

    Raises:
        BodyTooLarge: as soon as it is known, before the rest is read.
        BodyTooSlow: it did not end within the request's time.
    """
    try:
        async with asyncio.timeout(settings.request_timeout):
            return await _read(request, settings.max_body_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {settings.request_timeout:g} s.") from None


def body_reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What a route adds to its OpenAPI entry."""
    schema = {"$ref": SCHEMA_REFERENCE.format(name=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI) -> None:
    """Adds the bodies, which msgspec reads and FastAPI does not know, to the OpenAPI document."""
    kinds = [RetrieveBody, BatchBody, DeclarationsBody]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=SCHEMA_REFERENCE)
    app.openapi()["components"] = {"schemas": schemas}


async def _read(request: Request, limit: int) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes (MAX_BODY_BYTES).")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)
