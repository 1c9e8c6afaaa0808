"""`dg scaffold defs etl_ml.TabularPipeline NAME`: a defs.yaml that loads and runs at once."""

from __future__ import annotations

import random
import re

import dagster as dg

_YAML = """\
type: {type_name}
attributes:
  name: {name}
  description: Say in one sentence what is predicted, and for whom.
  owners: []                     # "team:name" or e-mail addresses

  source:
    type: file
    path: {name}.csv             # relative to this file; CSV, Parquet or JSON lines

  contract:                      # rows that break it go to quarantined_data, with the reason
    columns:
      age:       {{type: integer, min: 0, max: 120}}
      income:    {{type: float, min: 0}}
      country:   {{type: category, max_length: 2}}
      churned:   {{type: integer, nullable: false, allowed: [0, 1]}}

  target:
    column: churned
    positive: 1

  training:
    candidates: [logistic_regression, random_forest, lightgbm]

  evaluation:
    gates: {{}}                    # for example {{f1: 0.85}}: below it nothing is deployed
"""


class PipelineScaffolder(dg.Scaffolder):
    """Writes a commented pipeline and a small table of made-up rows for it to run on."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        name = re.sub(r"\W+", "_", request.target_path.name.lower()).strip("_") or "pipeline"
        if not name[0].isalpha():
            name = f"pipeline_{name}"
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = _YAML.format(type_name=request.type_name, name=name)
        (request.target_path / "defs.yaml").write_text(text)
        (request.target_path / f"{name}.csv").write_text(_rows())


def _rows() -> str:
    draw = random.Random(42)
    lines = ["age,income,country,churned"]
    for _ in range(600):
        age, income = draw.randint(18, 80), round(draw.lognormvariate(10, 0.4), 2)
        country = draw.choice(["DE", "FR", "IT", "ES"])
        risk = 0.2 + 0.5 * (age < 35) - 0.15 * (country == "FR")
        lines.append(f"{age},{income},{country},{int(draw.random() < risk)}")
    return "\n".join(lines) + "\n"
