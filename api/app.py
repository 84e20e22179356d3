"""The HTTP application. Everything a client can send ends here in an answer of the contract's form."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from opentelemetry.trace import Tracer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.embedding.backend import Backends, EmbeddingLimits
from api.http.api_key import KeyRequired
from api.http.bodies import describe_bodies
from api.http.rate_limit import RateLimit
from api.http.release_prefix import ReleasePrefix, no_such_route
from api.http.request_observer import Observed
from api.http.request_record import HEADER, record_of
from api.http.responses import error_body
from api.http.routes.declarations import declaration_routes
from api.http.routes.page import page_routes
from api.http.routes.retrieval import retrieval_routes
from api.http.routes.status import names_routes, status_routes
from api.search.threads import SearchThreads
from api.serving.catalog import Catalog
from api.serving.loader import Loader
from api.serving.release import ReleaseSpec
from api.telemetry.metrics import Metrics
from shared.errors import Overloaded, PremiseServerError
from shared.redis.connections import Connections
from shared.settings import Settings

logger = logging.getLogger(__name__)

HOLD_S = 0.05
"""Between two looks whether connections may be accepted."""


def create_app(
    settings: Settings, tracer: Tracer, on_failure: Callable[[PremiseServerError], None], hold: Callable[[], bool]
) -> FastAPI:
    """The application.

    `on_failure` hears of an error that keeps it from ever being ready; as long as it is not ready and `hold()`, no
    connection is accepted. Its `state.catalog` adds and drops releases.

    Raises:
        StartupError: a Redis URL cannot be parsed.
    """
    metrics = Metrics()
    redis = Connections.of(settings.redis_url, settings.cache_url)
    threads = SearchThreads()
    catalog = Catalog(loader(settings, redis, threads, metrics).load)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(load()), asyncio.create_task(metrics.watch_loop())]
        await asyncio.sleep(0)  # the catalog knows the release before the first request comes
        try:
            while hold() and not tasks[0].done():
                await asyncio.sleep(HOLD_S)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await catalog.close()
            threads.close()
            await redis.close()

    async def load() -> None:
        try:
            await catalog.add(ReleaseSpec.of(settings))
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
        docs_url=None,  # status_routes has its own
        redoc_url=None,
    )
    app.state.catalog = catalog
    # What is added last comes first.
    app.add_middleware(ReleasePrefix, catalog=catalog)
    if key := settings.api_key.get_secret_value():
        app.add_middleware(KeyRequired, key=key)
    app.add_middleware(Observed, metrics=metrics, tracer=tracer)
    add_error_answers(app, metrics, catalog)
    app.include_router(retrieval_routes(settings, RateLimit(redis.queue, settings.rate_limit), metrics))
    app.include_router(names_routes(settings.max_new_premises))
    app.include_router(status_routes(metrics, app.version))
    app.include_router(declaration_routes(settings))
    app.include_router(page_routes())
    describe_bodies(app)
    return app


def loader(settings: Settings, redis: Connections, threads: SearchThreads, metrics: Metrics) -> Loader:
    """The loader of this process's releases."""
    return Loader(
        redis=redis,
        backends=Backends(redis, EmbeddingLimits.of(settings), metrics),
        threads=threads,
        metrics=metrics,
        data_dir=settings.data_dir,
        max_k=settings.max_k,
        max_new_premises=settings.max_new_premises,
        state_ttl=settings.state_ttl,
        premise_ttl=settings.premise_ttl,
    )


def add_error_answers(app: FastAPI, metrics: Metrics, catalog: Catalog) -> None:
    """Answer every error with one sentence as JSON."""

    async def known_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PremiseServerError)
        record_of(request).detail = str(error)
        if isinstance(error, Overloaded):
            metrics.refused.labels(error.reason).inc()
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
        return Response(error_body(str(error)), error.status, headers, media_type="application/json")

    async def routing_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        sentence = error.detail
        if error.status_code == 404:
            sentence = no_such_route(request.scope["path"], app.openapi()["paths"], catalog.known())
        elif error.status_code == 405:
            sentence = "This route does not answer that method."
        record_of(request).detail = sentence
        return Response(error_body(sentence), error.status_code, error.headers, media_type="application/json")

    app.add_exception_handler(PremiseServerError, known_error)
    app.add_exception_handler(HTTPException, routing_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _fault(request: Request, error: Exception) -> Response:
    """The framework answers with this outside of every middleware."""
    name = record_of(request).id
    logger.error("a request failed because of a fault in the server", exc_info=error, extra={"request": name})
    body = error_body("The server has a fault; its log has the details.")
    return Response(body, 500, {HEADER: name}, media_type="application/json")
