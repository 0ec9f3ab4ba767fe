"""Reports of a training, a test or a forecast: printed, on TensorBoard, as tables and as pictures."""
