"""psycopg 3 as an agent's driver."""

import asyncio
import threading

import psycopg
from psycopg import pq, sql
from psycopg.rows import tuple_row
from scenario import asked, main, scenario


def connect(**options):
    options.setdefault("autocommit", True)
    connection = psycopg.connect("", **options)
    connection.notices = []
    connection.add_notice_handler(lambda diag: connection.notices.append([diag.severity, diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint]))
    return connection


def failure(error):
    diag = getattr(error, "diag", None)
    return {
        "class": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "message": diag and diag.message_primary or str(error),
        "detail": diag and diag.message_detail,
        "hint": diag and diag.message_hint,
        "severity": diag and diag.severity_nonlocalized,
    }


def tried(function):
    try:
        return function()
    except psycopg.Error as error:
        return failure(error)


def status(connection):
    return connection.info.transaction_status.name


@scenario
def plain_queries():
    with connect() as c:
        result = [c.execute(text).fetchall() for text in (
            "SELECT 1, 'a', NULL, 2.50, true, date '2026-11-20', '\\x00ff'::bytea, '{1,2}'::int[], '{\"a\": [1]}'::jsonb",
            "SELECT g, repeat('x', g) FROM generate_series(1, 50) g",
            "VALUES (1, 'ä€𝄞'), (2, '')",
            "SELECT WHERE false",
            "SELECT",
        )]
        result.append([c.execute("").description, c.execute("SELECT 1; SELECT 2; SELECT 3").fetchall()])
        cursor = c.execute("CREATE TABLE plain (i int); INSERT INTO plain VALUES (1), (2); SELECT * FROM plain")
        tags = [cursor.statusmessage]
        while cursor.nextset():
            tags.append([cursor.statusmessage, cursor.description and cursor.fetchall()])
        return [result, tags, c.info.parameter_status("server_version") is not None, c.info.encoding]


@scenario
def parameters_of_the_session():
    names = ("server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization", "DateStyle",
             "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings", "default_transaction_read_only", "in_hot_standby")
    with connect(options="-c DateStyle=German -c geqo=off", client_encoding="latin1") as c:
        seen = {name: c.info.parameter_status(name) for name in names}
        shown = c.execute("SELECT current_setting('DateStyle'), current_setting('geqo'), 'ü', current_user").fetchall()
        c.execute("SET TimeZone = 'Asia/Tokyo'")
        c.execute("SET client_encoding = 'UTF8'")
        return [seen, shown, c.info.parameter_status("TimeZone"), c.info.parameter_status("client_encoding")]


@scenario
def values_of_all_formats():
    values = (7, "ü'\\\"", None, 1.5, True, b"\x00\xff", [1, None, 3], 2**40)
    query = "SELECT %s::int, %s::text, %s::text, %s::float8, %s::bool, %s::bytea, %s::int[], %s::int8"
    with connect() as c:
        return [c.cursor(binary=binary).execute(query, values).fetchall() for binary in (False, True)]


@scenario
def prepared_by_the_protocol():
    with connect(prepare_threshold=0) as c:
        rows = [c.execute("SELECT %s::int * 2, %s::text", (i, "x" * i)).fetchone() for i in range(20)]
        c.execute("CREATE TABLE prep (i int, t text)")
        with c.cursor() as cursor:
            cursor.executemany("INSERT INTO prep VALUES (%s, %s)", [(i, str(i)) for i in range(500)])
        c.execute("ALTER TABLE prep ADD COLUMN more int")
        names = c.execute("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql").fetchone()
        return [rows, names, c.execute("SELECT count(*), sum(i) FROM prep").fetchone()]


@scenario
def prepared_by_sql_and_by_protocol_share_names():
    with connect() as c:
        c.execute("PREPARE p (int, text) AS SELECT $1 + 1, $2 || '!'")
        by_sql = c.execute("EXECUTE p (41, 'a')").fetchall()
        by_bind = c.pgconn.exec_prepared(b"p", [b"1", b"b"])
        bound = [by_bind.get_value(0, i) for i in range(2)]
        c.pgconn.prepare(b"q", b"SELECT $1::int - 1")
        described = c.pgconn.describe_prepared(b"q")
        back = c.execute("EXECUTE q (43)").fetchall()
        again = c.pgconn.prepare(b"q", b"SELECT 1")
        c.execute("DEALLOCATE q")
        gone = c.pgconn.exec_prepared(b"q", [b"1"])
        c.execute("DISCARD ALL")
        gone_too = tried(lambda: c.execute("EXECUTE p (1, 'a')"))
        return [by_sql, bound, described.nparams, described.fname(0), back,
                again.error_field(pq.DiagnosticField.SQLSTATE), gone.error_field(pq.DiagnosticField.SQLSTATE), gone_too]


