"""Register a release folder with MLflow alone, as the last lines of any training script would."""

import sys

import mlflow

folder, model, uri = sys.argv[1], sys.argv[2], sys.argv[3]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
mlflow.set_experiment(f"{model} training")
with mlflow.start_run() as run:
    mlflow.log_artifacts(folder, "release")
version = client.create_model_version(model, f"{run.info.artifact_uri}/release", run.info.run_id)
print(f"{model} version {version.version}")
