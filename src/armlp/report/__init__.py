"""Reports of a training, a test or a forecast: printed, on TensorBoard, and as tables and pictures."""
