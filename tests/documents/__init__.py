"""What the documents, the structure and the tools say is so."""
