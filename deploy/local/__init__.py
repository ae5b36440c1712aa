"""A development server that speaks TensorFlow Serving 2.21's gRPC and REST; see README.md."""
