"""What is known of the versions of a model: facts, the status that follows from them, and how MLflow is told."""
