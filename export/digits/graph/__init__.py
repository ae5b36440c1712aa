"""What the published graph does with pixels and pictures, and its signatures."""
