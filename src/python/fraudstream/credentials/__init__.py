"""A program that makes what a secured Kafka and its clients need, where no stack of ours runs."""
