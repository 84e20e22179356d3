"""The HTTP routes. Everything a client can send ends here in an answer of the contract's form."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import msgspec
import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.catalog import Catalog
from api.metrics import Metrics, Timed
from api.page import front_page
from api.path import NormalPath
from api.request import BatchBody, Body, RetrieveBody, parse_body
from api.response import LEAN_CLIENT_LIMIT, error_body, is_lean_client, ranked_body
from shared.errors import BodyTooLarge, PremiseServerError
from shared.settings import Settings

logger = logging.getLogger(__name__)

PARSE_INLINE_BYTES = 32_768
"""Larger bodies are parsed in a thread: the event loop has other requests to serve."""
SCHEMA_REFERENCE = "#/components/schemas/{name}"
"""Where OpenAPI keeps what several routes share."""


def create_app(settings: Settings, on_failure: Callable[[PremiseServerError], None]) -> FastAPI:
    """The application; `on_failure` hears of an error that keeps it from ever being ready."""
    catalog = Catalog(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        yield
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await catalog.close()

    async def load() -> None:
        try:
            await catalog.load()
        except PremiseServerError as error:
            on_failure(error)
        except Exception:
            logger.exception("loading failed")
            on_failure(PremiseServerError("Loading failed because of a fault in the server; the log has it."))

    app = FastAPI(
        title="Lean premise server",
        version=version("lean-premise-server"),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    metrics = Metrics()
    app.add_middleware(Timed, metrics=metrics)
    # Added last, so it comes first: all others see the path as the routes have it.
    app.add_middleware(NormalPath, revisions=lambda: {settings.data_revision, catalog.revision} - {""})
    app.add_exception_handler(PremiseServerError, _known_error)
    app.add_exception_handler(HTTPException, _routing_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)

    async def body_of(request: Request, kind: type[Body]) -> Body:
        body = await _read(request, settings.max_body_bytes)
        if len(body) <= PARSE_INLINE_BYTES:
            return parse_body(body, kind)
        return await asyncio.to_thread(parse_body, body, kind)

    @app.post("/retrieve", openapi_extra=_body_reference(RetrieveBody))
    async def retrieve(request: Request) -> Response:
        """The premises most likely to help with a goal, best first."""
        body = await body_of(request, RetrieveBody)
        retrieval = await catalog.retriever.retrieve([body.state], body.context())
        limit = LEAN_CLIENT_LIMIT if is_lean_client(request.headers.get("user-agent", "")) else None
        content, truncated = ranked_body(retrieval.ranked[0], limit)
        return _json(content, {"X-New-Premises-Dropped": retrieval.dropped, "X-Premises-Truncated": truncated})

    @app.post("/retrieve/batch", openapi_extra=_body_reference(BatchBody))
    async def retrieve_batch(request: Request) -> Response:
        """The same for many goals that share everything else: an array of arrays, in the order of `states`."""
        body = await body_of(request, BatchBody)
        retrieval = await catalog.retriever.retrieve(body.states, body.context())
        content = b",".join(ranked_body(ranked, None)[0] for ranked in retrieval.ranked)
        return _json(b"[" + content + b"]", {"X-New-Premises-Dropped": retrieval.dropped})

    @app.get("/max-new-premises")
    async def max_new_premises() -> Response:
        """How many new premises are ranked at most."""
        return _json(orjson.dumps(settings.max_new_premises))

    @app.get("/indexed-premises")
    async def indexed_premises() -> Response:
        """Names of all declarations in the data; a position in this array stands for a name in requests."""
        return _json(catalog.names_body("indexed-premises"))

    @app.get("/indexed-modules")
    async def indexed_modules() -> Response:
        """Names of all modules, sorted; a position in this array stands for a name in requests."""
        return _json(catalog.names_body("indexed-modules"))

    @app.get("/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return _json(b'{"status":"live"}')

    @app.get("/health")
    @app.get("/health/ready")
    async def ready() -> Response:
        """200 if requests that need an embedding can be served now, else 503 with the reasons."""
        problems = await catalog.problems()
        status = "not ready" if problems else "ready"
        return _json(orjson.dumps({"status": status, "reasons": problems}), status=503 if problems else 200)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Metrics of this process, for Prometheus."""
        return Response(metrics.exposition(), media_type=metrics.content_type)

    @app.get("/version")
    async def served() -> Response:
        """What is served: program, data and model."""
        return _json(
            orjson.dumps(
                {
                    "version": app.version,
                    "data_repo": settings.data_repo,
                    "data_revision": settings.data_revision,
                    "data_reports": catalog.revision,
                    "model": catalog.fingerprint,
                }
            )
        )

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        return Response(front_page(app.version, await catalog.problems()), media_type="text/html")

    _describe_bodies(app)
    return app


async def _read(request: Request, limit: int) -> bytes:
    """The request's body.

    Raises:
        BodyTooLarge: as soon as it is known, before the rest is read.
    """
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


def _json(content: bytes, counts: dict[str, int] | None = None, status: int = 200) -> Response:
    """An answer; of `counts`, those that are not zero become headers."""
    headers = {name: str(count) for name, count in (counts or {}).items() if count}
    return Response(content, status, headers, media_type="application/json")


def _body_reference(kind: type[Body]) -> dict[str, Any]:
    schema = {"$ref": SCHEMA_REFERENCE.format(name=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _describe_bodies(app: FastAPI) -> None:
    """Adds the bodies, which msgspec reads and FastAPI does not know, to the OpenAPI document."""
    _, schemas = msgspec.json.schema_components([RetrieveBody, BatchBody], ref_template=SCHEMA_REFERENCE)
    app.openapi()["components"] = {"schemas": schemas}


async def _known_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PremiseServerError)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
    return Response(error_body(str(error)), error.status, headers, media_type="application/json")


async def _routing_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = {
        404: "There is no such route here, or the data revision in the path is not served.",
        405: "This route does not answer that method.",
    }.get(error.status_code, error.detail)
    return Response(error_body(sentence), error.status_code, error.headers, media_type="application/json")


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _fault(_request: Request, error: Exception) -> Response:
    logger.error("a request failed because of a fault in the server", exc_info=error)
    body = error_body("The server has a fault; its log has the details.")
    return Response(body, 500, media_type="application/json")
