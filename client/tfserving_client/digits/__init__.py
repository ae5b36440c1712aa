"""Clients of models that read handwritten digits: pictures in, digits out."""
