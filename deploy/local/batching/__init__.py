"""Merging the runs of several callers into one, by TensorFlow Serving's rules."""
