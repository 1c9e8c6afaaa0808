"""What runs etl_ml elsewhere: compose, Kubernetes, workflows, the image, Dagster's settings.

No engine and no cluster is needed: each file is held against its schema and read by the tools that
know its kind, and what can run here runs. What needs an engine runs in ci.yml.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import psycopg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from packaging.specifiers import SpecifierSet

from etl_ml_tests.project import Project
from etl_ml_tests.servers.postgresql import PostgreSQL

REPOSITORY = Path(__file__).parents[1]
OPS = REPOSITORY / "ops"
COMPOSE = OPS / "docker-compose.yaml"
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
KUBERNETES = "1.37"
BIN = Path(sys.executable).parent

services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
scoring: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for document in yaml.safe_load_all((OPS / "kubernetes" / "scoring.yaml").read_text())
}
values: dict[str, Any] = yaml.safe_load((OPS / "kubernetes" / "values.yaml").read_text())


def _passes(*command: str | Path, **environment: str) -> str:
    """What a tool of this environment prints when it finds nothing wrong."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- Compose ---------------------------------------------------------------------------------------


def test_compose_keeps_its_schema() -> None:
    _passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def _as_started(service: dict[str, Any]) -> list[str]:
    shown: list[str] = service.get("command") or []
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", part) for part in shown]


@pytest.mark.parametrize("name", services)
def test_a_service_has_no_more_than_it_needs(name: str) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("privileged") is None
    # Their folders belong to root, and root without capabilities is nobody else.
    assert re.fullmatch(r"[1-9]\d*:\d+", service.get("user", "")) or name in ("s3", "azurite")
    assert service.get("read_only") or name == "kafka"
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "nothing is reached from other machines"


@pytest.mark.parametrize("name", services)
def test_a_service_is_known_to_be_healthy(name: str) -> None:
    service = services[name]
    assert "healthcheck" in service or service["restart"] == "no"
    for other, how in service.get("depends_on", {}).items():
        once = services[other].get("restart") == "no"
        wanted = "service_completed_successfully" if once else "service_healthy"
        assert how["condition"] == wanted
        profiles = set(services[other].get("profiles", []))
        assert (
            profiles >= set(service.get("profiles", [])) or not profiles or not how["required"]
        ), f"{other} is not there whenever {name} is"


@pytest.mark.parametrize("name", services)
def test_an_image_is_named_by_version(name: str) -> None:
    image: str = services[name]["image"]
    assert re.search(r":(v?\d+\.\d+[\w.-]*|\$\{ETL_ML_IMAGE_TAG:-local\})$", image)


def test_no_secret_is_in_the_file_and_each_is_in_the_template() -> None:
    text = COMPOSE.read_text()
    template = (OPS / ".env.example").read_text()
    always = set(re.findall(r"^([A-Z0-9_]+)=$", template, re.MULTILINE))
    optional = set(re.findall(r"^#([A-Z0-9_]+)=", template, re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))
    assert used == always | optional
    assert set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+):\?", text)) <= always
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_KEY|AUTH|ACCOUNTS", variable):
                assert "${" in value or variable == "MARIADB_RANDOM_ROOT_PASSWORD", (name, variable)
    ignored = _passes("git", "check-ignore", "ops/.env", "ops/pipelines.env", "ops/serve.env")
    assert len(ignored.split()) == 3


def test_volumes_are_named_and_what_is_mounted_is_there() -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    named = set()
    for service in services.values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if not source.startswith("."):
                named.add(source)
                continue
            assert rest.endswith(":ro")
            assert (OPS / source).exists(), source
    assert named == set(document["volumes"])


def _options_of(command: list[str]) -> tuple[list[str], set[str]]:
    """The program with its subcommands, and the options that it is given."""
    program: list[str] = []
    for part in command:
        if part.startswith("-"):
            break
        program.append(part)
    rest = command[len(program) :]
    return program, {part.partition("=")[0] for part in rest if part.startswith("-")}


OURS = {name: s for name, s in services.items() if s["image"].startswith("etl-ml")}
COMMANDS = [
    *((f"compose {name}", _as_started(service)) for name, service in OURS.items()),
    *(
        (f"compose {name} health", service["healthcheck"]["test"][1:])
        for name, service in OURS.items()
        if service.get("healthcheck", {}).get("test", ["", ""])[1] in ("dagster", "dagster-daemon")
    ),
    ("kubernetes", scoring["Deployment"]["spec"]["template"]["spec"]["containers"][0]["command"]),
]


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_a_command_and_its_options_exist(where: str, command: list[str]) -> None:
    program, options = _options_of(command)
    if program[0] == "etl-ml":
        program = program[:2]
    if program[0] == "celery":
        program = ["celery", "worker"]
        options -= {"-A"}
    help_of = _passes(BIN / program[0], *program[1:], "--help", COLUMNS="200", TERMINAL_WIDTH="200")
    for option in options:
        assert re.search(rf"(?<![\w-]){option}\b", help_of), f"{option} in\n{help_of}"


