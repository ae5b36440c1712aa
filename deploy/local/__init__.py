"""A development server with the gRPC and REST API of TensorFlow Serving 2.21; see README.md."""
