"""From a config to the objects it names."""
