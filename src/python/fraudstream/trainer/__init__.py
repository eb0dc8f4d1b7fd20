"""Kafka -> dataset -> training -> evaluation -> MLflow: one run makes one version of the model."""
