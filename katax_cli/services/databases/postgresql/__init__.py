"""The abilities that only PostgreSQL has: COPY, and notifications."""
