"""The routes that say what is served and how it is doing."""

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from api.http.responses import json_response, names_response
from api.http.routes.status_report import queue_gauges, system_status
from api.serving.catalog import Catalog
from api.telemetry.metrics import Metrics
from shared.settings import Settings


def status_routes(settings: Settings, catalog: Catalog, metrics: Metrics, version: str) -> APIRouter:
    router = APIRouter()

    @router.get("/max-new-premises")
    async def max_new_premises() -> Response:
        """How many new premises are ranked at most."""
        return json_response(orjson.dumps(settings.max_new_premises))

    @router.get("/indexed-premises")
    async def indexed_premises(request: Request) -> Response:
        """Names of all declarations in the data; a position in this array stands for a name in requests."""
        return names_response(request, catalog.served.premises_file)

    @router.get("/indexed-modules")
    async def indexed_modules(request: Request) -> Response:
        """Names of all modules, sorted; a position in this array stands for a name in requests."""
        return names_response(request, catalog.served.modules_file)

    @router.get("/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return json_response(b'{"status":"live"}')

    @router.get("/health")
    @router.get("/health/ready")
    async def ready() -> Response:
        """200 if requests that need an embedding can be served now, else 503 with the reasons."""
        problems = catalog.problems(await catalog.queue_state())
        status = "not ready" if problems else "ready"
        return json_response(orjson.dumps({"status": status, "reasons": problems}), status=503 if problems else 200)

    @router.get("/status")
    async def status() -> Response:
        """How the whole system is doing, for people: workers, queues, caches."""
        return json_response(await system_status(catalog, metrics, version))

    @router.get("/metrics")
    async def prometheus() -> Response:
        """Metrics of the API, for Prometheus."""
        state = await catalog.queue_state()
        gauges = queue_gauges(state) if state else []
        return Response(metrics.exposition(gauges), media_type=metrics.content_type)

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Relative, so that it is found behind a key or a revision in the path."""
        return get_swagger_ui_html(openapi_url="openapi.json", title="Lean premise server")

    @router.get("/version")
    async def served() -> Response:
        """What is served: program, data and model."""
        return json_response(
            orjson.dumps(
                {
                    "version": version,
                    "data_repo": settings.data_repo,
                    "data_revision": settings.data_revision,
                    "data_reports": catalog.revision,
                    "model": catalog.fingerprint,
                }
            )
        )

    return router
