"""Modules without a test module of their own, by the test module that goes through them instead."""

from __future__ import annotations

_TABLE = """
aio/test_cache: engines/awaited/redis
aio/test_container: aio/own_loop aio/proxy aio/runtime
aio/test_redis_services: aio/pubsub aio/records
aio/test_sql: aio/database aio/statements engines/awaited/threads
cli/cache/test_commands: cli/cache/server cli/shell/redis
cli/cache/test_keys: cli/cache/purge cli/shell/confirm
cli/completion/test_values: cli/completion/line
cli/cron/test_commands: cli/cron/run cli/cron/views services/cron/definition/export
cli/dashboard/test_commands: cli/dashboard/collecting cli/dashboard/views
cli/dashboard/test_run: tui/terminal_guard
cli/db/documents/test_commands: cli/db/documents/changes cli/db/documents/output cli/db/documents/queries
    cli/db/documents/words cli/db/changes
cli/db/repl/test_loop: cli/db/repl/writes
cli/db/test_backups: cli/db/backups/backup cli/db/backups/backup_run cli/db/backups/commands
    cli/db/backups/run
cli/db/test_build: services/databases/builder/binding
cli/db/test_commands: cli/db/empty cli/db/views
cli/db/test_shell: cli/db/repl/languages cli/db/repl/replies
cli/db/test_transfer: cli/db/copying cli/db/files
cli/health/test_commands: cli/health/serve
cli/lock/test_commands: services/locks/run_under_lock services/locks/sql_lock services/processes/programs
    services/processes/supervised
cli/manual/test_help: cli/manual/options cli/manual/version cli/shell/help
cli/migrate/test_commands: cli/migrate/run cli/migrate/views
cli/profile/test_commands: cli/profile/views
cli/pubsub/test_commands: cli/pubsub/views
cli/record/test_commands: cli/record/views cli/shell/json_argument
cli/seed/test_commands: cli/seed/run
cli/shell/test_output: cli/display/json_rows
cli/shell/test_scope: cli/shell/target
cli/shell/test_watch: cli/shell/invocation
cli/shutdown_drill/test_commands: cli/shutdown_drill/views
cli/test_app: cli/shell/exits cli/shell/group cli/shell/options
core/pooling/test_pool: core/clock core/forks
core/resilience/test_breaker: core/resilience/breaker_events core/resilience/breaker_policy
    core/resilience/call_window core/resilience/verdict
core/schedule/test_schedule: core/schedule/cronfields core/schedule/zones
core/sql/test_where: core/sql/truth
core/test_roles: core/engine_names core/settings
engines/awaited/test_calls: core/waiting
engines/mongodb/test_engine: engines/mongodb/catalog engines/mongodb/connect engines/mongodb/pool_events
    engines/documents
engines/mongodb/test_guard: engines/refusals
engines/mysql/test_engine: engines/mysql/catalog engines/mysql/connect engines/mysql/failures
    engines/mysql/session engines/mysql/stream engines/mysql/tls
engines/postgresql/test_catalog: engines/postgresql/session
engines/postgresql/test_connect: engines/postgresql/failures engines/postgresql/prepared
    engines/postgresql/wire
engines/postgresql/test_engine: engines/postgresql/pipeline engines/postgresql/values
engines/redis/test_engine: engines/redis/batch engines/redis/connect engines/redis/failures engines/redis/plan
    engines/redis/subscriber engines/redis/time_limits
engines/redis/test_guard: engines/redis/connection
engines/redis/test_topologies: engines/redis/pool
engines/sqlite/test_engine: engines/sqlite/catalog engines/sqlite/session
engines/test_metrics: engines/base engines/parts
engines/test_transfer: engines/mysql/sql/transfer engines/postgresql/sql/transfer engines/sqlite/sql/transfer
    engines/transfers
integrations/pytest/test_plugin: integrations/pytest/targets
integrations/starlette/test_sessions: integrations/starlette/errors
profiles/model/test_connections: profiles/model/tls
profiles/model/test_lines: profiles/model/layer
profiles/model/test_schema: profiles/model/keys profiles/model/model
profiles/sources/test_adhoc: profiles/model/breakers
profiles/sources/test_environment: profiles/sources/document
profiles/sources/test_trust: profiles/sources/ownership
profiles/test_check: profiles/model/problems
profiles/test_load: profiles/build profiles/sources/builtin
profiles/test_template: profiles/model/validate
promises/test_session_state: core/sql/residue
servers/test_proxy: integrations/pytest/fault_proxy
services/backup/dumps/test_mongodump: engines/mongodb/backup/dump
services/backup/dumps/test_mysqldump: engines/mysql/backup/dump
services/backup/dumps/test_pg_dump: engines/dumps engines/postgresql/backup/dump services/backup/create
    services/backup/dumps/order services/backup/tools
services/backup/dumps/test_sqlite_copy: engines/sqlite/backup/dump
services/backup/restore/test_drill: services/backup/restore/embedded
services/backup/restore/test_load: engines/mongodb/backup/restore engines/mysql/backup/events
services/backup/restore/test_marked: engines/mysql/backup/restore engines/redis/backup/restore
    services/backup/restore/redis_number
services/backup/restore/test_run: cli/db/restore/commands cli/db/restore/run engines/postgresql/backup/restore
    engines/restores engines/sqlite/backup/restore services/backup/restore/destination
    services/backup/restore/file_database services/backup/restore/kept services/backup/restore/server_database
services/backup/store/test_remote: services/backup/spool services/backup/store/base
    services/backup/store/copying services/backup/store/local services/backup/store/objects
    services/backup/store/place services/backup/store/run_marker services/backup/store/sftp
services/backup/test_verify: services/backup/streams
services/cache/test_cache: services/redis/info
services/cache/test_cache_full: services/cache/copy services/cache/doctor services/redis/keyspace
services/cache/test_node_interop: services/program/records
services/calls/test_guard: services/calls/event_loop
services/calls/test_observer: services/calls/events
services/cron/definition/test_jobs: services/cron/definition/catalog
services/cron/ledger/test_accounting: services/cron/ledger/values
services/cron/ledger/test_store: engines/mysql/sql/state engines/postgresql/sql/state engines/sqlite/sql/state
    services/cron/definition/definitions services/state/schema
services/cron/run/test_plan: services/cron/run/execution services/cron/run/scheduler
services/cron/run/test_process: services/cron/run/outputs
services/cron/test_daemons: services/cron/manage services/processes/tree
services/cron/test_loop: services/cron/identity services/cron/run/logins services/cron/run/orphans
    services/cron/serve services/processes/identity
services/databases/builder/test_builder: services/databases/builder/compile
services/databases/models/test_model: services/databases/models/bridge services/databases/models/names
    services/databases/models/objects
services/databases/postgresql/test_notifications: engines/postgresql/streams/notifications
services/databases/test_clients: services/databases/client_database
services/databases/test_sql: services/databases/streams services/databases/statements
services/databases/test_transaction: services/databases/origin
services/dialogue/test_redis: services/dialogue/client
services/dialogue/test_sql: services/databases/session
services/health/test_deep_probe: core/measure/diagnosis engines/headroom engines/mongodb/headroom
    engines/mysql/headroom engines/postgresql/headroom engines/redis/headroom engines/sqlite/headroom
services/health/test_serve: services/health/metrics services/health/rounds services/http
services/migrate/files/test_sections: services/migrate/files/checksum
services/migrate/ledger/test_documents: services/migrate/files/python services/migrate/ledger/ledger
    services/migrate/ledger/packing
services/migrate/test_dump: services/migrate/values
services/migrate/test_forecast: services/databases/held services/migrate/jobs services/migrate/verify
services/migrate/test_killed: services/migrate/connection
services/migrate/test_many_changes: engines/mysql/script
services/migrate/test_migrator: engines/mongodb/migrate engines/mysql/migrate engines/postgresql/migrate
    engines/sqlite/migrate services/migrate/abandon services/migrate/runner
services/migrate/test_one_runner: services/locks/migration_lock services/locks/runner_identity
    services/migrate/access
services/migrate/test_plan: services/migrate/ledger/intent
services/migrate/test_stepwise: engines/migrations services/migrate/files/python_errors
    services/migrate/resumption
services/program/test_container: services/program/closing services/program/databases
services/redis/test_limits: services/redis/lua
services/redis/test_pubsub: engines/messages services/redis/subscription
services/redis/test_records: services/redis/merge
services/redis/test_topologies: services/redis/acl
services/seeds/test_rows: services/seeds/values
services/seeds/test_seeder: engines/mysql/sql/seeds engines/postgresql/sql/seeds engines/sqlite/sql/seeds
    services/seeds/database services/seeds/files services/seeds/mongodb services/seeds/python
    services/seeds/sql services/seeds/upsert
services/shutdown_drill/test_drill: services/shutdown_drill/proxy
services/shutdown_drill/test_judge: services/shutdown_drill/values
services/tables/test_lifetime: engines/mysql/sql/databases engines/postgresql/sql/databases
    engines/sqlite/sql/databases
services/tables/test_truncate: engines/mysql/sql/tables engines/postgresql/sql/tables engines/sql
    engines/sqlite/sql/tables services/tables/reset
services/transfer/documents/test_load: services/transfer/documents/checkpoint
    services/transfer/documents/collections
services/transfer/test_copy: services/transfer/copy_ledger services/transfer/mapping
services/transfer/test_export: services/transfer/tables
services/transfer/test_load: services/tables/bulk_load services/transfer/checkpoint
    services/transfer/formats/json_cells services/transfer/import_run services/transfer/rejects
    services/transfer/formats/sources
services/ws/test_server: services/ws/admin services/ws/clients services/ws/loop services/ws/metrics
    services/ws/values
services/ws/test_shared: services/ws/cluster
services/ws/transport/test_connections: services/ws/listener
services/ws/transport/test_socketio_server: services/ws/transport/packets services/ws/transport/queues
test_coroutines: core/callables services/cron/run/call
test_docs: cli/completion/tree
test_errors: errors/base errors/connections errors/work
test_public_api: migrations pool redis seeds services/program/default_database shutdown
tui/test_app: tui/dialogs tui/pane tui/terminal_guard
tui/test_panels: snapshot tui/circuit_tree tui/layout
"""
_LINES = _TABLE.strip().replace("\n    ", " ").splitlines()

TESTED_THROUGH: dict[str, tuple[str, ...]] = {
    f"{test}.py": tuple(f"{module}.py" for module in modules.split())
    for test, modules in (line.split(":") for line in _LINES)
}
