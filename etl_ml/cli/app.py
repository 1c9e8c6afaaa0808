"""The command's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from etl_ml.cli.lake import app as lake_app

app = typer.Typer(
    name="etl-ml",
    help="Look at pipelines, their reports and their models.\n\n"
    "The lake is ETL_ML_LAKE, else .etl_ml/lake beside the nearest pyproject.toml.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(lake_app)

PipelineName = Annotated[str, typer.Argument(help="The pipeline's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A file, a glob or a URL of files (CSV, Parquet, JSON lines); or mongodb://, "
            "mysql://, postgresql://, sqlite:///, with --table.",
        ),
    ],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    name: Annotated[
        str | None, typer.Option(help="Of the pipeline; by default the file's or table's.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Of a database; for MongoDB `database.collection`.")
    ] = None,
) -> None:
    """Look at data and write a pipeline for it that runs at once.

    Types, nulls, ranges, keys, the task, the positive class, the time column, and columns that
    should not be features are inferred from a sample; comments say why.

    For example: etl-ml init customers.csv --target churned
    """
    from etl_ml.cli.init import init_pipeline

    init_pipeline(data, target, name, table)


@app.command()
def doctor(
    pipelines: Annotated[
        list[str] | None, typer.Argument(help="Only these; all of the project by default.")
    ] = None,
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile",
            help="Read incremental sources as a whole, and count rows that came too late.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the installation, and ask every place that pipelines name once, for real.

    Environment variables, each source, destination, target and the lake. The exit code is 1 if
    anything fails.

    For example: etl-ml doctor, or etl-ml doctor orders --reconcile
    """
    from etl_ml.cli.doctor import examine

    if not examine(pipelines or [], reconcile=reconcile, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of a defs.yaml, for editors.

    For example: etl-ml schema > pipeline.schema.json
    """
    import sys

    from etl_ml.cli.schema import schema_text

    sys.stdout.write(schema_text())


@app.command()
def show(
    pipeline: PipelineName,
    asset: Annotated[str | None, typer.Argument(help="One asset; all of them by default.")] = None,
    version: Annotated[
        str | None, typer.Option(help="A version of the asset; the latest by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a pipeline's reports.

    For example: etl-ml show phishing, or etl-ml show phishing model_evaluation --json
    """
    from etl_ml.cli.show import show_asset, show_pipeline
    from etl_ml.lake import open_lake

    if version is not None and asset is None:
        raise typer.BadParameter("name the asset whose version it is", param_hint="--version")
    if version is not None and not version.isdecimal():
        raise typer.BadParameter(f"{version!r} is not a number", param_hint="--version")
    lake = open_lake()
    if asset is None:
        show_pipeline(lake, pipeline, as_json=as_json)
    else:
        show_asset(lake, pipeline, asset, version, as_json=as_json)


@app.command()
def report(
    pipeline: PipelineName,
    version: Annotated[
        str | None, typer.Option(help="Of model_evaluation; by default the latest run.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default in the temporary folder.")
    ] = None,
    opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write a run's report as one page: the verdict first, then what it rests on.

    For example: etl-ml report phishing --open
    """
    from etl_ml.cli.report import write_report

    if version is not None and not version.isdecimal():
        raise typer.BadParameter(f"{version!r} is not a number", param_hint="--version")
    write_report(pipeline, version, output, opened)


@app.command()
def models(pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Show the champion, and who was champion before.

    For example: etl-ml models phishing
    """
    from etl_ml.cli.models import show_models
    from etl_ml.lake import open_lake

    show_models(open_lake(), pipeline, as_json=as_json)


@app.command()
def promote(
    pipeline: PipelineName,
    version: Annotated[str, typer.Argument(help="Of trained_model, with a package.")],
    reason: Annotated[str, typer.Option(help="Why, for the log of champions.")] = "",
) -> None:
    """Make a version champion: one that waits for approval, or an earlier one.

    Its package is asked again, in the registry and at every target, before a pointer moves.

    For example: etl-ml promote phishing 3 --reason "approved by the risk team"
    """
    from etl_ml.cli.promote import promote_version

    if not version.isdecimal():
        raise typer.BadParameter(f"{version!r} is not a number", param_hint="VERSION")
    promote_version(pipeline, version, reason)


@app.command()
def rollback(
    pipeline: PipelineName,
    reason: Annotated[str, typer.Option(help="Why, for the log of champions.")] = "",
) -> None:
    """Make the champion before this one champion again, in the registry and at every target.

    For example: etl-ml rollback phishing --reason "too many false alarms"
    """
    from etl_ml.cli.promote import roll_back

    roll_back(pipeline, reason)


@app.command()
def predict(
    pipeline: PipelineName,
    rows: Annotated[
        str, typer.Argument(metavar="INPUT", help="CSV, Parquet or JSON lines; a path or a URL.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where to; its name tells the format.")
    ],
    version: Annotated[
        str | None, typer.Option(help="A version in the registry; the champion by default.")
    ] = None,
) -> None:
    """Score a file with the champion, in a stream.

    Each row of OUTPUT has the columns of INPUT that are no features, the row's identity, the
    prediction, the probabilities, and the version of the model. A row that breaks the contract gets
    the reasons instead of a prediction.

    For example: etl-ml predict phishing new_pages.csv -o scored.parquet
    """
    from etl_ml.cli.predict import predict_file

    if version is not None and not version.isdecimal():
        raise typer.BadParameter(f"{version!r} is not a number", param_hint="--version")
    predict_file(pipeline, rows, output, version)


def _option(text: str, name: str) -> Any:
    return typer.Option(help=text, envvar=f"ETL_ML_SERVE_{name}")


@app.command()
def serve(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="PIPELINE|URL",
            help="A pipeline of the lake, a target's URL with the pipeline, or a package's folder; "
            "by default the model that SageMaker or Azure ML mounted.",
            envvar="ETL_ML_SERVE_MODEL",
        ),
    ] = None,
    host: Annotated[str | None, _option("Address; 0.0.0.0 for all.", "HOST")] = None,
    port: Annotated[int | None, _option("8080; 0 for any that is free.", "PORT")] = None,
    shadow: Annotated[
        str | None, _option("A version that is asked too, and not answered.", "SHADOW")
    ] = None,
    workers: Annotated[int | None, _option("Processes; 1.", "WORKERS")] = None,
    threads: Annotated[int | None, _option("For larger requests; 2.", "THREADS")] = None,
    max_body_bytes: Annotated[
        int | None, _option("Of a request; 6291456.", "MAX_BODY_BYTES")
    ] = None,
    max_rows: Annotated[int | None, _option("Of a request; 10000.", "MAX_ROWS")] = None,
    max_seconds: Annotated[float | None, _option("For a request; 30.", "MAX_SECONDS")] = None,
    max_concurrency: Annotated[
        int | None, _option("Requests worked on at once; 64.", "MAX_CONCURRENCY")
    ] = None,
    max_connections: Annotated[
        int | None, _option("Open connections; 1000.", "MAX_CONNECTIONS")
    ] = None,
    poll_seconds: Annotated[
        float | None, _option("Between looks for a new champion; 10.", "POLL_SECONDS")
    ] = None,
    unknown_columns: Annotated[
        str | None, _option("fail, or drop what the contract does not know.", "UNKNOWN_COLUMNS")
    ] = None,
    live: Annotated[bool | None, _option("Tell how far live rows drift; it does.", "LIVE")] = None,
    access_log: Annotated[bool | None, _option("A line a request.", "ACCESS_LOG")] = None,
) -> None:
    """Serve the champion over HTTP, and each one that follows it.

    With ETL_ML_SERVE_TOKEN in the environment, requests must carry it as a bearer token. Stops on
    SIGTERM or Ctrl-C when it has answered what came in.

    For example: etl-ml serve phishing --port 8080
    """
    from etl_ml.cli.serve import serve_model

    serve_model(
        pipeline,
        host=host,
        port=port,
        shadow=shadow,
        workers=workers,
        threads=threads,
        max_body_bytes=max_body_bytes,
        max_rows=max_rows,
        max_seconds=max_seconds,
        max_concurrency=max_concurrency,
        max_connections=max_connections,
        poll_seconds=poll_seconds,
        unknown_columns=unknown_columns,
        live=live,
        access_log=access_log,
    )


