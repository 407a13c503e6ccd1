"""Lightning trainer, callbacks, checkpoints, planning."""
