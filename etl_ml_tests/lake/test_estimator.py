"""Estimators at rest: equal bytes for equal estimators, and nothing runs that is not trusted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from etl_ml.lake.estimator import UntrustedModel, dump_estimator, load_estimator

TREE = {"sklearn.tree._tree.Tree"}


def fitted() -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 3))
    target = (features[:, 0] > 0).astype(int)
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0, max_depth=3))
    return model.fit(features, target), features


def test_an_estimator_answers_as_before() -> None:
    model, features = fitted()
    again = load_estimator(dump_estimator(model), trusted=TREE)
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))


def test_equal_estimators_are_equal_bytes_and_others_are_not() -> None:
    data = dump_estimator(fitted()[0])
    assert dump_estimator(fitted()[0]) == data
    assert dump_estimator(load_estimator(data, trusted=TREE)) == data
    other = fitted()[0].set_params(decisiontreeclassifier__max_depth=2)
    assert dump_estimator(other) != data


def test_equal_estimators_are_equal_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from etl_ml.lake.estimator import dump_estimator; "
        "from sklearn.linear_model import LogisticRegression; import numpy as np; "
        "x = np.arange(20.0).reshape(-1, 1); "
        "m = LogisticRegression().fit(x, np.where(x[:, 0] > 9, 'b', 'a')); "
        "print(hashlib.sha256(dump_estimator(m)).hexdigest())"
    )
    features = np.arange(20.0).reshape(-1, 1)
    model = LogisticRegression().fit(features, np.where(features[:, 0] > 9, "b", "a"))
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert hashlib.sha256(dump_estimator(model)).hexdigest() == elsewhere


def test_a_type_that_is_not_trusted_is_refused_by_name() -> None:
    with pytest.raises(UntrustedModel, match=r"not trusted: sklearn\.tree\._tree\.Tree"):
        load_estimator(dump_estimator(fitted()[0]), trusted=())


def test_a_function_in_an_estimator_is_refused_and_not_called(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    data = dump_estimator(FunctionTransformer(os.system, kw_args={"command": f"touch {ran}"}))
    with pytest.raises(UntrustedModel, match="not trusted"):
        load_estimator(data, trusted=TREE)
    assert not ran.exists()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(UntrustedModel, match="not a sound skops file"):
        load_estimator(pickle.dumps(Bomb(ran)), trusted=TREE)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Bomb(ran)))
    assert ran.exists(), "the bomb is a dud: the test proves nothing"


def tampered(data: bytes, **files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as sink:
        for name in source.namelist():
            suffix = name.rpartition(".")[2]
            sink.writestr(name, files.get(suffix, source.read(name)))
    return out.getvalue()


def test_a_pickled_array_in_the_archive_is_refused_and_does_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    array = io.BytesIO()
    np.save(array, np.array([Bomb(ran)], dtype=object), allow_pickle=True)
    data = tampered(dump_estimator(fitted()[0]), npy=array.getvalue())
    with pytest.raises(UntrustedModel):
        load_estimator(data, trusted=TREE)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen")]
)
def test_a_type_that_is_written_into_the_archive_is_refused(module: str, name: str) -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    data = dump_estimator(model)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read("schema.json"))
    schema["__module__"], schema["__class__"] = module, name
    with pytest.raises(UntrustedModel, match=f"not trusted: {module}"):
        load_estimator(tampered(data, json=json.dumps(schema).encode()), trusted=TREE)


def test_damage_is_refused_as_such() -> None:
    model, features = fitted()
    data = dump_estimator(model)
    chance = random.Random(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        cut = chance.randrange(len(data)) if chance.random() < 0.3 else len(data)
        try:
            again = load_estimator(bytes(damaged[:cut]), trusted=TREE)
        except UntrustedModel:
            refused += 1
        else:  # the archive's own time stamps and flags mean nothing
            np.testing.assert_array_equal(again.predict(features), model.predict(features))
    assert refused > 100
