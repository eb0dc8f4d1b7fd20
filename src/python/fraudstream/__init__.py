"""Fraud on card payments, caught as it happens."""
