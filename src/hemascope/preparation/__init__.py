"""What is done to pictures before a model sees them: another square, another scale, other colours, several views."""
