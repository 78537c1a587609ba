"""asyncpg as an agent's driver: extended protocol in binary, prepared statements, its own COPY."""

import asyncio
import io

import asyncpg
from scenario import asked, main, scenario


class Connection(asyncpg.Connection):
    """One that can be given attributes."""


async def connect(**options):
    connection = await asyncpg.connect(connection_class=Connection, **options)
    connection.said = []
    connection.add_log_listener(lambda _, m: connection.said.append([m.severity_en, m.sqlstate, m.message, m.detail, m.hint]))
    return connection


def failure(error):
    return {
        "class": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "message": getattr(error, "message", None) or str(error),
        "detail": getattr(error, "detail", None),
        "hint": getattr(error, "hint", None),
        "severity": getattr(error, "severity_en", None),
    }


async def tried(awaitable):
    try:
        return values(await awaitable)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError) as error:
        return failure(error)


def values(result):
    return [list(row.values()) for row in result] if isinstance(result, list) else result


def running(function):
    """A coroutine function as a scenario."""
    def run(*arguments):
        return asyncio.run(function(*arguments))

    run.__name__ = function.__name__
    return run


@scenario
@running
async def plain_and_prepared():
    c = await connect()
    rows = values(await c.fetch("SELECT $1::int, $2::text, $3::bytea, $4::int[], $5::timestamptz IS NULL, $6::numeric", 1, "ü", b"\0\xff", [1, None], None, 2))
    statement = await c.prepare("SELECT $1::int + 1")
    many = [await statement.fetchval(i) for i in range(50)]
    described = [[a.name, a.type.name] for a in statement.get_attributes()]
    script = await c.execute("CREATE TABLE a1 (i int); INSERT INTO a1 VALUES (1), (2); SELECT * FROM a1")
    await c.executemany("INSERT INTO a1 VALUES ($1)", [(i,) for i in range(1000)])
    count = await c.fetchval("SELECT count(*) FROM a1")
    await c.execute("ALTER TABLE a1 ADD COLUMN j int")
    width = len((await c.fetch("SELECT * FROM a1 LIMIT 1"))[0])
    await c.close()
    return [rows, many, described, script, count, width]


@scenario
@running
async def types_are_introspected():
    c = await connect()
    await c.execute("CREATE TYPE pair AS (a int, b text); CREATE TYPE color AS ENUM ('red'); CREATE DOMAIN small AS int CHECK (VALUE < 10)")
    row = await c.fetchrow("SELECT (1, 'x')::pair, 'red'::color, 5::small, ARRAY[(2, 'y')::pair], '[1,4)'::int4range, '{\"k\": 1}'::jsonb")
    await c.close()
    return [tuple(row[0]), row[1], row[2], [tuple(it) for it in row[3]], str(row[4]), row[5]]


@scenario
@running
async def transactions():
    c = await connect()
    await c.execute("CREATE TABLE a2 (i int PRIMARY KEY)")
    seen = []
    async with c.transaction():
        await c.execute("INSERT INTO a2 VALUES (1)")
        try:
            async with c.transaction():
                await c.execute("INSERT INTO a2 VALUES ($1)", 1)
        except asyncpg.UniqueViolationError as error:
            seen.append(failure(error))
        await c.execute("INSERT INTO a2 VALUES ($1)", 2)
    try:
        async with c.transaction(isolation="repeatable_read", readonly=True):
            await c.execute("INSERT INTO a2 VALUES (3)")
    except asyncpg.PostgresError as error:
        seen.append(failure(error))
    seen.append(values(await c.fetch("SELECT i FROM a2 ORDER BY i")))
    await c.close()
    return seen


@scenario
@running
async def cursors_limit_rows():
    """Execute with a row limit, PortalSuspended, and on."""
    c = await connect()
    async with c.transaction():
        cursor = await c.cursor("SELECT generate_series(1, $1::int)", 100)
        first = values(await cursor.fetch(3))
        skipped = await cursor.forward(10)
        then = values(await cursor.fetch(2))
        total = 0
        async for row in c.cursor("SELECT generate_series(1, 1000)", prefetch=7):
            total += row[0]
    await c.close()
    return [first, skipped, then, total]


