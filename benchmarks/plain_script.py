"""The whole pipeline without Dagster: the same stage functions, the same bytes in a lake.

python benchmarks/plain_script.py DEFS_YAML LAKE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from etl_ml.deploy import deploy, incumbent
from etl_ml.evaluate import evaluate
from etl_ml.extract import extract
from etl_ml.lake import Contents, Version, open_lake
from etl_ml.spec import parse
from etl_ml.train import train
from etl_ml.transform import clean, transform
from etl_ml.validate import drift, report_html, validate

_REPORTS = ("validation_report", "drift_report", "profile")


def main(defs: Path, url: str) -> None:
    pipeline = parse(yaml.safe_load(defs.read_text())["attributes"], file=str(defs))
    lake = open_lake(url)

    def write(asset: str, contents: Contents, *made_from: Version) -> Version:
        upstream = {version.manifest.asset: version.version for version in made_from}
        return lake.write(pipeline.name, asset, contents, upstream=upstream)

    key = pipeline.contract.primary_key
    raw = write(
        "raw_data", Contents(extract(pipeline.source, base=defs.parent, primary_key=key).rows)
    )

    with tempfile.TemporaryDirectory() as folder:
        checked = validate(raw.table.scan(), pipeline, folder=Path(folder))
        reports: dict[str, Any] = {
            "validation_report.json": checked.report,
            "drift_report.json": drift(checked.valid, None, pipeline, sample=checked.sample),
            "profile.json": checked.profile,
        }
        page = report_html(pipeline, *(reports[f"{n}.json"] for n in _REPORTS))
        reports["validation_report.html"] = page
        write("quarantined_data", Contents(checked.quarantined, reports), raw)
        valid = write("validated_data", Contents(checked.valid_file, reports), raw)

    cleaned = clean(valid.table.scan(), pipeline.cleaning)
    files = {"clean.jsonl.gz": cleaned.write_json, "cleaning_report.json": cleaned.report}
    rows = write("clean_data", Contents(cleaned.rows, files), valid)

    arrays = write(
        "transformed_arrays", Contents(files=transform(rows.table.scan(), pipeline).files()), rows
    )
    model = write("trained_model", Contents(files=train(arrays, pipeline).files()), arrays)

    champion = incumbent(lake, pipeline.name, pipeline.training.metric)
    judged = evaluate(model, arrays, rows, pipeline, champion)
    verdict = write("model_evaluation", Contents(files=judged.files()), model, arrays, rows)

    deployed = deploy(lake, pipeline, model, verdict, arrays, rows)
    if deployed.report:
        files = {"deployment_report.json": deployed.report}
        write("deployed_model", Contents(files=files), verdict, model, arrays, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
