"""What several test modules need: references, graphs, records, data made on the spot."""
