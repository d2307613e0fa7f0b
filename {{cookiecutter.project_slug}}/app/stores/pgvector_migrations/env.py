"""How Alembic runs the steps: all in one transaction, on the connection that the store gives it.

Without one it can only print them (`--sql`).
"""

from alembic import context
from sqlalchemy import text

LOCK = 7_316_120_955
"""Any number that nobody else takes for an advisory lock in the same database."""

context.configure(
    connection=context.config.attributes.get("connection"),
    dialect_name="postgresql",
    version_table="passages_version",
)
with context.begin_transaction():
    if not context.is_offline_mode():
        context.get_bind().execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    context.run_migrations()
