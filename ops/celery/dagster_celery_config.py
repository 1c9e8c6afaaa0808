"""Settings of Celery workers that run steps: the module that `dagster_celery.app` looks for.

Start a worker with this folder on PYTHONPATH and the environment of a run: ETL_ML_LAKE, what
defs.yaml names, and what dagster.yaml names, since steps store their own events:

    celery -A dagster_celery.app worker -Q dagster --concurrency 1
"""

import os

broker_url = os.environ["ETL_ML_CELERY_BROKER"]
result_backend = os.environ["ETL_ML_CELERY_BACKEND"]

# Text only: a worker that takes pickles runs whatever somebody puts into the queue.
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]

# One step at a time, and none held back for later while another worker is idle.
worker_prefetch_multiplier = 1
# A step is acknowledged when it begins, so that a worker that dies does not make another run it a
# second time: the run fails, and Dagster's retries decide.
task_acks_late = False
# Redis hands out anew what was not acknowledged for so long; only what waits is meant.
broker_transport_options = {"visibility_timeout": 24 * 3600}
broker_connection_retry_on_startup = True
# Each process runs one step, so that memory is given back and code is loaded anew.
worker_max_tasks_per_child = 1
# Answers are the run's events; what nobody fetched is gone after a day.
result_expires = 24 * 3600
