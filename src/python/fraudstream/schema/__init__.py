"""The wire contract: JSON Schemas of the topics, validation, and decoding into columns."""