@scenario
def pipelines():
    with connect() as c:
        c.execute("CREATE TABLE piped (i int PRIMARY KEY)")
        with c.pipeline() as p:
            cursors = [c.execute("INSERT INTO piped VALUES (%s) RETURNING i", (i,)) for i in range(300)]
            p.sync()
            more = [c.execute("SELECT sum(i) FROM piped WHERE i < %s", (i,)) for i in (10, 100, 300)]
        return [len(cursors), sum(cursor.fetchone()[0] for cursor in cursors), [cursor.fetchone() for cursor in more]]


@scenario
def a_pipeline_that_fails_is_skipped_up_to_sync():
    seen = []
    with connect() as c:
        c.execute("CREATE TABLE failing (i int PRIMARY KEY)")
        c.execute("INSERT INTO failing VALUES (1)")
        try:
            with c.pipeline():
                c.execute("INSERT INTO failing VALUES (2)")
                c.execute("INSERT INTO failing VALUES (1)")
                c.execute("INSERT INTO failing VALUES (3)")
        except psycopg.Error as error:
            seen.append(failure(error))
        seen.append(status(c))
        with c.pipeline() as p:
            good = c.execute("INSERT INTO failing VALUES (4) RETURNING i")
            p.sync()
            seen.append(good.fetchone())
        return [seen, c.execute("SELECT i FROM failing ORDER BY i").fetchall()]


@scenario
def a_pipeline_of_raw_messages():
    """libpq's own pipeline: several Syncs on their way at once, Flush between, errors in the middle."""
    with connect() as c:
        g = c.pgconn
        g.enter_pipeline_mode()
        g.send_query_params(b"SELECT 1", [])
        g.send_flush_request()
        g.send_query_params(b"SELECT 1/0", [])
        g.send_query_params(b"SELECT 'skipped'", [])
        g.pipeline_sync()
        g.send_prepare(b"n", b"SELECT $1::text")
        g.send_describe_prepared(b"n")
        g.send_query_prepared(b"n", [b"after"])
        g.pipeline_sync()
        g.pipeline_sync()
        g.send_query_params(b"SELECT 2", [])
        g.pipeline_sync()
        seen, nothing, syncs = [], 0, 0
        while syncs < 4 and nothing < 20:
            result = g.get_result()
            if result is None:
                nothing += 1
                continue
            nothing = 0
            kind = pq.ExecStatus(result.status).name
            syncs += kind == "PIPELINE_SYNC"
            value = result.get_value(0, 0) if result.ntuples else result.error_field(pq.DiagnosticField.SQLSTATE)
            seen.append([kind, value])
        g.exit_pipeline_mode()
        return seen


@scenario
def transactions_and_savepoints():
    seen = []
    with connect(autocommit=False) as c:
        c.execute("CREATE TABLE money (i int PRIMARY KEY)")
        c.commit()
        with c.transaction():
            c.execute("INSERT INTO money VALUES (1)")
            seen.append(status(c))
            try:
                with c.transaction():
                    c.execute("INSERT INTO money VALUES (2)")
                    c.execute("INSERT INTO money VALUES (1)")
            except psycopg.errors.UniqueViolation as error:
                seen.append(failure(error))
            with c.transaction(force_rollback=True):
                c.execute("INSERT INTO money VALUES (3)")
            c.execute("INSERT INTO money VALUES (4)")
        c.commit()
        seen.append(tried(lambda: c.execute("SELECT 1/0")))
        seen.append([status(c), tried(lambda: c.execute("SELECT 1"))])
        c.rollback()
        c.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY")
        seen.append(tried(lambda: c.execute("INSERT INTO money VALUES (9)")))
        c.rollback()
        c.execute("BEGIN; SAVEPOINT a; INSERT INTO money VALUES (5); ROLLBACK TO a; RELEASE a; COMMIT AND CHAIN")
        seen.append(status(c))
        c.execute("ROLLBACK")
        return [seen, c.execute("SELECT i FROM money ORDER BY i").fetchall()]


@scenario
def two_phase_commit():
    with connect(autocommit=False) as c:
        name = c.info.dbname
        xid = c.xid(1, f"through {name}", "branch")
        c.tpc_begin(xid)
        c.execute("CREATE TABLE two_phase (i int)")
        c.tpc_prepare()
        c.close()
    with connect() as c:
        found = [x.bqual for x in c.tpc_recover() if x.database == name]
        unseen = tried(lambda: c.execute("SELECT * FROM two_phase"))
        c.tpc_rollback(xid)
        return [found, unseen["sqlstate"], [x.bqual for x in c.tpc_recover() if x.database == name]]


