"""Looking at what there is: weights, checkpoints, runs, and where two of them differ."""
