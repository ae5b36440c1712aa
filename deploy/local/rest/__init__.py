"""The REST port: URLs, JSON and the page."""
