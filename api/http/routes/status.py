"""The routes that say what is served and how it is doing."""

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from api.http.release_prefix import served_of
from api.http.responses import json_response, names_response
from api.http.routes.status_report import problems, queue_gauges, queue_state, status_report
from api.serving.release import Release
from api.telemetry.metrics import Metrics


def names_routes(max_new_premises: int) -> APIRouter:
    """The routes that Lean front-ends ask first."""
    router = APIRouter()

    @router.get("/max-new-premises")
    async def most(request: Request) -> Response:
        """How many new premises are ranked at most. Launchers ask it to learn whether the server is ready."""
        _ = served_of(request).release  # 503 until it is loaded
        return json_response(orjson.dumps(max_new_premises))

    @router.get("/indexed-premises")
    async def indexed_premises(request: Request) -> Response:
        """Names of all declarations in the data; a position in this array stands for a name in requests."""
        return names_response(request, served_of(request).release.snapshot.premises_file)

    @router.get("/indexed-modules")
    async def indexed_modules(request: Request) -> Response:
        """Names of all modules, sorted; a position in this array stands for a name in requests."""
        return names_response(request, served_of(request).release.snapshot.modules_file)

    return router


def status_routes(metrics: Metrics, version: str) -> APIRouter:
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return json_response(b'{"status":"live"}')

    @router.get("/health")
    @router.get("/health/ready")
    async def ready(request: Request) -> Response:
        """200 if requests that need an embedding can be served now, else 503 with the reasons."""
        served = served_of(request)
        reasons = problems(served, await queue_state(served))
        status = "not ready" if reasons else "ready"
        return json_response(orjson.dumps({"status": status, "reasons": reasons}), status=503 if reasons else 200)

    @router.get("/status")
    async def status(request: Request) -> Response:
        """How the whole system is doing, for people: workers, queues, caches."""
        return json_response(await status_report(served_of(request), metrics, version))

    @router.get("/metrics")
    async def prometheus(request: Request) -> Response:
        """Metrics of the API, for Prometheus."""
        state = await queue_state(served_of(request))
        gauges = queue_gauges(state) if state else []
        return Response(metrics.exposition(gauges), media_type=metrics.content_type)

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Relative, so that it is found behind a key or a release in the path."""
        return get_swagger_ui_html(openapi_url="openapi.json", title="Lean premise server")

    @router.get("/version")
    async def versions(request: Request) -> Response:
        """What is served: program, data and model."""
        served = served_of(request)
        spec, state = served.spec, served.state
        return json_response(
            orjson.dumps(
                {
                    "version": version,
                    "data_repo": spec.data.repo,
                    "data_revision": spec.data.revision,
                    "data_reports": state.revision if isinstance(state, Release) else "",
                    "model": served.backend.fingerprint if served.backend else "",
                    "provenance": state.provenance if isinstance(state, Release) else None,
                }
            )
        )

    return router
