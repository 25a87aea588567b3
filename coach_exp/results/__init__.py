"""From task records to metrics, MLflow runs, tables and pictures."""
