"""What a run writes down of itself, and reads again: metrics, scores, logs."""
