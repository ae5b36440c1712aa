"""TensorFlow Serving's gRPC: `wire` knows the bytes, `transport` carries them."""
