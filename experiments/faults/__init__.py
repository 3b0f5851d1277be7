"""Kills at random moments: what a run is worth after it was cut off and started again. See `experiments.faults.kills`."""
