"""A training run written down in MLflow, too, where a pipeline asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.pipeline import Pipeline

_LONGEST = 6_000


class TrackerMissing(EtlMlError):
    """MLflow is asked for and not installed."""


def check_tracking(pipeline: Pipeline) -> None:
    """Refuse to train for a tracker that cannot be spoken to, before anything is fitted.

    Raises
    ------
    TrackerMissing
        The `mlflow` package is not installed.
    """
    if pipeline.training.tracking is not None and find_spec("mlflow") is None:
        raise TrackerMissing(
            f"{pipeline.name}: training.tracking asks for MLflow, which is not installed.",
            where="training.tracking",
            fix="pip install 'etl_ml[mlflow]'",
        )


def track(pipeline: Pipeline, leaderboard: Sequence[Mapping[str, Any]], version: str) -> str | None:
    """One MLflow run a training, in the experiment named as the pipeline.

    The winner's parameters and score, a nested run for each trial, and the leaderboard as a file.
    No model goes there: the lake has it, with its hash.

    Parameters
    ----------
    version : of `transformed_arrays`

    Returns
    -------
    str or None
        Why it could not be written; a tracker that is away costs nobody a model.
    """
    tracking = pipeline.training.tracking
    if tracking is None:
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking.mlflow.get_secret_value()
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(pipeline.name)
        experiment = found.experiment_id if found else client.create_experiment(pipeline.name)
        parent = _run(client, experiment, leaderboard[0], {"transformed_arrays": version})
        client.log_text(parent, json.dumps(list(leaderboard), indent=2), "leaderboard.json")
        for entry in leaderboard:
            _run(client, experiment, entry, {"mlflow.parentRunId": parent})
    except (MlflowException, OSError) as error:
        told = str(error).replace(uri, "the tracking server")
        return f"MLflow could not be written to ({type(error).__name__}: {bounded(told, 200)})"
    return None


def _run(client: Any, experiment: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    name = entry["candidate"]
    run = client.create_run(experiment, run_name=name, tags={"candidate": name, **tags})
    metric, identity = entry["metric"], str(run.info.run_id)
    values = {f"{metric}_mean": entry["mean"], f"{metric}_std": entry["std"]}
    values["fit_seconds"] = entry["fit_seconds"]
    at = int(run.info.start_time)
    metrics = [Metric(n, float(v), at, 0) for n, v in values.items() if v is not None]
    metrics += [
        Metric(f"{metric}_fold", float(v), at, step) for step, v in enumerate(entry["folds"])
    ]
    params = [Param(key, str(v)[:_LONGEST]) for key, v in entry["params"].items()]
    failed = [RunTag("error", entry["error"])] if "error" in entry else []
    client.log_batch(identity, metrics=metrics, params=params, tags=failed)
    client.set_terminated(identity, status="FAILED" if failed else "FINISHED")
    return identity
