"""Alembic's doorway. The connection and its transaction belong to the caller."""

from alembic import context

from controller.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller holds one transaction around all
)
context.run_migrations()
