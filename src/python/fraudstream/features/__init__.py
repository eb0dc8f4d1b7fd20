"""The feature library: definitions as data, and one engine for training and for the stream."""
