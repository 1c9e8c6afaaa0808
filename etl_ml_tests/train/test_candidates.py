from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from skops.io import get_untrusted_types

from etl_ml.lake.estimator import dump_estimator, load_estimator
from etl_ml.spec.training import CANDIDATES, Candidate, Task
from etl_ml.train.candidates import UnknownParameter, build
from etl_ml.train.fitting import _without_time
from etl_ml.train.trusted import BY_CANDIDATE, MODEL

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(240, 4)).astype(np.float32)
NOISY = FEATURES[:, 0] + RNG.normal(0, 0.3, 240)
TARGETS = {2: (NOISY > 0).astype(int), 3: np.digitize(NOISY, [-0.5, 0.5])}
FAST: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 10},
    "extra_trees": {"n_estimators": 10},
    "gradient_boosting": {"n_estimators": 10},
    "hist_gradient_boosting": {"max_iter": 10},
    "adaboost": {"n_estimators": 10},
    "xgboost": {"n_estimators": 10},
    "catboost": {"iterations": 10},
}


def fitted(name: str, classes: int, **params: Any) -> Any:
    candidate = Candidate(name=name, params=FAST.get(name, {}) | params)
    return model_of(candidate, "classification", TARGETS[classes])


def model_of(candidate: Candidate, task: Task, target: Any) -> Any:
    model = build(candidate, task=task, seed=1, cells=FEATURES.size).fit(FEATURES, target)
    if candidate.name == "catboost":
        _without_time(model)
    return model


def every_candidate() -> list[tuple[Task, str]]:
    tasks: list[Task] = ["classification", "regression"]
    return [(task, name) for task in tasks for name in CANDIDATES[task]]


def test_every_candidate_that_can_be_named_can_be_built_and_stored() -> None:
    assert set(BY_CANDIDATE) == {name for _, name in every_candidate()}
    for task, name in every_candidate():
        assert hasattr(build(Candidate(name=name), task=task, seed=0, cells=1), "fit")


@pytest.mark.parametrize("name", CANDIDATES["regression"])
def test_a_regressor_is_stored_and_loaded_with_its_own_trusted_types_only(name: str) -> None:
    candidate = Candidate(name=name, params=FAST.get(name, {}))

    def model() -> Any:
        return model_of(candidate, "regression", NOISY.astype(np.float64))

    data = dump_estimator(model())
    loaded = load_estimator(data, trusted=BY_CANDIDATE[name])
    assert np.array_equal(loaded.predict(FEATURES), model().predict(FEATURES))
    assert dump_estimator(model()) == data


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CANDIDATES["classification"])
def test_a_candidate_is_stored_and_loaded_with_its_own_trusted_types_only(
    name: str, classes: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(name, classes)
        data = dump_estimator(model)  # first: a tree of neighbours counts its questions
        answers = model.predict_proba(FEATURES)
    assert answers.shape == (240, classes)
    assert (answers.argmax(axis=1) == TARGETS[classes]).mean() > 0.75
    named = set(get_untrusted_types(data=data))
    assert named <= BY_CANDIDATE[name]
    regressors = {kind for kind in BY_CANDIDATE[name] if kind.endswith("Regressor")}
    if name != "k_nearest_neighbors":  # whose types depend on its parameters
        assert named == BY_CANDIDATE[name] - regressors
    loaded = load_estimator(data, trusted=BY_CANDIDATE[name])
    assert np.array_equal(loaded.predict_proba(FEATURES), answers)
    assert dump_estimator(fitted(name, classes)) == data


@pytest.mark.parametrize(
    "params",
    [
        {"p": 1},
        {"p": 3},
        {"metric": "chebyshev"},
        {"metric": "manhattan", "algorithm": "ball_tree"},
        {"algorithm": "ball_tree"},
        {"algorithm": "brute"},
        {"weights": "distance"},
    ],
    ids=str,
)
def test_neighbours_by_any_usual_distance_can_be_loaded_again(params: dict[str, Any]) -> None:
    model = fitted("k_nearest_neighbors", 2, **params)
    loaded = load_estimator(dump_estimator(model), trusted=MODEL)
    assert np.array_equal(loaded.predict_proba(FEATURES), model.predict_proba(FEATURES))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("gradient_boosting", {"loss": "exponential"}),
        ("gradient_boosting", {"init": "zero"}),
        ("hist_gradient_boosting", {"early_stopping": True}),
        ("lightgbm", {"boosting_type": "dart", "class_weight": "balanced"}),
        ("logistic_regression", {"solver": "saga", "max_iter": 5000}),
        ("random_forest", {"class_weight": "balanced", "oob_score": True, "n_estimators": 60}),
        ("svm", {"kernel": "linear"}),
        ("adaboost", {"learning_rate": 0.5}),
        ("decision_tree", {"max_leaf_nodes": 4}),
    ],
    ids=str,
)
def test_parameters_do_not_bring_types_that_are_not_trusted(
    name: str, params: dict[str, Any]
) -> None:
    model = fitted(name, 2, **params)
    loaded = load_estimator(dump_estimator(model), trusted=MODEL)
    assert np.array_equal(loaded.predict_proba(FEATURES), model.predict_proba(FEATURES))


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("random_forest", "n_estimator", "n_estimators"),
        ("logistic_regression", "c", None),
        ("svm", "gama", "gamma"),
        ("k_nearest_neighbors", "n_neighbor", "n_neighbors"),
        ("lightgbm", "num_leafs", "num_leaves"),
        ("adaboost", "estimator__max_depth", None),
    ],
)
def test_an_unknown_parameter_is_named_with_the_nearest(
    name: str, wrong: str, right: str | None
) -> None:
    with pytest.raises(UnknownParameter) as refused:
        build(Candidate(name=name, params={wrong: 1}), seed=0, cells=1)
    assert f"{name} has no parameter {wrong!r}" in refused.value.what
    assert right is None or refused.value.close == repr(right)
    assert "its parameters are" in (refused.value.fix or "")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("svm", {"C": 7.0}),
        ("logistic_regression", {"C": 7.0}),
        ("k_nearest_neighbors", {"n_neighbors": 7}),
    ],
    ids=str,
)
def test_parameters_reach_the_estimator_that_the_candidate_is_named_for(
    name: str, params: dict[str, Any]
) -> None:
    found = build(Candidate(name=name, params=params), seed=0, cells=1).get_params()
    ((key, value),) = params.items()
    assert [v for k, v in found.items() if k.rpartition("__")[2] == key] == [value]


def test_small_problems_run_in_one_thread_and_large_ones_in_all() -> None:
    small, large = (build(Candidate(name="lightgbm"), seed=0, cells=c) for c in (10, 10**8))
    assert (small.n_jobs, large.n_jobs) == (1, -1)


def test_the_seed_reaches_what_draws() -> None:
    without = {"k_nearest_neighbors", "linear_regression"}
    for task, name in every_candidate():
        params = build(Candidate(name=name), task=task, seed=77, cells=1).get_params()
        seeds = [v for key, v in params.items() if key.endswith(("random_state", "random_seed"))]
        assert 77 in seeds or name in without or (task, name) == ("regression", "svm")
