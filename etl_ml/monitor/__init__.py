"""Who is told of what, and what can be measured: alerts, Prometheus metrics, live traffic."""
