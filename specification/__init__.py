"""Generates and validates docs/asyncapi.yaml. Not shipped to Lambda."""
