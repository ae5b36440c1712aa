"""`python -m deploy.exporter`: tells Prometheus what neither the server nor nginx tells it."""
