"""What is kept of a run: MLflow, provenance, files."""
