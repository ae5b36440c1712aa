"""Requests to a version, from gRPC, REST or warm-up."""
