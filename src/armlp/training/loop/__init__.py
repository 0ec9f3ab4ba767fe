"""What surrounds the steps of a training: the Trainer, its callbacks, its checkpoints and its events."""
