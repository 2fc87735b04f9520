"""When a prediction should not be trusted, where a model fails, and what it was made from."""
