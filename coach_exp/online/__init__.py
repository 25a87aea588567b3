"""The online component: semantic cache, thresholds, and the decision per task."""
