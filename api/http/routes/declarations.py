"""The route that says what stands behind a premise's name."""

import asyncio

from fastapi import APIRouter, Request, Response

from api.http.bodies import DeclarationsBody, body_reference, parse_declaration_names, read_body
from api.http.release_prefix import served_of
from api.http.request_record import record_of
from api.http.responses import json_response
from shared.settings import Settings


def declaration_routes(settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.post("/declarations", openapi_extra=body_reference(DeclarationsBody))
    async def declarations(request: Request) -> Response:
        """Kind, module, arguments, type and doc of premises, in the order of `names`; null for an unknown name."""
        body = await read_body(request, settings.max_body_bytes, record_of(request).deadline(settings.request_timeout))
        served = served_of(request).release.snapshot.declarations

        def answer() -> bytes:
            return served.answer(parse_declaration_names(body, settings.max_k))

        return json_response(await asyncio.to_thread(answer))

    return router
