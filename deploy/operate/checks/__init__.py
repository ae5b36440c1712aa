"""What server, gateway and Prometheus will read, held to their own rules before they read it.

Each check gives sentences, one for each thing that is wrong.
"""
