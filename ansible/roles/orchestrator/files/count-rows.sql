-- One line for each table, `name|rows`, in the same order in every database: of the source of a dump, and of what was made of it.
-- Names only, no schemas: the RA app's tables lay in another one in older backups.
SELECT pg_catalog.format('SELECT %L, pg_catalog.count(*) FROM %I.%I', c.relname, n.nspname, c.relname)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('public', 'ra_app') AND c.relkind IN ('r', 'p')
ORDER BY c.relname, n.nspname
\gexec
