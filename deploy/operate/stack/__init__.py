"""The containers: start, status and removal."""
