"""The door to MLflow: versions of the registered models, where their files may lie, and what MLflow said last."""
