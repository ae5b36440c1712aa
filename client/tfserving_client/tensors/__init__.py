"""Tensors: TensorFlow's dtypes as numpy's, and what callers hold as what a signature takes."""