@app.command()
def keys() -> None:
    """Make a pair of keys: packages are signed with one and checked with the other.

    For example: etl-ml keys
    """
    from etl_ml.cli.promote import show_keys

    show_keys()


@app.command()
def refresh(pipeline: PipelineName) -> None:
    """Read an incremental source again from the start, in one commit.

    For example: etl-ml refresh orders
    """
    from etl_ml.cli.refresh import refresh_pipeline

    refresh_pipeline(pipeline)


@app.command()
def quarantine(
    pipeline: PipelineName,
    everything: Annotated[
        bool, typer.Option("--all", help="Over all runs, less what has passed since.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Validate again, with what earlier runs rejected.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the rows that break the contract, and why; or try them again.

    For example: etl-ml quarantine phishing --all, or etl-ml quarantine phishing --replay
    """
    from etl_ml.cli.quarantine import replay_quarantine, show_outstanding, show_quarantine
    from etl_ml.lake import open_lake

    if replay and (everything or as_json):
        raise typer.BadParameter("stands alone", param_hint="--replay")
    if replay:
        replay_quarantine(pipeline)
    elif everything:
        show_outstanding(open_lake(), pipeline, as_json=as_json)
    else:
        show_quarantine(open_lake(), pipeline, as_json=as_json)


@app.command()
def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 9464,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 for all.")] = "127.0.0.1",
    once: Annotated[
        bool, typer.Option("--once", help="Print them, as for a textfile collector.")
    ] = False,
) -> None:
    """Serve the metrics of all pipelines in the lake to Prometheus.

    For example: etl-ml metrics --port 9464 --host 0.0.0.0
    """
    from etl_ml.cli.metrics import serve_metrics, show_metrics

    if once:
        show_metrics()
    else:
        serve_metrics(host, port)


@app.command()
def labels(
    pipeline: PipelineName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, Parquet or JSON lines; a path or a URL.")
    ],
    by: Annotated[
        str, typer.Option(help="What is told apart: each day, week or month of predictions.")
    ] = "week",
) -> None:
    """Say what predicted rows turned out to be, and see how good the predictions were.

    FILE has the target's column, and the columns of the key or `_etl_ml_row`, by which the
    predictions in the lake are found.

    For example: etl-ml labels churn outcomes.csv --by month
    """
    from etl_ml.cli.labels import take_labels

    take_labels(pipeline, file, by)
