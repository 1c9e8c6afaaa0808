# syntax=docker/dockerfile:1

# The code location as an image:
#   docker build --target code-location -t etl-ml .
#   docker run -p 4000:4000 -v lake:/var/lib/etl_ml etl-ml
# Credentials come at run time, from the environment that defs.yaml names; none is in the image.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# The locked packages first: they change less often than the code. All extras are in: one image
# reads every source and runs on one machine, Kubernetes or Celery.
COPY requirements-image.lock /tmp/
RUN pip install --no-deps --require-hashes -r /tmp/requirements-image.lock
# Installed in place, because Dagster finds a project's pipelines by the pyproject.toml above them.
WORKDIR /opt/etl_ml
COPY pyproject.toml setup.py README.md LICENSE ./
COPY etl_ml etl_ml
RUN pip install --no-deps --no-build-isolation -e . \
    && python -m compileall -q etl_ml

FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
# LightGBM's OpenMP. Not pinned: the base image's Debian has one version, and its fixes are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 etl_ml \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/etl_ml etl_ml \
    && install -d -o 10001 -g 10001 /var/lib/etl_ml /var/lib/etl_ml/dagster /var/lib/etl_ml/lake /var/lib/etl_ml/logs
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/etl_ml /opt/etl_ml
COPY --chown=10001:10001 ops/dagster.yaml /var/lib/etl_ml/dagster/dagster.yaml
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/var/lib/etl_ml/dagster \
    ETL_ML_LAKE=/var/lib/etl_ml/lake \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /opt/etl_ml
VOLUME /var/lib/etl_ml
USER 10001:10001

FROM runtime AS code-location
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", "etl_ml.definitions"]

# The scoring service: of a pipeline, of a target's URL, or of the package that SageMaker
# (/opt/ml/model) or Azure ML (AZUREML_MODEL_DIR) puts into its container.
#   docker build --target serve -t etl-ml-serve .
#   docker run --read-only --tmpfs /tmp -p 8080:8080 -v "$PWD/package:/opt/ml/model:ro" etl-ml-serve
# Nothing is written but to /tmp, and there only by several workers.
FROM runtime AS serve
ENV ETL_ML_SERVE_HOST=0.0.0.0 \
    ETL_ML_SERVE_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"ETL_ML_SERVE_PORT\"]}/ping', timeout=4)"]
# SageMaker starts its containers with the argument `serve`.
ENTRYPOINT ["etl-ml"]
CMD ["serve"]
