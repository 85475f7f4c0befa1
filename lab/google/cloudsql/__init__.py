"""Cloud SQL: the Admin API, the instance with its port 3307, and the real PostgreSQL behind it."""
