"""Which models are served: added to this machine's configuration, removed from it, and listed."""
