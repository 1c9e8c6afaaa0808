"""The only Dagster code: component, assets, checks, IO manager, executor."""
