"""The service: everything that runs on Lambda besides app.py."""
