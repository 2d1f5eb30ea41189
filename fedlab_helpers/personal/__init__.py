"""A model for each client: people, methods, and how these are compared."""
