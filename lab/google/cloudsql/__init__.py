"""Cloud SQL: the Admin API of one instance, its port 3307, and the real PostgreSQL behind it.

From a client to the database:

    admin_api (checks: who may call; resources: what is shown) -> instance: what is remembered, restart, failover
    port (startup: the first packet) -> postgres
"""
