"""What people read of a training, a test or a forecast."""
