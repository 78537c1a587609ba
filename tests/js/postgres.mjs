// node-postgres as an agent's driver: runs scenarios and prints what it saw as one line of JSON.
//
//     postgres.mjs all             every scenario whose result does not depend on what stands between
//     postgres.mjs NAME ARGUMENT   one of them, or one that waits for a person

import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copy from "pg-copy-streams";
import Cursor from "pg-cursor";

async function connect(options = {}) {
  const client = new pg.Client(options);
  client.notices = [];
  client.on("notice", (it) => client.notices.push([it.severity, it.code, it.message, it.detail ?? null, it.hint ?? null]));
  client.on("error", () => {});
  await client.connect();
  return client;
}

const failure = (error) => ({
  class: error.name,
  sqlstate: error.code ?? null,
  message: error.message,
  detail: error.detail ?? null,
  hint: error.hint ?? null,
  severity: error.severity ?? null,
});

const rows = async (query) => (await query).rows;

async function tried(promise) {
  try {
    return await promise;
  } catch (error) {
    return failure(error);
  }
}

const RUNNING = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND state = 'active' AND query LIKE $1`;

async function untilItRuns(marker) {
  const client = await connect();
  while ((await client.query(RUNNING, [`%${marker}%`])).rows[0].n === 0);
  await client.end();
}

// pg.Client.cancel() needs a client of its own that has not connected.
async function cancel(client, query) {
  await new Promise((resolve) => {
    const other = new pg.Client();
    other.connection.once("end", resolve);
    other.cancel(client, query);
  });
}

const everywhere = {
  async plain_and_with_values() {
    const c = await connect();
    const seen = [
      await rows(c.query("SELECT 1 AS a, 'ü' AS b, NULL AS c, '{\"k\": [1]}'::jsonb AS d, '\\x00ff'::bytea AS e")),
      await rows(c.query("SELECT $1::int AS a, $2::text AS b, $3::bytea AS c, $4::int[] AS d", [1, "ü'", Buffer.from([0, 255]), [1, 2]])),
      (await c.query("SELECT 1 AS x; SELECT 2 AS x; SELECT 3 AS x")).map((result) => result.rows),
      await rows(c.query("")),
      await rows(c.query({ text: "SELECT $1::int + 1 AS n", values: [41], binary: true })),
    ];
    await c.end();
    return seen;
  },
  async named_statements() {
    const c = await connect();
    const seen = [];
    for (let i = 0; i < 30; i += 1) seen.push((await c.query({ name: "n", text: "SELECT $1::int * 2 AS n", values: [i] })).rows[0].n);
    seen.push(await tried(c.query({ name: "n", text: "SELECT 'another text'" })));
    seen.push((await c.query("SELECT count(*)::int AS n FROM pg_prepared_statements")).rows);
    seen.push((await c.query({ text: "SELECT generate_series(1, 10) AS g", rows: 4 })).rows.length);
    await c.end();
    return seen;
  },
  async queued_without_waiting() {
    const c = await connect();
    await c.query("CREATE TABLE queued (i int PRIMARY KEY)");
    const sent = [];
    for (let i = 0; i < 200; i += 1) sent.push(tried(c.query("INSERT INTO queued VALUES ($1)", [i % 150])));
    const results = await Promise.all(sent);
    const seen = [results.filter((it) => it.sqlstate === "23505").length, await rows(c.query("SELECT count(*)::int AS n FROM queued"))];
    await c.end();
    return seen;
  },
  async pipelined() {
    const c = await connect({ pipeline: true });
    const results = await Promise.all(Array.from({ length: 100 }, (_, i) => tried(c.query("SELECT 100 / $1::int AS n", [i]).then((it) => it.rows[0].n))));
    await c.end();
    return results;
  },
  async transactions() {
    const c = await connect();
    await c.query("CREATE TABLE t (i int PRIMARY KEY)");
    await c.query("BEGIN");
    await c.query("INSERT INTO t VALUES (1)");
    await c.query("SAVEPOINT s");
    const bad = await tried(c.query("INSERT INTO t VALUES (1)"));
    const aborted = await tried(c.query("SELECT 1"));
    await c.query("ROLLBACK TO s");
    await c.query("INSERT INTO t VALUES (2)");
    await c.query("COMMIT");
    const seen = [bad, aborted, await rows(c.query("SELECT i FROM t ORDER BY i"))];
    await c.end();
    return seen;
  },
  async cursors_limit_rows() {
    const c = await connect();
    const cursor = c.query(new Cursor("SELECT generate_series(1, $1::int) AS g", [100]));
    const first = await cursor.read(3);
    const then = await cursor.read(50);
    await cursor.close();
    const next = await rows(c.query("SELECT 'next' AS n"));
    const bad = c.query(new Cursor("SELECT 1 / (g - 5) AS q FROM generate_series(1, 9) g"));
    const half = [await bad.read(2), await tried(bad.read(9))];
    const last = await rows(c.query("SELECT 'last' AS n"));
    await c.end();
    return [first, then.length, next, half, last];
  },
  async streams() {
    const { default: QueryStream } = await import("pg-query-stream");
    const c = await connect();
    const read = async (stream, most = Infinity) => {
      const got = [];
      for await (const row of stream) if (got.push(row.g) >= most) break;
      return got;
    };
    const text = "SELECT generate_series(1, $1::int) AS g";
    const all = await read(c.query(new QueryStream(text, [10_000], { batchSize: 70, highWaterMark: 10 })));
    // Left early: it closes its portal in the middle of the answer.
    const some = await read(c.query(new QueryStream(text, [10_000], { batchSize: 3 })), 5);
    const next = await rows(c.query("SELECT 'next' AS n"));
    const bad = await tried(read(c.query(new QueryStream("SELECT 1 / (g - 50) AS g FROM generate_series(1, 90) g", [], { batchSize: 20 }))));
    // Inside of a transaction, two at a time: each of them waits for the other's round.
    await c.query("BEGIN");
    const both = await Promise.all([100, 200].map((count) => read(c.query(new QueryStream(text, [count], { batchSize: 9 })))));
    await c.query("COMMIT");
    const last = await rows(c.query("SELECT 'last' AS n"));
    await c.end();
    return [all.length, all.at(-1), some, next, bad, both.map((it) => it.length), last];
  },
  async copies() {
    const c = await connect();
    await c.query("CREATE TABLE copied (i int, t text)");
    const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\tline ${i}\n`);
    await pipeline(Readable.from(lines), c.query(copy.from("COPY copied FROM STDIN")));
    const pieces = [];
    for await (const piece of c.query(copy.to("COPY copied TO STDOUT"))) pieces.push(piece);
    const bad = await tried(pipeline(Readable.from(["x\ty\n"]), c.query(copy.from("COPY copied FROM STDIN"))));
    const seen = [Buffer.concat(pieces).toString() === lines.join(""), bad.sqlstate, await rows(c.query("SELECT count(*)::int AS n FROM copied"))];
    await c.end();
    return seen;
  },
  async listens() {
    const [c, other] = [await connect(), await connect()];
    const heard = [];
    const both = new Promise((resolve) => c.on("notification", (it) => heard.push([it.channel, it.payload]) === 2 && resolve()));
    await c.query("LISTEN news");
    await other.query("NOTIFY news, 'first'");
    await other.query("SELECT pg_notify('news', $1)", ["second"]);
    await both;
    await c.query("DO $$BEGIN RAISE NOTICE 'said' USING HINT = 'h'; END$$");
    const seen = [heard, c.notices];
    await c.end();
    await other.end();
    return seen;
  },
  async cancelled_while_it_runs() {
    const c = await connect();
    const query = new pg.Query("SELECT /* node cancels */ pg_sleep(20)");
    const ended = new Promise((resolve) => {
      query.on("error", (error) => resolve(failure(error)));
      query.on("end", () => resolve("ran"));
    });
    c.query(query);
    await untilItRuns("/* node cancels */");
    await cancel(c, query);
    const seen = [await ended, await rows(c.query("SELECT 'next' AS n"))];
    await c.end();
    return seen;
  },
  async errors() {
    const c = await connect();
    const seen = [];
    for (const text of ["SELEC", "SELECT 1/0", "SELECT * FROM nowhere"]) seen.push(await tried(c.query(text)), await tried(c.query({ text, values: [] })));
    seen.push(await rows(c.query("SELECT 'next' AS n")));
    await c.end();
    return seen;
  },
  async large_results_and_values() {
    const c = await connect();
    const text = "ö".repeat(1_000_000);
    const many = await c.query("SELECT g, repeat('x', 20) AS t FROM generate_series(1, 50000) g");
    const seen = [many.rows.length, await rows(c.query("SELECT length($1::text) AS n", [text])), (await c.query("SELECT repeat('z', 3000000) AS z")).rows[0].z.length];
    await c.end();
    return seen;
  },
  async a_pool_of_sessions() {
    const pool = new pg.Pool({ max: 5 });
    const seen = await Promise.all(Array.from({ length: 50 }, (_, i) => pool.query("SELECT $1::int * 2 AS n", [i])));
    await pool.end();
    return seen.map((result) => result.rows[0].n);
  },
};

