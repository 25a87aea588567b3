"""Torch at work: the answers of a split model, both sides of it, exit heads."""
