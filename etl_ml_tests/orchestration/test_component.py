"""The component: what a defs.yaml becomes, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from etl_ml_tests.project import Project, attributes, loans

ASSETS = (
    "raw_data",
    "validated_data",
    "quarantined_data",
    "clean_data",
    "transformed_arrays",
    "trained_model",
    "model_evaluation",
    "deployed_model",
)


def test_one_file_becomes_the_whole_graph(project: Project) -> None:
    project.add()
    with project.loaded() as defs:
        graph = defs.resolve_asset_graph()
        keys = {key.path[-1]: graph.get(key) for key in graph.get_all_asset_keys()}
        assert set(keys) == set(ASSETS)
        parents = {name: {p.path[-1] for p in node.parent_keys} for name, node in keys.items()}
        assert parents == {
            "raw_data": set(),
            "validated_data": {"raw_data"},
            "quarantined_data": {"raw_data"},
            "clean_data": {"validated_data"},
            "transformed_arrays": {"clean_data"},
            "trained_model": {"transformed_arrays"},
            "model_evaluation": {"trained_model", "transformed_arrays", "clean_data"},
            "deployed_model": {
                "model_evaluation",
                "trained_model",
                "transformed_arrays",
                "clean_data",
            },
        }
        assert {node.group_name for node in keys.values()} == {"loans"}
        assert defs.resolve_job_def("loans_job").name == "loans_job"


def test_every_asset_says_what_it_is(project: Project) -> None:
    project.add(attributes(owners=["team:risk", "a@b.example"]))
    with project.loaded() as defs:
        for spec in defs.resolve_all_asset_specs():
            assert spec.description
            assert spec.kinds
            assert list(spec.owners) == ["team:risk", "a@b.example"]
            assert spec.code_version


def test_the_checks_and_which_of_them_block(project: Project) -> None:
    project.add()
    with project.loaded() as defs:
        graph = defs.resolve_asset_graph()
        blocking = {
            (key.asset_key.path[-1], key.name): graph.get(key).blocking
            for key in graph.asset_check_keys
        }
    assert blocking == {
        ("validated_data", "schema"): True,
        ("validated_data", "row_count"): True,
        ("validated_data", "quarantined_share"): True,
        ("validated_data", "target"): True,
        ("validated_data", "nulls"): False,
        ("validated_data", "values"): False,
        ("validated_data", "unique"): False,
        ("validated_data", "drift"): False,
        ("transformed_arrays", "no_leakage"): True,
        ("transformed_arrays", "finite"): True,
        ("model_evaluation", "gates"): False,
        ("model_evaluation", "overfit"): False,
        ("model_evaluation", "champion"): False,
        ("deployed_model", "answers_as_trained"): True,
    }


def test_drift_blocks_when_it_is_asked_to(project: Project) -> None:
    project.add(attributes(validation={"drift": {"on_drift": "fail"}}))
    with project.loaded() as defs:
        graph = defs.resolve_asset_graph()
        assert {k.name for k in graph.asset_check_keys if graph.get(k).blocking} >= {"drift"}


def test_a_code_version_changes_with_its_own_section_only(project: Project) -> None:
    def versions(**sections: object) -> dict[str, str | None]:
        project.add(attributes(**sections))
        with project.loaded() as defs:
            return {s.key.path[-1]: s.code_version for s in defs.resolve_all_asset_specs()}

    before, after = versions(), versions(training={"seed": 7, "folds": 3})
    assert {name for name in before if before[name] != after[name]} == {
        "trained_model",
        "model_evaluation",
    }


def test_the_column_schema_shows_the_contract(project: Project) -> None:
    project.add()
    with project.loaded() as defs:
        spec = next(s for s in defs.resolve_all_asset_specs() if s.key.path[-1] == "clean_data")
    columns = {c.name: c for c in spec.metadata["dagster/column_schema"].columns}
    assert columns["age"].type == "integer"
    assert columns["age"].constraints.other == ["min: 18", "max: 100"]
    assert columns["defaulted"].description == "target"
    assert not columns["defaulted"].constraints.nullable


def test_a_sensitive_column_shows_no_value_in_the_schema(project: Project) -> None:
    sensitive = attributes()
    sensitive["contract"]["columns"]["country"]["sensitive"] = True
    project.add(sensitive)
    with project.loaded() as defs:
        shown = [str(s.metadata) for s in defs.resolve_all_asset_specs()]
    assert any("sensitive" in text for text in shown)
    assert not any("DE, FR" in text for text in shown)


def test_two_pipelines_load_in_one_project(project: Project) -> None:
    project.add()
    project.add(attributes(name="cards"), folder="cards")
    with project.loaded() as defs:
        groups = {spec.group_name for spec in defs.resolve_all_asset_specs()}
        jobs = {job.name for job in defs.resolve_all_job_defs()}
    assert groups == {"loans", "cards"}
    assert {"loans_job", "cards_job"} <= jobs


def test_two_pipelines_of_one_name_are_refused(project: Project) -> None:
    project.add(folder="first")
    project.add(folder="second")
    with (
        pytest.raises(Exception, match="two pipelines have this name") as refused,
        project.loaded(),
    ):
        pass
    assert "first/defs.yaml" in str(refused.value)
    assert "second/defs.yaml" in str(refused.value)


def test_two_documents_of_one_name_in_one_file_are_refused(project: Project) -> None:
    file = project.add() / "defs.yaml"
    file.write_text(f"{file.read_text()}---\n{file.read_text()}")
    with pytest.raises(Exception, match="two pipelines have this name"), project.loaded():
        pass


def test_a_project_with_its_own_executor_and_io_manager_loads_and_runs(project: Project) -> None:
    project.add()
    project.write_definitions(
        """
        from pathlib import Path

        import dagster as dg


        @dg.asset
        def report(validated: int) -> None: ...


        @dg.asset
        def validated() -> int:
            return 1


        @dg.definitions
        def defs() -> dg.Definitions:
            pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
            own = dg.Definitions(
                assets=[report, validated],
                executor=dg.multiprocess_executor,
                resources={"io_manager": dg.mem_io_manager},
            )
            return dg.Definitions.merge(pipelines, own)
        """
    )
    done = project.run(project.dagster_materialize('key:"loans/raw_data"'))
    assert done.returncode == 0, done.stderr
    assert project.lake.versions("loans", "raw_data") == ["0000000001"]


def test_a_misspelt_key_is_the_last_thing_that_the_command_says(project: Project) -> None:
    misspelt = attributes()
    misspelt["contract"]["columns"]["age"]["mn"] = 3
    project.add(misspelt)
    done = project.run(project.dagster_materialize("group:loans"))
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-4:]
    assert "'contract.columns.age.mn' is not a key of etl_ml.TabularPipeline." in last[0]
    assert last[1].endswith("defs/loans/defs.yaml")
    assert last[2].endswith("'min'")
    assert not (project.root / ".etl_ml").exists()


def test_a_missing_environment_variable_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(attributes(source={"path": "{{ env.LOANS_FILE }}"}), data=b"")
    monkeypatch.delenv("LOANS_FILE", raising=False)
    with pytest.raises(Exception, match="LOANS_FILE is not set"), project.loaded():
        pass


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{{ env.LOANS_FILE }}", "there.csv"),
        ("{{ env.LOANS_FILE or 'loans.csv' }}", "there.csv"),
        ("{{ env.NOT_SET_ANYWHERE or 'loans.csv' }}", "loans.csv"),
    ],
)
def test_templates_are_filled_with_text(
    project: Project, monkeypatch: pytest.MonkeyPatch, template: str, path: str
) -> None:
    monkeypatch.setenv("LOANS_FILE", "there.csv")
    home = project.add(attributes(source={"path": template}), data=b"")
    loans().write_csv(home / path)
    result = project.materialize("raw_data")
    assert result.success


def test_text_that_looks_like_a_number_stays_text(project: Project) -> None:
    coded = attributes()
    coded["contract"]["columns"]["country"]["allowed"] = ["01", "2"]
    project.add(coded)
    with project.loaded() as defs:
        shown = [str(s.metadata) for s in defs.resolve_all_asset_specs()]
    assert any("allowed: 01, 2" in text for text in shown)


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    code = (
        "import json, sys, etl_ml.definitions as d; d.defs(); "
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    heavy = {
        "pandas",
        "polars",
        "pyarrow",
        "numpy",
        "scipy",
        "sklearn",
        "lightgbm",
        "skops",
        "narwhals",
        "matplotlib",
        "deltalake",
        "obstore",
        "boto3",
        "botocore",
        "azure",
        "pymongo",
        "dagster_aws",
        "dagster_azure",
        "dagster_pandas",
    }
    assert not loaded & heavy


def test_the_package_itself_imports_no_dagster() -> None:
    code = "import sys, etl_ml, etl_ml.spec, etl_ml.lake; assert 'dagster' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["multiprocess", "in_process"])
def test_the_environment_names_the_executor(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import etl_ml

    monkeypatch.setenv("ETL_ML_EXECUTOR", name)
    assert etl_ml.executor().name == name


def test_an_unknown_executor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import etl_ml
    from etl_ml.spec import EtlMlError

    monkeypatch.setenv("ETL_ML_EXECUTOR", "multiproces")
    with pytest.raises(EtlMlError, match="multiproces") as refused:
        etl_ml.executor()
    assert refused.value.close == "'multiprocess'"


class TestDgCommands:
    """`dg`'s own commands, from a project outside this repository; quiet where all is well."""

    def test_check_defs(self, project: Project) -> None:
        project.add()
        done = project.command("dg", "check", "defs")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""

    def test_list_defs(self, project: Project) -> None:
        project.add()
        done = project.command("dg", "list", "defs", "--json")
        assert done.returncode == 0
        assert done.stderr == ""
        assert "loans/deployed_model" in done.stdout

    def test_list_components(self, project: Project) -> None:
        done = project.command("dg", "list", "components", "--json")
        assert done.returncode == 0
        assert "etl_ml.TabularPipeline" in done.stdout

    def test_scaffolded_defs_load_and_run(self, project: Project) -> None:
        made = project.command("dg", "scaffold", "defs", "etl_ml.TabularPipeline", "churn")
        assert made.returncode == 0, made.stderr
        checked = project.command("dg", "check", "defs")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        result = project.materialize(pipeline="churn")
        assert result.success
        assert project.lake.versions("churn", "deployed_model") == ["0000000001"]


def test_the_embedded_pipeline_loads() -> None:
    from etl_ml.definitions import defs

    loaded = defs()
    keys = {key.to_user_string() for key in loaded.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {f"phishing/{asset}" for asset in ASSETS}
