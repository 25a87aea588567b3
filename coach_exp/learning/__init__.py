"""Data, models, training, and the answers of a split model."""
