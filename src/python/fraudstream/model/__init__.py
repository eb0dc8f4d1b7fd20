"""The detector: its network, the bundle it ships in, and why it flagged a transaction.

`network` is for training and needs torch; `bundle` and `reasons` are what serves, and need only
onnxruntime.
"""
