-- Prints one line `name|rows` for each table, always in the same order, so that a database and its restored dump can be compared.
-- The lines have no schema names, because older backups have the RA app's tables in another schema.
SELECT pg_catalog.format('SELECT %L, pg_catalog.count(*) FROM %I.%I', c.relname, n.nspname, c.relname)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('public', 'ra_app') AND c.relkind IN ('r', 'p')
ORDER BY c.relname, n.nspname
\gexec