@scenario
def copy_in_and_out():
    with connect() as c:
        c.execute("CREATE TABLE copied (i int, t text, b bytea)")
        with c.cursor().copy("COPY copied FROM STDIN") as copy:
            for i in range(5000):
                copy.write_row((i, f"tab\tline\nback\\{i}" if i % 3 else None, bytes([i % 256]) * 3))
        with c.cursor().copy("COPY copied (i, t) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(100):
                copy.write_row((i, "binary"))
        rows = c.execute("SELECT count(*), sum(i), count(t), md5(string_agg(t, ',' ORDER BY i, t)) FROM copied").fetchone()
        out = {}
        for form in ("text", "csv", "binary"):
            with c.cursor().copy(f"COPY (SELECT * FROM copied ORDER BY i, t) TO STDOUT (FORMAT {form})") as copy:
                blocks = [bytes(block) for block in copy]
                out[form] = [len(blocks), sum(map(len, blocks)), hash_of(b"".join(blocks))]
        with c.cursor().copy("COPY copied TO STDOUT") as copy:
            typed = sum(1 for _ in copy.rows())
        return [rows, out, typed]


def hash_of(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


@scenario
def copies_that_fail():
    seen = []
    with connect() as c:
        c.execute("CREATE TABLE refused (i int PRIMARY KEY)")

        def wrong():
            with c.cursor().copy("COPY refused FROM STDIN") as copy:
                for i in range(1000):
                    copy.write(b"%d\n" % i if i != 900 else b"no number\n")

        def given_up():
            with c.cursor().copy("COPY refused FROM STDIN") as copy:
                copy.write(b"1\n")
                raise ZeroDivisionError("the client gives up")

        seen.append(tried(wrong))
        try:
            given_up()
        except (ZeroDivisionError, psycopg.Error) as error:
            seen.append(type(error).__name__)
        seen.append([status(c), c.execute("SELECT count(*) FROM refused").fetchone()])

        def half_read():
            with c.cursor().copy("COPY (SELECT generate_series(1, 200000)) TO STDOUT") as copy:
                next(iter(copy))
                raise ZeroDivisionError("enough")

        try:
            half_read()
        except (ZeroDivisionError, psycopg.Error) as error:
            seen.append(type(error).__name__)
        seen.append([status(c), c.execute("SELECT 'in step'").fetchone()])
        seen.append(tried(lambda: c.execute("COPY nowhere TO STDOUT")))
        seen.append(tried(lambda: c.cursor().copy("COPY (SELECT 1/(i-5) FROM generate_series(1, 9) i) TO STDOUT").__enter__().read()))
        return seen


@scenario
def cursors():
    with connect(autocommit=False) as c:
        named = c.cursor("named", scrollable=True)
        named.itersize = 7
        named.execute("SELECT g FROM generate_series(1, 100) g")
        first = named.fetchmany(3)
        named.scroll(10)
        then = named.fetchone()
        rest = sum(row[0] for row in named)
        c.execute("DECLARE held CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 30) g")
        c.commit()
        later = c.execute("FETCH 5 FROM held").fetchall()
        c.execute("MOVE FORWARD 10 FROM held")
        c.execute("CLOSE held")
        c.commit()
        gone = tried(lambda: c.execute("FETCH 1 FROM held"))
        return [first, then, rest, later, gone]


@scenario
def listen_and_notify():
    with connect() as listener, connect() as speaker:
        listener.execute("LISTEN channel_a")
        listener.execute('LISTEN "Channel B"')
        speaker.execute("NOTIFY channel_a, 'one'")
        speaker.execute("SELECT pg_notify('Channel B', 'zwei €')")
        speaker.execute("NOTIFY unheard, 'nothing'")
        seen = [[n.channel, n.payload, n.pid == speaker.info.backend_pid] for n in listener.notifies(timeout=10, stop_after=2)]
        # The process id that the notification names is that of the server, not that of the session: not compared.
        listener.execute("UNLISTEN *")
        return [[channel, payload] for channel, payload, _ in sorted(seen)]


@scenario
def large_objects():
    with connect(autocommit=False) as c:
        oid = c.execute("SELECT lo_from_bytea(0, '\\x00010203')").fetchone()[0]
        text = c.execute("SELECT lo_get(%s)", (oid,)).fetchone()
        fd = c.execute("SELECT lo_open(%s, x'60000'::int)", (oid,)).fetchone()[0]
        c.execute("SELECT lo_lseek(%s, 0, 2), lowrite(%s, %s)", (fd, fd, b"z" * 100_000))
        size = c.execute("SELECT lo_lseek(%s, 0, 2), lo_close(%s)", (fd, fd)).fetchone()
        c.execute("SELECT lo_unlink(%s)", (oid,))
        c.commit()
        return [text, size, tried(lambda: c.execute("SELECT lo_get(%s)", (oid,)))["sqlstate"]]


@scenario
def errors_and_their_fields():
    with connect() as c:
        c.execute("CREATE TABLE parent (i int PRIMARY KEY); CREATE TABLE child (i int REFERENCES parent, CONSTRAINT small CHECK (i < 10))")
        seen = []
        for text in ("SELEC 1", "SELECT * FROM nowhere", "SELECT 1/0", "INSERT INTO child VALUES (5)", "INSERT INTO child VALUES (50)",
                     "SELECT 'x'::int", "DO $$BEGIN RAISE EXCEPTION 'own' USING ERRCODE='AB123', DETAIL='d', HINT='h'; END$$"):
            try:
                c.execute(text)
            except psycopg.Error as error:
                d = error.diag
                seen.append([error.sqlstate, d.message_primary, d.message_detail, d.message_hint, d.statement_position, d.schema_name,
                             d.table_name, d.constraint_name, d.context, d.source_function])
        seen.append([status(c), c.execute("SELECT 'still here'").fetchone()])
        return seen


@scenario
def notices():
    with connect() as c:
        c.execute("DO $$BEGIN RAISE NOTICE 'n %', 1 USING HINT = 'hh'; RAISE WARNING 'w'; RAISE INFO 'i'; RAISE LOG 'unseen'; END$$")
        c.execute("SET client_min_messages = debug1")
        c.execute("DROP TABLE IF EXISTS never_was")
        return c.notices


def when_it_runs(marker, function):
    """Calls the function once the server runs a statement with that text in it."""
    def watch():
        with connect() as c:
            while not c.execute(RUNNING, (f"%{marker}%",)).fetchone()[0]:
                pass
        function()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE %s"


@scenario
def cancelled_while_it_runs():
    seen = []
    with connect() as c:
        for way in ("cancel_safe", "cancel"):
            canceller = when_it_runs(f"/* {way} */", getattr(c, way))
            seen.append(tried(lambda: c.execute(f"SELECT /* {way} */ pg_sleep(20)")))
            canceller.join()
        c.cancel_safe()
        return [seen, c.execute("SELECT 'an idle session is not hit'").fetchone(), status(c)]


@scenario
def session_state():
    with connect() as c, connect() as other:
        c.execute("CREATE TEMP TABLE mine (i int) ON COMMIT PRESERVE ROWS")
        c.execute("INSERT INTO mine VALUES (1)")
        c.execute("SET search_path = pg_temp, public")
        c.execute("SET application_name = 'renamed'")
        invisible = tried(lambda: other.execute("SELECT * FROM mine"))["sqlstate"]
        locked = [c.execute("SELECT pg_try_advisory_lock(4711)").fetchone(), other.execute("SELECT pg_try_advisory_lock(4711)").fetchone()]
        c.execute("SELECT pg_advisory_unlock(4711)")
        locked.append(other.execute("SELECT pg_try_advisory_lock(4711)").fetchone())
        other.execute("SELECT pg_advisory_unlock_all()")
        kept = c.execute("SELECT current_setting('search_path'), current_setting('application_name'), (SELECT count(*) FROM mine)").fetchone()
        c.execute("DISCARD ALL")
        reset = [c.execute("SHOW search_path").fetchone(), tried(lambda: c.execute("SELECT * FROM mine"))["sqlstate"]]
        return [invisible, locked, kept, reset]


@scenario
def row_by_row_and_large_values():
    with connect() as c:
        count = sum(1 for _ in c.cursor().stream("SELECT g, repeat('y', 50) FROM generate_series(1, 20000) g"))
        big = c.execute("SELECT repeat('z', 5000000)").fetchone()[0]
        echoed = c.execute("SELECT length(%s::text), md5(%s::text)", ("ö" * 2_000_000,) * 2).fetchone()
        text = "SELECT " + ", ".join(map(str, range(1500)))
        wide = len(c.execute(text).fetchone())
        comment = c.execute("/*" + "c" * 300_000 + "*/ SELECT 'after a long comment'").fetchone()
        return [count, len(big), echoed, wide, comment]


@scenario
def asynchronous_sessions():
    async def many():
        async def one(i):
            async with await psycopg.AsyncConnection.connect("", autocommit=True) as c:
                cursor = await c.execute("SELECT sum(g) FROM generate_series(1, %s) g", (i,))
                return (await cursor.fetchone())[0]

        return await asyncio.gather(*(one(i) for i in range(1, 21)))

    return asyncio.run(many())


@scenario
def composed_and_adapted():
    with connect(row_factory=tuple_row) as c:
        c.execute('CREATE TYPE mood AS ENUM (\'sad\', \'ok\'); CREATE TABLE "Strange ""Name" (m mood, "ü" int4range)')
        c.execute(sql.SQL("INSERT INTO {} VALUES ({}, {})").format(sql.Identifier('Strange "Name'), sql.Literal("ok"), sql.Literal("[1,5)")))
        return c.execute('SELECT m::text, "ü"::text FROM "Strange ""Name"').fetchall()


def after(connection):
    """What the session is like after that."""
    return {"status": status(connection), "next": tried(lambda: connection.execute("SELECT 'next'").fetchall())}


@asked
def held(text):
    """Runs one statement alone."""
    with connect() as c:
        seen = tried(lambda: result_of(c.execute(text)))
        return {"result": seen, "notices": c.notices, **after(c)}


def result_of(cursor):
    return cursor.fetchall() if cursor.description else cursor.statusmessage


@asked
def held_with_values(text):
    with connect() as c:
        seen = tried(lambda: result_of(c.execute(text, (7,), prepare=True)))
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def held_in_transaction(text):
    with connect(autocommit=False) as c:
        c.execute("CREATE TABLE before_it (i int)")
        seen = tried(lambda: result_of(c.execute(text)))
        seen_after = after(c)
        c.commit()
        kept = c.execute("SELECT to_regclass('before_it') IS NOT NULL").fetchone()[0]
        c.rollback()
        return {"result": seen, "notices": c.notices, "kept": kept, **seen_after}


@asked
def held_in_pipeline(text):
    """The statement, one behind it before the Sync, and one after it, all sent before anybody decides."""
    with connect() as c:
        g = c.pgconn
        g.enter_pipeline_mode()
        for statement in (b"SELECT 'before'", text.encode(), b"SELECT 'behind'"):
            g.send_query_params(statement, [])
        g.pipeline_sync()
        g.send_query_params(b"SELECT 'after'", [])
        g.pipeline_sync()
        seen, syncs = [], 0
        while syncs < 2:
            result = g.get_result()
            if result is None:
                continue
            kind = pq.ExecStatus(result.status).name
            syncs += kind == "PIPELINE_SYNC"
            value = result.get_value(0, 0) if result.ntuples else None
            code = result.error_field(pq.DiagnosticField.SQLSTATE)
            seen.append([kind, (value or code or b"").decode()])
        g.exit_pipeline_mode()
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def held_then_cancelled(text):
    """Cancels as soon as the first notice says that it is held."""
    with connect() as c:
        told = threading.Event()
        c.add_notice_handler(lambda _: told.set())
        canceller = threading.Thread(target=lambda: told.wait(20) and c.cancel_safe())
        canceller.start()
        seen = tried(lambda: result_of(c.execute(text)))
        canceller.join()
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def held_copy_out(text):
    with connect() as c:
        def copied():
            with c.cursor().copy(text) as copy:
                return sum(1 for _ in copy.rows())

        seen = tried(copied)
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def held_copy_in(text):
    with connect() as c:
        def copied():
            with c.cursor().copy(text) as copy:
                for i in range(100, 110):
                    copy.write_row((i, "copied"))
            return "copied"

        seen = tried(copied)
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def held_cursor(text):
    """DECLARE is what is held; each FETCH after it is not."""
    with connect(autocommit=False) as c:
        def fetched():
            named = c.cursor("named")
            named.itersize = 2
            named.execute(text)
            return [row[0] for row in named]

        seen = tried(fetched)
        return {"result": seen, "notices": c.notices, **after(c)}


@asked
def rows(text):
    """Counts rows without keeping them."""
    with connect() as c:
        count = 0
        try:
            for _ in c.cursor().stream(text):
                count += 1
            seen = None
        except psycopg.Error as error:
            seen = failure(error)
        return {"rows": count, "error": seen, "notices": c.notices, **after(c)}


@asked
def in_turn(texts):
    """Statements split by lines of `--`, on one connection, each with what came of it."""
    with connect() as c:
        return {"results": [tried(lambda: result_of(c.execute(text))) for text in texts.split("\n--\n")], "notices": c.notices}


if __name__ == "__main__":
    main()
