"""`python -m etl_ml.cli` is `etl-ml`."""

from etl_ml.cli import main

main()
