"""Check the files of server, gateway and Prometheus by their own rules before they read them.

Each check yields one sentence for each mistake.
"""
