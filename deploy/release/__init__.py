"""Releasing a version: prove it, make it live step by step, go back."""
