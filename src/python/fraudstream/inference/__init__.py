"""The stream: Spark reads the topics, features and scores are computed, Kafka takes the results."""
