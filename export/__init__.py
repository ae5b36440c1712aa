"""Train the digit network and publish it as a version that TensorFlow Serving can load."""
