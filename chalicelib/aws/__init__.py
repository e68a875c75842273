"""Everything that talks to AWS: one module for each foreign vocabulary."""
