"""Pictures from arrays, in one style."""
