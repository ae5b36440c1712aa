"""A development server that speaks TensorFlow Serving 2.20's gRPC and REST; see README.md."""
