"""Releases: verify a version, make it live step by step, roll back."""
