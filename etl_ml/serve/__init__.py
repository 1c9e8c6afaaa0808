"""The scoring service: a package's model over HTTP."""
