"""The rows of applied migrations, and the intent written before each step."""
