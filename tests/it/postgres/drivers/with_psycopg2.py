"""psycopg2 as an agent's driver: simple protocol, and libpq's large objects by FunctionCall."""

import io
import os
import select
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from scenario import asked, main, scenario


def connect(autocommit=True, **options):
    connection = psycopg2.connect("", **options)
    connection.autocommit = autocommit
    return connection


def failure(error):
    return {
        "class": type(error).__name__,
        "sqlstate": error.pgcode,
        "message": error.diag.message_primary or str(error),
        "detail": error.diag.message_detail,
        "hint": error.diag.message_hint,
        "severity": error.diag.severity,
    }


def run(connection, text, values=None):
    cursor = connection.cursor()
    cursor.execute(text, values)
    return cursor.fetchall() if cursor.description else cursor.statusmessage


def tried(function):
    try:
        return function()
    except psycopg2.Error as error:
        return failure(error)


def status(connection):
    return connection.info.transaction_status


@scenario
def plain_queries():
    c = connect()
    return [run(c, "SELECT %s, %s, %s::bytea, %s", ("ü'\\", None, b"\x00\xff", [1, 2])), run(c, "SELECT 1; SELECT 2"), run(c, "SET geqo = off"),
            tried(lambda: run(c, "")), run(c, "SELECT 'after'")]


@scenario
def large_objects_by_function_call():
    c = connect(autocommit=False)
    large = c.lobject(0, "wb")
    large.write(b"abc" * 50_000)
    large.seek(10)
    large.write(b"XYZ")
    large.truncate(100_000)
    large.close()
    again = c.lobject(large.oid, "rb")
    again.seek(9)
    seen = [again.read(5), len(again.read()), again.tell()]
    again.unlink()
    c.commit()
    seen.append(tried(lambda: c.lobject(large.oid, "rb"))["class"])
    c.rollback()
    return [seen, run(c, "SELECT 'in step'")]


@scenario
def transactions():
    c = connect(autocommit=False)
    run(c, "CREATE TABLE t2 (i int PRIMARY KEY)")
    run(c, "INSERT INTO t2 VALUES (1)")
    seen = [status(c), tried(lambda: run(c, "INSERT INTO t2 VALUES (1)")), status(c), tried(lambda: run(c, "SELECT 1"))]
    c.rollback()
    seen.append(tried(lambda: run(c, "SELECT * FROM t2"))["sqlstate"])
    c.rollback()
    c.set_session(isolation_level="SERIALIZABLE", deferrable=True, readonly=True)
    seen.append(tried(lambda: run(c, "CREATE TABLE t3 (i int)"))["sqlstate"])
    c.rollback()
    return seen


@scenario
def copy_in_and_out():
    c = connect()
    run(c, "CREATE TABLE c2 (i int, t text)")
    text = "".join(f"{i}\tline {i}\n" for i in range(20000))
    c.cursor().copy_expert("COPY c2 FROM STDIN", io.StringIO(text))
    out = io.StringIO()
    c.cursor().copy_expert("COPY c2 TO STDOUT", out)
    bad = tried(lambda: c.cursor().copy_expert("COPY c2 FROM STDIN", io.StringIO("x\ty\n" * 10)))
    return [out.getvalue() == text, bad["sqlstate"], run(c, "SELECT count(*) FROM c2")]


@scenario
def named_cursors_and_many_values():
    c = connect(autocommit=False)
    cursor = c.cursor("named")
    cursor.itersize = 10
    cursor.execute("SELECT generate_series(1, 95)")
    total = sum(row[0] for row in cursor)
    run(c, "CREATE TABLE v2 (i int, t text)")
    psycopg2.extras.execute_values(c.cursor(), "INSERT INTO v2 VALUES %s", [(i, "v") for i in range(5000)])
    psycopg2.extras.execute_batch(c.cursor(), "INSERT INTO v2 VALUES (%s, 'b')", [(i,) for i in range(500)])
    return [total, run(c, "SELECT count(*), sum(i) FROM v2")]


@scenario
def notices_and_notifications():
    c, other = connect(), connect()
    run(c, "LISTEN heard")
    run(c, "DO $$BEGIN RAISE NOTICE 'said'; END$$")
    run(other, "NOTIFY heard, 'payload'")
    while not c.notifies:
        select.select([c], [], [], 10)
        c.poll()
    return [c.notices, [(n.channel, n.payload) for n in c.notifies]]


@scenario
def asynchronous_and_cancelled():
    c = psycopg2.connect("", async_=True)
    psycopg2.extras.wait_select(c)
    cursor = c.cursor()
    cursor.execute("SELECT generate_series(1, 1000)")
    psycopg2.extras.wait_select(c)
    rows = len(cursor.fetchall())
    blocking, watcher = connect(), connect()

    def watch():
        while not run(watcher, RUNNING)[0][0]:
            pass
        blocking.cancel()

    thread = threading.Thread(target=watch)
    thread.start()
    seen = tried(lambda: run(blocking, "SELECT /* psycopg2 cancels */ pg_sleep(20)"))
    thread.join()
    return [rows, seen, run(blocking, "SELECT 'next'")]


RUNNING = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND state = 'active' AND query LIKE '%/* psycopg2 cancels */%'"""


def after(c):
    return {"status": status(c), "next": tried(lambda: run(c, "SELECT 'next'"))}


@asked
def held(text):
    c = connect()
    seen = tried(lambda: run(c, text))
    return {"result": seen, "notices": list(c.notices), **after(c)}


@asked
def held_in_transaction(text):
    c = connect(autocommit=False)
    run(c, "CREATE TABLE before_it (i int)")
    seen = tried(lambda: run(c, text))
    seen_after = after(c)
    c.commit()
    return {"result": seen, "notices": list(c.notices), "kept": run(c, "SELECT to_regclass('before_it') IS NOT NULL")[0][0], **seen_after}


@asked
def held_then_killed(text):
    """Is shot while it waits: nothing is said good-bye to."""
    run(connect(), text)
    os._exit(0)


if __name__ == "__main__":
    main()
