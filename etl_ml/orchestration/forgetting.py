"""What the lake forgets after a good run."""

from __future__ import annotations

import dagster as dg

from etl_ml.lake import Lake
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

_WORTH = 5


def forget(context: dg.AssetExecutionContext, lake: Lake, pipeline: Pipeline) -> None:
    """Retention after a good run, once there is enough to remove to be worth the listing."""
    from etl_ml.lake.retention import vacuum
    from etl_ml.spec.retention import duration

    keep, age = pipeline.lake.keep, duration(pipeline.lake.older_than)
    try:
        removed = vacuum(
            lake, pipeline.name, keep=keep, older_than=age, worth=max(_WORTH, keep // 3)
        )
    except EtlMlError as error:  # the run was good: what is old can wait
        context.log.warning(f"Nothing old was removed from the lake: {error}")
        return
    if removed.versions:
        context.log.info(
            f"Removed {len(removed.versions)} versions older than {pipeline.lake.older_than}, "
            f"{removed.bytes / 1e6:,.0f} MB, from {lake.url}"
        )