def test_the_code_location_is_the_one_that_dagster_is_told_of() -> None:
    workspace = yaml.safe_load((OPS / "compose" / "workspace.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    location = services["code-location"]["command"]
    assert server["host"] in services
    assert str(server["port"]) == location[location.index("-p") + 1]
    assert server["location_name"] == location[location.index("-m") + 1]


# -- Dagster's settings ----------------------------------------------------------------------------


@pytest.fixture
def compose_home(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[Path]:
    """DAGSTER_HOME as the compose services have it, on a database of its own."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    settings = (OPS / "compose" / "dagster.yaml").read_text()
    assert settings.count("port: 5432") == settings.count("/var/lib/etl_ml/logs") == 1
    settings = settings.replace("port: 5432", f"port: {postgresql.port}")
    (home / "dagster.yaml").write_text(settings.replace("/var/lib/etl_ml/logs", f"{home}/logs"))
    named = {"HOST": "127.0.0.1", "USER": "tests", "PASSWORD": postgresql.password}
    named |= {"DB": postgresql.database()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(f"DAGSTER_POSTGRES_{name}", value)
        yield home


def test_a_run_is_stored_in_postgresql(
    compose_home: Path, postgresql: PostgreSQL, project: Project
) -> None:
    # The command of the service `migrate`, which makes the tables.
    migrated = _passes(BIN / "dagster", "instance", "migrate", DAGSTER_HOME=str(compose_home))
    project.add()
    with dg.DagsterInstance.from_config(str(compose_home)) as instance:
        result = project.materialize("raw_data", instance=instance)
        assert result.success
        kept = instance.get_latest_materialization_event(dg.AssetKey(["loans", "raw_data"]))
        assert kept is not None
        assert kept.run_id == result.run_id
    database = os.environ["DAGSTER_POSTGRES_DB"]
    with psycopg.connect(postgresql.url(database)) as connection:
        stored = connection.execute("SELECT run_id, status FROM runs").fetchall()
    assert stored == [(result.run_id, "SUCCESS")]
    assert postgresql.password not in migrated


def test_storage_that_was_backed_up_is_restored(
    compose_home: Path, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with dg.DagsterInstance.from_config(str(compose_home)) as instance:
        instance.add_dynamic_partitions("days", ["2026-01-01"])
    dump, programs = tmp_path / "dagster.dump", Path(str(PostgreSQL.found())).parent
    there, here = os.environ["DAGSTER_POSTGRES_DB"], postgresql.database()
    _passes(
        *(programs / "pg_dump", "--format=custom", f"--file={dump}"),
        f"--dbname={postgresql.url(there)}",
    )
    restore = [programs / "pg_restore", "--clean", "--if-exists"]
    _passes(*restore, f"--dbname={postgresql.url(here)}", dump)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_DB", here)
        _passes(BIN / "dagster", "instance", "migrate", DAGSTER_HOME=str(compose_home))
        with dg.DagsterInstance.from_config(str(compose_home)) as instance:
            assert instance.get_dynamic_partitions("days") == ["2026-01-01"]


def test_the_settings_are_what_they_say(compose_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(compose_home)) as instance:
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        assert type(instance.schedule_storage).__name__ == "PostgresScheduleStorage"
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        concurrency = instance.get_concurrency_config()
        assert concurrency.run_queue_config is not None
        assert concurrency.run_queue_config.max_concurrent_runs == 4
        assert concurrency.pool_config.default_pool_limit == 4
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == 86400
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled


def test_the_settings_of_one_machine_load(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((OPS / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_storage).__name__ == "SqliteRunStorage"
        assert instance.python_log_level == "INFO"


# -- Kubernetes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", scoring)
def test_a_manifest_keeps_the_schema_of_kubernetes(kind: str) -> None:
    kubernetes_validate.validate(scoring[kind], KUBERNETES, strict=True)


def test_the_manifests_belong_together() -> None:
    deployment, service = scoring["Deployment"], scoring["Service"]
    template = deployment["spec"]["template"]
    [container] = template["spec"]["containers"]
    labels = template["metadata"]["labels"].items()
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        scoring["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        scoring["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    [port] = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert scoring["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == 8080
    command = container["command"]
    assert int(command[command.index("--port") + 1]) == port["containerPort"] == 8080
    scaled = scoring["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaled["minReplicas"] > scoring["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    assert "replicas" not in deployment["spec"], "they would be reset by each apply"
    assert template["spec"]["serviceAccountName"] == scoring["ServiceAccount"]["metadata"]["name"]
    slow = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template["spec"]["terminationGracePeriodSeconds"] > slow + 30  # of a slow request


def test_the_scoring_pod_may_do_little() -> None:
    pod = scoring["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert not any("value" in variable for variable in container.get("env", []))


def test_the_values_are_of_the_dagster_that_is_installed() -> None:
    text = (OPS / "kubernetes" / "values.yaml").read_text()
    [version] = re.findall(r"--version (\S+)", text)
    [asked] = re.findall(r'"dagster(~=[\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert SpecifierSet(asked).contains(version)


def test_dagster_takes_the_settings_that_the_chart_hands_on() -> None:
    given = values["additionalInstanceConfig"]
    processed = process_config(dagster_instance_config_schema(), given)
    assert processed.success, processed.errors
    compose = yaml.safe_load((OPS / "compose" / "dagster.yaml").read_text())
    assert {key: set(given[key]) for key in given} == {key: set(compose[key]) for key in given}
    # The chart writes these itself when they are enabled, and a key is given once.
    assert not values["dagsterDaemon"]["runMonitoring"]["enabled"]
    assert not values["dagsterDaemon"]["runRetries"]["enabled"]


def test_postgresql_is_reached_by_the_driver_that_dagster_stores_runs_with() -> None:
    compose = yaml.safe_load((OPS / "compose" / "dagster.yaml").read_text())
    scheme = compose["storage"]["postgres"]["postgres_db"]["scheme"]
    assert values["postgresql"]["postgresqlScheme"] == scheme == "postgresql+psycopg2"
    assert values["postgresql"]["postgresqlParams"] == {"sslmode": "require"}


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", name)


def test_the_run_launcher_makes_pods_that_may_do_little() -> None:
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
    from dagster_k8s.launcher import K8sRunLauncher
    from kubernetes.client import ApiClient

    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    given = {_snake(key): value for key, value in launcher.items()}
    given["run_k8s_config"] = {_snake(k): v for k, v in given["run_k8s_config"].items()}
    named = {"instance_config_map": "instance", "dagster_home": "/opt/dagster/dagster_home"}
    named |= {"service_account_name": "etl-ml-runs", "postgres_password_secret": "postgresql"}
    processed = process_config(K8sRunLauncher.config_type(), given | named)
    assert processed.success, processed.errors
    [deployment] = values["dagster-user-deployments"]["deployments"]
    of_launcher = K8sContainerContext.create_from_config(
        {"k8s": {"run_k8s_config": given["run_k8s_config"], "labels": given["labels"]}}
    )
    of_location = K8sContainerContext.create_from_config(
        {"k8s": {_snake(k): deployment[k] for k in ("resources", "volumes", "volumeMounts")}}
    )
    job = construct_dagster_k8s_job(
        job_config=DagsterK8sJobConfig(job_image="etl-ml:1", dagster_home="/opt/dagster"),
        args=["dagster", "api", "execute_run"],
        job_name="run",
        user_defined_k8s_config=of_launcher.merge(of_location).run_k8s_config,
    )
    document = ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    pod = document["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert container["resources"]["limits"]["memory"]
    assert document["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("of", ["dagsterWebserver", "dagsterDaemon", "deployment"])
def test_the_charts_pods_may_do_little(of: str) -> None:
    [deployment] = values["dagster-user-deployments"]["deployments"]
    given = deployment if of == "deployment" else values[of]
    container = {"name": "dagster", "image": "dagster:1", "resources": given["resources"]}
    container["securityContext"] = given["securityContext"]
    pod = {"containers": [container], "securityContext": given["podSecurityContext"]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert given["podSecurityContext"]["runAsNonRoot"]
    assert not given["securityContext"]["allowPrivilegeEscalation"]


# -- The image -------------------------------------------------------------------------------------


def test_the_dockerfile_is_in_order() -> None:
    _passes(BIN / "hadolint", "Dockerfile")


def test_what_the_image_is_made_of_reaches_the_builder() -> None:
    allowed = {
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split() if line[0] == "!"
    }
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", (REPOSITORY / "Dockerfile").read_text(), re.M):
        copied |= set([part for part in line.split() if not part.startswith("--")][:-1])
    assert copied <= allowed
    assert all((REPOSITORY / name).exists() for name in allowed)


def test_the_image_has_what_its_settings_need() -> None:
    locked = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", _lock("requirements-image.lock"), re.M))
    assert {"dagster-postgres", "dagster-k8s", "dagster-celery", "redis", "psycopg"} <= locked


def _lock(name: str) -> str:
    return (REPOSITORY / name).read_text()


@pytest.mark.parametrize("target", [s["build"]["target"] for s in OURS.values() if "build" in s])
def test_a_target_that_is_built_is_in_the_dockerfile(target: str) -> None:
    targets = re.findall(r"^FROM .* AS (\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    assert target in targets


# -- Workflows and scripts -------------------------------------------------------------------------


def test_workflows_are_in_order() -> None:
    _passes(BIN / "actionlint", *WORKFLOWS)  # with shellcheck over what they run


def test_workflows_are_safe() -> None:
    _passes(BIN / "zizmor", "--offline", "--pedantic", "--quiet", *WORKFLOWS)


def test_scripts_are_in_order() -> None:
    _passes(
        BIN / "shellcheck", *(REPOSITORY / ".ci" / name for name in ("run", "servers", "wheel"))
    )


def _steps(workflow: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((REPOSITORY / ".github" / "workflows" / workflow).read_text())
    return [step for job in document["jobs"].values() for step in job["steps"]]


def _run(workflow: str, name: str, folder: Path, **environment: str) -> Any:
    """One step of a workflow, run as the runner does."""
    [script] = [step["run"] for step in _steps(workflow) if step.get("name") == name]
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_action_has_one_version() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: (\S+)@([0-9a-f]{40} # v\S+)", path.read_text()):
            pins.setdefault(action, set()).add(pin)
    assert pins
    assert all(len(versions) == 1 for versions in pins.values()), pins


def test_clouds_are_entered_without_a_kept_credential() -> None:
    for path in WORKFLOWS:
        used = set(re.findall(r"secrets\.(\w+)", path.read_text()))
        assert used <= {"ETL_ML_SIGNING_KEY"}, f"{path.name}: {used}"


CARD = "The model card, and whether the model is deployable"


def test_retraining_shows_the_model_card(demo: Project, tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text("{}")
    summary = tmp_path / "summary.md"
    environment = {"PIPELINE": "phishing", "ETL_ML_LAKE": str(demo.root / ".etl_ml" / "lake")}
    environment |= {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(REPOSITORY)}
    done = _run("retrain.yml", CARD, tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    version = demo.lake.latest("phishing", "model_evaluation")
    assert version is not None
    card = demo.lake.open("phishing", "model_evaluation", version).read("model_card.md")
    assert summary.read_text() == card
    # The same again is no new model.
    before = {"model_evaluation": {"version": version}}
    (tmp_path / "before.json").write_text(json.dumps(before))
    again = _run("retrain.yml", CARD, tmp_path, **environment)
    assert again.returncode != 0
    assert f"::error::the run evaluated no model; the latest is still {version}" in again.stderr


def test_retraining_fails_when_nothing_is_deployable(project: Project, tmp_path: Path) -> None:
    from etl_ml_tests.project import attributes

    project.add(attributes(evaluation={"gates": {"f1": 0.999}}))
    assert project.materialize().success
    (tmp_path / "before.json").write_text("{}")
    environment = {"PIPELINE": "loans", "ETL_ML_LAKE": str(project.root / ".etl_ml" / "lake")}
    summary = tmp_path / "summary.md"
    environment |= {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(REPOSITORY)}
    done = _run("retrain.yml", CARD, tmp_path, **environment)
    assert done.returncode != 0
    assert "::error::not deployable: " in done.stderr
    assert "f1" in done.stderr
    assert summary.read_text()


@pytest.mark.parametrize(
    ("lake", "pipeline", "good"),
    [
        ("s3://bucket/lake", "phishing", True),
        ("az://container/lake", "phishing", True),
        ("", "phishing", False),
        (".etl_ml/lake", "phishing", False),
        ("s3://bucket/lake", "phishing; curl evil", False),
    ],
)
def test_retraining_begins_with_names_that_are_names(
    lake: str, pipeline: str, good: bool, tmp_path: Path
) -> None:
    name = "The lake and the pipeline are named"
    done = _run("retrain.yml", name, tmp_path, ETL_ML_LAKE=lake, PIPELINE=pipeline)
    assert (done.returncode == 0) == good
    assert ("::error::" in done.stdout) != good


@pytest.mark.parametrize(
    ("name", "ours", "good"),
    [
        ("our-platform", "our_platform", True),
        ("our-platform", "", False),
        ("our-platform", "another", False),
        ("etl_ml", "etl-ml", False),  # somebody else's, whatever the variable says
        ("ETL.ML", "etl-ml", False),
    ],
)
def test_nothing_is_published_under_a_name_that_is_not_ours(
    name: str, ours: str, good: bool, tmp_path: Path
) -> None:
    (tmp_path / "dist").mkdir()
    with zipfile.ZipFile(tmp_path / "dist" / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "a-1.dist-info/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n"
        )
    done = _run("release.yml", "The name is ours", tmp_path, OURS=ours)
    assert (done.returncode == 0) == good, done.stdout + done.stderr
    assert ("nothing is published" in done.stdout) != good
