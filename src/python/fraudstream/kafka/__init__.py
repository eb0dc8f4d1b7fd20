"""Topics and bounded reads: what every app needs of Kafka, and no more."""
