"""The scoring service, and scoring in batches."""
