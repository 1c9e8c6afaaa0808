"""The routes: SageMaker's, Azure ML's, the open inference protocol's, and probes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from etl_ml import __version__
from etl_ml.serve.guard import BODY, HEADERS, MISTAKE, App, Guard, headers_of
from etl_ml.serve.metrics import CONTENT_TYPE
from etl_ml.serve.missing_extra import needs_extra
from etl_ml.serve.open_inference import metadata
from etl_ml.serve.openapi import answered, described, operation
from etl_ml.serve.refused import NOT_FOUND, Refused
from etl_ml.serve.service import JSON

with needs_extra("serve"):
    from fastapi import FastAPI, Request, Response
    from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from etl_ml.serve.metrics import Metrics
    from etl_ml.serve.service import Service
    from etl_ml.serve.settings import Settings

VERSION_HEADER = "model-version"

_MODEL = re.compile(r"/v2/models/[^/]+(?P<version>/versions/[^/]+)?(?P<rest>/infer|/ready)?")


def create_app(service: Service, settings: Settings, metrics: Metrics) -> App:
    """The service as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="etl_ml scoring service",
        version=__version__,
        lifespan=lifespan,
        default_response_class=Response,
    )
    _add_scoring(app, service)
    _add_open_inference(app, service)
    _add_facts(app, service, settings)
    _add_errors(app, service)
    app.openapi = lambda: described(app, service.scorer, settings)  # type: ignore[method-assign]
    known = frozenset(route.path for route in app.routes if "{" not in route.path)  # type: ignore[attr-defined]
    return Guard(app, settings, metrics, lambda path: _route(path, known))


def _add_scoring(app: FastAPI, service: Service) -> None:
    async def score(request: Request) -> Response:
        scope = request.scope
        answers, body, kind = await service.invoke(scope[BODY], scope[HEADERS])
        return Response(body, media_type=kind, headers={VERSION_HEADER: answers.version})

    for path, summary in {
        "/invocations": "Score rows: JSON, CSV or Parquet; SageMaker's route",
        "/score": "The same, under Azure ML's name",
    }.items():
        app.post(path, tags=["scoring"], summary=summary, **operation("score", path))(score)


def _add_open_inference(app: FastAPI, service: Service) -> None:
    """KServe's V2, by name and by name and version."""

    @app.get("/v2", tags=["open inference"], **answered("ServerMetadata"))
    async def server() -> Response:
        told = {"name": "etl_ml", "version": __version__, "extensions": []}
        return _json(told)

    @app.get("/v2/health/live", tags=["open inference"], **answered("Live"))
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", tags=["open inference"], **answered("Ready"))
    async def ready() -> Response:
        return _json({"ready": True})

    async def about(model: str, version: str | None = None) -> Response:
        service.check_model(model, version)
        scorer = service.scorer
        return _json(metadata(scorer.model, scorer.version, scorer.signature))

    async def model_ready(model: str, version: str | None = None) -> Response:
        service.check_model(model, version)
        return _json({"name": model, "ready": True})

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        answers, body = await service.infer(request.scope[BODY], model, version)
        return Response(body, media_type=JSON, headers={VERSION_HEADER: answers.version})

    async def about_version(model: str, version: str) -> Response:
        return await about(model, version)

    async def version_ready(model: str, version: str) -> Response:
        return await model_ready(model, version)

    async def infer_version(request: Request, model: str, version: str) -> Response:
        return await infer(request, model, version)

    async def about_model(model: str) -> Response:
        return await about(model)

    async def ready_model(model: str) -> Response:
        return await model_ready(model)

    async def infer_model(request: Request, model: str) -> Response:
        return await infer(request, model)

    tags: Any = ["open inference"]
    for path, one, other, infers in (
        ("/v2/models/{model}", about_model, ready_model, infer_model),
        ("/v2/models/{model}/versions/{version}", about_version, version_ready, infer_version),
    ):
        app.get(path, tags=tags, **answered("ModelMetadata", NOT_FOUND))(one)
        app.get(f"{path}/ready", tags=tags, **answered("ModelReady", NOT_FOUND))(other)
        app.post(f"{path}/infer", tags=tags, **operation("infer", path))(infers)


def _add_facts(app: FastAPI, service: Service, settings: Settings) -> None:
    @app.get("/ping", tags=["probes"], summary="SageMaker's probe", **answered("Ready"))
    @app.get("/health/ready", tags=["probes"], **answered("Ready"))
    async def ready() -> Response:
        return _json({"ready": True})

    @app.get("/health/live", tags=["probes"], **answered("Live"))
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/version", tags=["model"], **answered("Version"))
    async def version() -> Response:
        scorer = service.scorer
        return _json(
            {
                "model": scorer.model,
                "version": scorer.version,
                "runtime": scorer.runtime,
                "signed_by": scorer.package.signed_by,
                "shadow": settings.shadow,
                "etl_ml": __version__,
            }
        )

    @app.get("/schema", tags=["model"], **answered("Signature"))
    async def schema() -> Response:
        scorer = service.scorer
        told = {"model": scorer.model, "version": scorer.version}
        return _json(told | scorer.signature.shown())

    @app.get("/metrics", tags=["model"], **answered(None))
    async def metrics() -> Response:
        return Response(service.metrics(), headers={"content-type": CONTENT_TYPE})


def _add_errors(app: FastAPI, service: Service) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        service.count(error)
        return _json(error.document(), error.status, headers_of(error))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": f"{error.detail}."}, error.status_code, dict(error.headers or {}))

    async def mistake(request: Request, error: Exception) -> Response:
        return _json(MISTAKE.document(), MISTAKE.status)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, mistake)


def _json(told: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(told), status, headers, JSON)


def _route(path: str, known: frozenset[str]) -> str:
    """What a path is counted by: there are few of these, whatever is asked."""
    if path in known:
        return path
    if (found := _MODEL.fullmatch(path)) is None:
        return "other"
    version = "/versions/{version}" if found["version"] else ""
    return f"/v2/models/{{model}}{version}{found['rest'] or ''}"
