"""Concurrency pools: how many steps may be at one server at a time is set on Dagster's instance."""

from __future__ import annotations

import re

from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import FileSource


def source_pool(pipeline: Pipeline) -> str:
    """The pool of `raw_data`: `source/<type>/<server>`, one for all pipelines that read there."""
    source = pipeline.source
    remote = not isinstance(source, FileSource) or "://" in source.path
    return f"source/{source.type}/{_server(source.address) if remote else 'local'}"


def load_pool(pipeline: Pipeline) -> str:
    """The pool of `loaded_data`: of its first destination, `destination/<type>/<server>`."""
    first = pipeline.load[0]
    place = first.display
    return f"destination/{first.type}/{_server(place) if '://' in place else 'local'}"


def deploy_pool(pipeline: Pipeline) -> str:
    """The pool of `deployed_model`: the pipeline's own, since its targets are."""
    return f"deploy/{pipeline.name}"


def _server(address: str) -> str:
    server = address.partition("://")[2].partition("/")[0].partition(" ")[0]
    return re.sub(r"[^A-Za-z0-9._:,-]", "_", server) or "default"
