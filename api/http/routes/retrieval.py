"""The routes that rank premises."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from api.http.bodies import BatchBody, Body, RetrieveBody, body_reference, parse_body, read_body
from api.http.ranked_response import LEAN_CLIENT_LIMIT, is_lean_client, ranked_body
from api.http.rate_limit import RateLimit
from api.http.release_prefix import served_of
from api.http.request_record import record_of
from api.http.responses import json_response
from api.retrieval.context import INLINE_BYTES, Context
from api.retrieval.retriever import Retrieval
from api.telemetry.metrics import Metrics
from shared.deadline import Deadline
from shared.settings import Settings

T = TypeVar("T")


def retrieval_routes(settings: Settings, rate_limit: RateLimit, metrics: Metrics) -> APIRouter:
    router = APIRouter()

    async def parsed(request: Request, kind: type[Body], deadline: Deadline) -> tuple[Body, Context]:
        stages = record_of(request).stages
        with stages.measure("read"):
            body = await read_body(request, settings.max_body_bytes, deadline)
        with stages.measure("parse"):
            if len(body) <= INLINE_BYTES:
                return parse_body(body, kind)
            return await asyncio.to_thread(parse_body, body, kind)

    async def retrieved(request: Request, states: list[str], context: Context, deadline: Deadline) -> Retrieval:
        release, record = served_of(request).release, record_of(request)
        record.counts |= {"states": len(states), "k": context.k}
        if settings.rate_limit and request.client:
            await rate_limit.admit(request.client.host, len(states))
        retrieval = await _unless_gone(request, release.retriever.retrieve(states, context, record.stages, deadline))
        record.counts |= {"new_premises": retrieval.new_premises, "dropped": retrieval.dropped}
        metrics.dropped.inc(retrieval.dropped)
        metrics.searches.labels("bound").inc(len(states) * (context.k > 0) - retrieval.widened)
        metrics.searches.labels("widened").inc(retrieval.widened)
        return retrieval

    @router.post("/retrieve", openapi_extra=body_reference(RetrieveBody))
    async def retrieve(request: Request) -> Response:
        """The premises most likely to help with a goal, best first."""
        record = record_of(request)
        deadline = record.deadline(settings.request_timeout)
        body, context = await parsed(request, RetrieveBody, deadline)
        retrieval = await retrieved(request, [body.state], context, deadline)
        limit = LEAN_CLIENT_LIMIT if is_lean_client(request.headers.get("user-agent", "")) else None
        with record.stages.measure("write"):
            content, truncated = ranked_body(retrieval.ranked[0], limit)
        metrics.truncated.inc(truncated > 0)
        record.counts["truncated"] = truncated
        counts = {"X-New-Premises-Dropped": retrieval.dropped, "X-Premises-Truncated": truncated}
        return json_response(content, counts, record.stages)

    @router.post("/retrieve/batch", openapi_extra=body_reference(BatchBody))
    async def retrieve_batch(request: Request) -> Response:
        """The same for many goals that share everything else: an array of arrays, in the order of `states`."""
        record = record_of(request)
        deadline = record.deadline(settings.request_timeout)
        body, context = await parsed(request, BatchBody, deadline)
        retrieval = await retrieved(request, body.states, context, deadline)
        with record.stages.measure("write"):
            content = b",".join(ranked_body(ranked, None)[0] for ranked in retrieval.ranked)
        return json_response(b"[" + content + b"]", {"X-New-Premises-Dropped": retrieval.dropped}, record.stages)

    return router


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; given up when the client hangs up.

    Raises:
        ClientDisconnect: it did.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():  # after the body, all that can be received is the end of the connection
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
