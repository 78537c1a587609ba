-- What psql can do, with the same output each time.
\set VERBOSITY verbose
\timing off
\encoding
SELECT 1 AS one, 'ü' AS letter \gx
CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, born date, UNIQUE (name));
CREATE INDEX ON people (born) WHERE born IS NOT NULL;
CREATE VIEW elders AS SELECT name FROM people WHERE born < '1960-01-01';
CREATE FUNCTION age_in(p people, y int) RETURNS int LANGUAGE sql AS $$ SELECT y - extract(year FROM p.born)::int $$;
CREATE SEQUENCE counter START 5;
CREATE TYPE mood AS ENUM ('sad', 'ok');
INSERT INTO people (name, born) VALUES ('Ada', '1915-12-10'), ('Grace', '1906-12-09'), ('Tim', '1955-06-08') RETURNING *;
\d people
\d+ elders
\df age_in
\dt
\di
\ds
\dT
\dn
\sf age_in
\sv elders
SELECT name, age_in(people, 2000) FROM people ORDER BY 1;
\copy people (name) FROM STDIN
Barbara
Margaret
\.
\copy (SELECT name FROM people ORDER BY name) TO STDOUT
COPY people (name, born) TO STDOUT (FORMAT csv, HEADER);
COPY people (name) FROM STDIN;
Radia
Karen\tno
\.
COPY people (name) FROM STDIN;
Radia
\.
SELECT format('SELECT %L AS made', name) FROM people WHERE id < 3 ORDER BY id \gexec
SELECT 5 AS five \gset
SELECT :five + 1;
SELECT g, g % 2, g * g FROM generate_series(1, 4) g \crosstabview
\set FETCH_COUNT 2
SELECT g FROM generate_series(1, 7) g;
\set FETCH_COUNT 0
BEGIN;
SAVEPOINT a;
INSERT INTO people (name) VALUES ('Ada');
ROLLBACK TO a;
SELECT count(*) FROM people;
\set ON_ERROR_ROLLBACK on
SELECT 1/0;
SELECT 'goes on';
\set ON_ERROR_ROLLBACK off
COMMIT;
SELECT 1 \; SELECT 2 \; SELECT 3;
BEGIN \; INSERT INTO people (name) VALUES ('Gone') \; SELECT 1/0 \; COMMIT;
ROLLBACK;
SELECT name FROM people WHERE name = 'Gone';
\set SHOW_ALL_RESULTS off
SELECT 1 \; SELECT 2;
PREPARE p AS SELECT $1::int * 2;
EXECUTE p(21);
DEALLOCATE p;
DO $$ BEGIN RAISE NOTICE 'from a block'; END $$;
EXPLAIN (COSTS off) SELECT * FROM people WHERE id = 1;
SELECT pg_notify('tour', 'heard by nobody');
LISTEN tour;
UNLISTEN *;
\lo_unlink 0
SELECT lo_from_bytea(4711, 'large');
SELECT convert_from(lo_get(4711), 'UTF8');
\lo_unlink 4711
SELECT 'unfinished
over lines' AS text;
SELECT $tag$dollar; quoted$tag$, U&'\00fc', E'\x41';
SET client_encoding = 'LATIN1';
SELECT length(convert_to('x', 'LATIN1'));
RESET client_encoding;
SELECT * FROM people WHERE nonsense;
DISCARD ALL;
\echo the end of the tour
