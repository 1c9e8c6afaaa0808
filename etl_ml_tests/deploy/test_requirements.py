"""A package's requirements: exact, and all that is to be found by who loads it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from etl_ml.deploy import open_package
from etl_ml.deploy.push import Question
from etl_ml.deploy.requirements import requirements
from etl_ml.deploy.verify import NotLoadable
from etl_ml.lake import open_lake
from etl_ml.lake.estimator import dump_estimator
from etl_ml.transform import rows_of


def confined(text: str, then: str) -> subprocess.CompletedProcess[str]:
    """Confine a fresh process to requirements, and run a line in it."""
    code = f"from etl_ml.deploy.requirements import confine\nconfine({text!r})\n{then}"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def pinned(*names: str) -> str:
    return "".join(f"{name}=={metadata.version(name)}\n" for name in names)


def test_what_is_not_required_is_not_found() -> None:
    needed = pinned("numpy", "scikit-learn")
    assert confined(needed, "import numpy, sklearn, scipy, joblib").returncode == 0
    for other in ("lightgbm", "pandas", "dagster", "polars", "boto3"):
        done = confined(needed, f"import {other}")
        assert f"ModuleNotFoundError: No module named '{other}'" in done.stderr


def test_what_is_required_by_what_is_required_is_found() -> None:
    # pandas asks for pytz, python-dateutil and by that for six.
    assert confined(pinned("pandas"), "import pandas, pytz, dateutil, six").returncode == 0
    done = confined(pinned("pandas"), "import sklearn")
    assert "No module named 'sklearn'" in done.stderr


def test_the_standard_library_and_modules_of_ones_own_are_found() -> None:
    assert confined(pinned("numpy"), "import sqlite3, xml.etree, etl_ml_tests").returncode == 0


def test_another_version_is_told_before_anything_is_imported() -> None:
    done = confined("numpy==1.0.0\nnot-there==2.0\n", "print('reached')")
    assert done.returncode
    assert "reached" not in done.stdout
    assert f"numpy==1.0.0, installed is {metadata.version('numpy')}" in done.stderr
    assert "not-there==2.0, installed is none" in done.stderr
    assert "install what the package's requirements.txt says" in done.stderr


def test_they_name_what_the_models_types_are_of() -> None:
    from lightgbm import LGBMClassifier
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features, target = rng.normal(size=(60, 2)), np.arange(60) % 2
    linear = dump_estimator(LogisticRegression().fit(features, target))
    boosted = dump_estimator(LGBMClassifier(n_estimators=2, verbose=-1).fit(features, target))
    named = [
        {line.partition("==")[0] for line in requirements(model).splitlines()}
        for model in (linear, boosted)
    ]
    assert named[1] - named[0] == {"lightgbm"}
    assert {"scikit-learn", "numpy", "skops"} <= named[0]
    (also,) = {
        line for line in requirements(linear, ["onnxruntime"]).splitlines() if "onnx" in line
    }
    assert also == f"onnxruntime=={metadata.version('onnxruntime')}"


def test_a_package_is_asked_with_nothing_but_its_requirements(
    deployed: tuple[object, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(str(deployed[0]))
    package = open_package(lake, "loans", "0000000001")
    arrays = lake.open("loans", "transformed_arrays")
    clean = lake.open("loans", "clean_data")
    rows = rows_of(clean.table.scan(), arrays.read("test_rows.npy"))
    expected = package.model.predict_proba(rows)
    question = Question(rows.drop("defaulted"), expected)
    assert question.difference(package) <= 1e-12

    text = package.read("requirements.txt").decode()
    read = type(package).read
    version = metadata.version("scikit-learn")
    for changed, told in (
        (text.replace(f"scikit-learn=={version}", "scikit-learn==0.1"), "scikit-learn==0.1"),
        (pinned("numpy", "polars", "pyarrow"), "No module named"),
    ):
        forged = changed.encode()
        monkeypatch.setattr(
            "etl_ml.deploy.verify.Package.copy",
            lambda package, to, forged=forged: _copied(package, to, read, forged),
        )
        with pytest.raises(NotLoadable, match="a fresh process could not load it") as caught:
            question.difference(package)
        assert told in str(caught.value)


def _copied(package, to, read, forged):  # type: ignore[no-untyped-def]
    """With other requirements, and a manifest that says so."""
    manifest = json.loads(json.dumps(package.manifest))
    for entry in manifest["files"]:
        data = read(package, entry["path"])
        if entry["path"] == "requirements.txt":
            data = forged
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        to.put(entry["path"], data)
    to.put("manifest.json", json.dumps(manifest).encode())
