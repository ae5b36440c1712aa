"""Clients of any model: its status and its metadata."""
