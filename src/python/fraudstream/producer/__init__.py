"""Transactions and labels, simulated or recorded, to Kafka: each checked and acknowledged."""
