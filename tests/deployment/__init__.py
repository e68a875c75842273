"""Deployments, and the rehearsal."""
