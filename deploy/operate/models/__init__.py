"""Which models are served: put into this machine's configuration, taken out of it, and listed."""
