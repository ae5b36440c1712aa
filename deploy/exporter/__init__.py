"""`python -m deploy.exporter`: metrics that neither the server nor nginx has."""