const after = async (c) => ({ next: await tried(rows(c.query("SELECT 'next' AS n"))) });

const asked = {
  async held(text) {
    const c = await connect();
    const result = await tried(c.query(text).then((it) => it.rows));
    const seen = { result, notices: c.notices, ...(await after(c)) };
    await c.end();
    return seen;
  },
  async held_with_values(text) {
    const c = await connect();
    const result = await tried(c.query({ name: "held", text, values: [7] }).then((it) => it.rows));
    const seen = { result, notices: c.notices, ...(await after(c)) };
    await c.end();
    return seen;
  },
  async held_in_transaction(text) {
    const c = await connect();
    await c.query("BEGIN");
    await c.query("CREATE TABLE before_it (i int)");
    const result = await tried(c.query(text).then((it) => it.rows));
    const then = await after(c);
    await c.query("COMMIT");
    const kept = (await c.query("SELECT to_regclass('before_it') IS NOT NULL AS kept")).rows[0].kept;
    const seen = { result, notices: c.notices, kept, ...then };
    await c.end();
    return seen;
  },
  async held_copy_out(text) {
    const c = await connect();
    let result = "";
    try {
      for await (const piece of c.query(copy.to(text))) result += piece;
      result = result.split("\n").length - 1;
    } catch (error) {
      result = failure(error);
    }
    const seen = { result, notices: c.notices, ...(await after(c)) };
    await c.end();
    return seen;
  },
  async held_cursor(text) {
    const c = await connect();
    const cursor = c.query(new Cursor(text));
    let result = [];
    try {
      for (let part = await cursor.read(2); part.length > 0; part = await cursor.read(2)) result.push(...part.map((row) => row.id));
    } catch (error) {
      result = failure(error);
    }
    const seen = { result, notices: c.notices, ...(await after(c)) };
    await c.end();
    return seen;
  },
  async held_stream(text) {
    const { default: QueryStream } = await import("pg-query-stream");
    const c = await connect();
    let result = [];
    try {
      for await (const row of c.query(new QueryStream(text, [], { batchSize: 3 }))) result.push(row.id);
    } catch (error) {
      result = failure(error);
    }
    const seen = { result, notices: c.notices, ...(await after(c)) };
    await c.end();
    return seen;
  },
  // Its own time-out tells the server nothing: the query stays, and the good-bye waits behind it.
  async held_then_left(text) {
    const c = await connect();
    const told = new Promise((resolve) => c.once("notice", resolve));
    const query = tried(c.query({ text, query_timeout: 1500 }));
    await told;
    const result = await query;
    c.end();
    return { result, notices: c.notices };
  },
};

const [name, argument] = process.argv.slice(2);
const attempt = async (scenario) => {
  try {
    return await scenario(argument);
  } catch (error) {
    return { raised: error.stack };
  }
};
let result = {};
if (name === "all") for (const [key, scenario] of Object.entries(everywhere)) result[key] = await attempt(scenario);
else result = await attempt(everywhere[name] ?? asked[name]);
console.log(JSON.stringify(result, (_, value) => (typeof value === "bigint" ? String(value) : value)));
process.exit(0);