@scenario
@running
async def copies():
    c = await connect()
    await c.execute("CREATE TABLE a3 (i int, t text)")
    records = await c.copy_records_to_table("a3", records=[(i, f"r{i}") for i in range(20000)])
    text = await c.copy_to_table("a3", source=io.BytesIO(b"1,one\n2,two\n"), format="csv")
    out = io.BytesIO()
    left = await c.copy_from_query("SELECT * FROM a3 WHERE i < $1 ORDER BY i, t", 100, output=out)
    binary = io.BytesIO()
    whole = await c.copy_from_table("a3", output=binary, format="binary")
    bad = await tried(c.copy_to_table("a3", source=io.BytesIO(b"x,y\n"), format="csv"))

    async def broken():
        yield b"5\tfive\n"
        raise ZeroDivisionError("the source breaks")

    try:
        await c.copy_to_table("a3", source=broken())
        seen = None
    except ZeroDivisionError as error:
        seen = str(error)
    count = await c.fetchval("SELECT count(*) FROM a3")
    await c.close()
    return [records, text, left, len(out.getvalue()), whole, len(binary.getvalue()), bad["sqlstate"], seen, count]


@scenario
@running
async def listeners():
    c, other = await connect(), await connect()
    heard = asyncio.Queue()
    await c.add_listener("news", lambda _, pid, channel, payload: heard.put_nowait([channel, payload]))
    await other.execute("NOTIFY news, 'first'")
    await other.fetch("SELECT pg_notify('news', 'second')")
    seen = [await asyncio.wait_for(heard.get(), 10) for _ in range(2)]
    await c.execute("DO $$BEGIN RAISE NOTICE 'said' USING HINT = 'h'; END$$")
    said = c.said
    await c.close()
    await other.close()
    return [seen, said]


@scenario
@running
async def a_timeout_cancels():
    """asyncpg cancels on a connection of its own and then waits for the server's answer."""
    c = await connect()
    seen = [await tried(c.fetch("SELECT pg_sleep(20)", timeout=0.5))]
    seen.append(values(await c.fetch("SELECT 'next'")))
    task = asyncio.create_task(c.fetch("SELECT /* asyncpg cancels */ pg_sleep(20)"))
    other = await connect()
    while not await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%/* asyncpg cancels%' AND state = 'active'"):
        pass
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        seen.append("cancelled")
    seen.append(values(await c.fetch("SELECT 'next'")))
    await c.close()
    await other.close()
    return seen


@scenario
@running
async def a_pool_of_sessions():
    async def one(pool, i):
        async with pool.acquire() as c:
            return await c.fetchval("SELECT $1::int * 2", i)

    async with asyncpg.create_pool(min_size=2, max_size=5) as pool:
        return await asyncio.gather(*(one(pool, i) for i in range(100)))


@scenario
@running
async def errors():
    c = await connect()
    seen = [await tried(c.fetch(text)) for text in ("SELEC", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT $1::int")]
    seen.append(values(await c.fetch("SELECT 'next'")))
    await c.close()
    return seen


async def after(c):
    return {"status": c.is_in_transaction(), "next": await tried(c.fetch("SELECT 'next'"))}


@asked
@running
async def held(text):
    c = await connect()
    seen = await tried(c.fetch(text))
    return {"result": seen, "notices": c.said, **await after(c)}


@asked
@running
async def held_with_values(text):
    c = await connect()
    seen = await tried(c.fetch(text, 7))
    return {"result": seen, "notices": c.said, **await after(c)}


@asked
@running
async def held_in_transaction(text):
    c = await connect()
    transaction = c.transaction()
    await transaction.start()
    await c.execute("CREATE TABLE before_it (i int)")
    seen = await tried(c.fetch(text))
    seen_after = await after(c)
    # COMMIT of a failed transaction is its rollback.
    await c.execute("COMMIT")
    kept = await c.fetchval("SELECT to_regclass('before_it') IS NOT NULL")
    return {"result": seen, "notices": c.said, "kept": kept, **seen_after}


@asked
@running
async def held_copy_out(text):
    c = await connect()
    out = io.BytesIO()
    seen = await tried(c.copy_from_query(text, output=out))
    if isinstance(seen, str):
        seen = out.getvalue().count(b"\n")
    return {"result": seen, "notices": c.said, **await after(c)}


@asked
@running
async def held_cursor(text):
    c = await connect()
    seen = []
    try:
        async with c.transaction():
            async for row in c.cursor(text, prefetch=2):
                seen.append(row[0])
    except asyncpg.PostgresError as error:
        seen = failure(error)
    return {"result": seen, "notices": c.said, **await after(c)}


@asked
@running
async def held_then_timed_out(text):
    """Gives up once it is told that it is held."""
    c = await connect()
    told = asyncio.Event()
    c.add_log_listener(lambda *_: told.set())
    task = asyncio.create_task(c.fetch(text))
    await asyncio.wait_for(told.wait(), 20)
    task.cancel()
    try:
        await task
        seen = "ran"
    except asyncio.CancelledError:
        seen = "cancelled"
    return {"result": seen, "notices": c.said, **await after(c)}


if __name__ == "__main__":
    main()
