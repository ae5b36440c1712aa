"""TensorFlow Serving's REST: `wire` knows the bytes, `transport` and `http11` carry them."""
