"""The suites of PostgreSQL, asyncpg and psycopg2: directly and through countersign, which lets everything
pass, and the difference.

    postgres.py FOLDER [--slice] [--only NAME,...] [--known FILE]

FOLDER is what fetch.py filled. With `--slice` it runs what takes a minute. The exit code is 1 where
something fails through countersign that does not fail directly, but for what the file of known
differences names: lines of `SUITE TEST reason`.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("COUNTERSIGN", ROOT / "target" / "debug" / "countersign"))
PATIENCE = 240
RULES = "rules:\n  - id: elsewhere\n    match: { action: [aws:iam:DeleteUser] }\n    decision: deny\n"
CONFIG = """\
listen: {{ agents: '127.0.0.1:0', api: '127.0.0.1:0', admin: '127.0.0.1:0', postgres: '127.0.0.1:0' }}
upstream:
  aws: {{ endpoint: 'http://127.0.0.1:9', region: us-east-1 }}
  postgres: {{ hosts: ['127.0.0.1:{port}'], user: postgres, password_file: real, tls: disable, message_limit: 64MiB }}
rules: {{ ordinary: allow, privileged: allow, unknown: allow }}
log: {{ level: error }}
people: {{ olga: {{ emails: [olga@example.com], groups: [security] }} }}
"""
# After `test_setup`, in the order of the schedule, with what they need of each other.
REGRESS_SLICE = (
    "boolean char varchar text int4 int8 float8 numeric money enum strings date timestamptz comments expressions unicode encoding copy "
    "copyselect copydml insert insert_conflict create_function_c create_misc create_aggregate create_operator create_table create_type create_am create_index_spgist create_index create_view create_cast constraints triggers "
    "select errors updatable_views roleattributes select_into select_distinct subselect union case join aggregates transactions "
    "portals arrays namespace prepared_xacts update delete returning largeobject with guc select_views portals_p2 prepare plpgsql temp "
    "rangefuncs returning limit copy2 polymorphism sequence truncate rowtypes domain xml json jsonb psql psql_crosstab"
).split()
SLICES = {
    "asyncpg": "test_cancellation test_codecs test_copy test_cursor test_execute test_listeners test_prepare test_record test_transaction".split(),
    "psycopg2": "test_async test_cancel test_copy test_cursor test_fast_executemany test_green test_lobject test_replication test_transaction "
    "test_types_basic test_types_extras test_with".split(),
}


class Database:
    """A new server, and where clients connect to it."""

    def __init__(self, through):
        words = [sys.executable, ROOT / "tests/it/support/database.py"]
        self.server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = json.loads(self.server.stdout.readline())
        self.folder = pathlib.Path(self.at["folder"])
        self.countersign = None
        environment = {"PGHOST": "127.0.0.1", "PGPORT": str(self.at["port"]), "PGUSER": self.at["user"], "PGPASSWORD": self.at["password"]}
        if through:
            self.data = pathlib.Path(tempfile.mkdtemp(prefix="countersign-suite-"))
            environment |= self.start_countersign()
        self.environment = {"PATH": f"{self.at['bin']}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.folder)} | environment

    def start_countersign(self):
        # Nothing here speaks to AWS, whose plane wants a credential all the same.
        aws = {"AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL", "AWS_SECRET_ACCESS_KEY": "unused", "AWS_EC2_METADATA_DISABLED": "true"}
        environment = {"PATH": os.environ["PATH"], "COUNTERSIGN_DATA": str(self.data)} | aws
        run = lambda *words: subprocess.run([PROGRAM, *words], env=environment, check=True, capture_output=True, text=True).stdout
        run("init", "--data", str(self.data), "--approver", "olga")
        (self.data / "countersign.yaml").write_text(CONFIG.format(port=self.at["port"]))
        (self.data / "real").write_text(self.at["password"])
        shutil.rmtree(self.data / "rules", ignore_errors=True)
        (self.data / "rules").mkdir()
        (self.data / "rules/none.yaml").write_text(RULES)
        key = json.loads(run("agent", "add", "suite", "--owner", "olga", "--json"))
        log = open(self.data / "server.log", "w")
        self.countersign = subprocess.Popen([PROGRAM, "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        file = self.data / "run.json"
        while not file.exists():
            if self.countersign.poll() is not None:
                sys.exit("countersign ended: " + (self.data / "server.log").read_text())
            time.sleep(0.05)
        port = json.loads(file.read_text())["postgres"].rsplit(":", 1)[1]
        return {"PGPORT": port, "PGUSER": key["access_key_id"], "PGPASSWORD": key["secret_access_key"]}

    def psql(self, *statements, database="postgres"):
        """As superuser, directly."""
        psql = [f"{self.at['bin']}/psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.at["port"]), "-U", "postgres", "-d", database]
        subprocess.run([*psql, *(word for statement in statements for word in ("-c", statement))], check=True, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.countersign:
            if self.countersign.poll() is None:
                self.countersign.terminate()
            else:
                print("countersign ended by itself: " + (self.data / "server.log").read_text()[-3000:])
            self.countersign.wait()
            shutil.rmtree(self.data)
        self.server.stdin.close()
        self.server.wait()


def regress(database, folder, is_slice):
    """PostgreSQL's own: psql's output must be the expected one, spaces aside. One test after the other."""
    schedule = (folder / "parallel_schedule").read_text().splitlines()
    names = [name for line in schedule if line.startswith("test:") for name in line[5:].split()]
    if is_slice:
        names = ["test_setup", *(name for name in names if name in REGRESS_SLICE)]
    return expected_output(database, folder, "regression", names)


def plpgsql(database, folder, is_slice):
    names = sorted(file.stem for file in (folder / "sql").iterdir())
    return expected_output(database, folder, "pl_regression", names[:4] if is_slice else names)


def expected_output(database, folder, name, tests):
    # In the server's folder, since the server reads and writes files of it.
    work = database.folder / name
    shutil.copytree(folder, work)
    (work / "results").mkdir()
    # Modules of contrib that the tests load from beside their own.
    for module in ("autoinc.so", "refint.so"):
        shutil.copy(pathlib.Path(database.at["bin"]).parent / "lib" / module, work)
    for path in [work, *work.rglob("*")]:
        path.chmod(0o777)
    alter = f"ALTER DATABASE {name} SET"
    database.psql(
        f"CREATE DATABASE {name} TEMPLATE = template0",
        *(f"{alter} lc_{kind} TO 'C'" for kind in ("messages", "monetary", "numeric", "time")),
        f"{alter} bytea_output TO 'hex'",
        f"{alter} timezone_abbreviations TO 'Default'",
    )
    environment = database.environment | {
        "PG_ABS_SRCDIR": str(work), "PG_ABS_BUILDDIR": str(work), "PG_LIBDIR": str(work), "PG_DLSUFFIX": ".so",
        "PGTZ": "America/Los_Angeles", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": "-c intervalstyle=postgres_verbose", "LANG": "C", "LC_MESSAGES": "C",
    }
    psql = [f"{database.at['bin']}/psql", "-X", "-a", "-q", "-d", name, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    seen = {}
    for test in tests:
        result = work / "results" / f"{test}.out"
        with open(work / "sql" / f"{test}.sql") as script, open(result, "w") as out:
            try:
                subprocess.run(psql, env=environment | {"PGAPPNAME": f"pg_regress/{test}"}, stdin=script, stdout=out, stderr=out, cwd=work, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                seen[test] = "timeout"
                continue
        got = squeezed(result)
        expected = [work / "expected" / f"{test}.out", *(work / "expected").glob(f"{test}_[0-9].out")]
        # What differs is kept, without what is another each time.
        seen[test] = "ok" if any(got == squeezed(file) for file in expected) else "differs from what is expected\0" + got.replace(str(work), "")
    return seen


def squeezed(file):
    """What `diff -w` compares."""
    return "\n".join(re.sub(r"\s+", "", line) for line in file.read_text(errors="replace").splitlines())


def of_python(suite):
    def run(database, folder, is_slice):
        database.psql("CREATE DATABASE suite", "CREATE EXTENSION IF NOT EXISTS hstore")
        environment = database.environment | {"PGDATABASE": "suite", "PYTHONDONTWRITEBYTECODE": "1"}
        if suite == "psycopg2":
            database.psql("CREATE EXTENSION hstore", database="suite")
            environment |= {"PSYCOPG2_TESTDB": "suite", "PSYCOPG2_TEST_REPL_DSN": ""}
        seen = {}
        for file in sorted((folder / "tests").glob("test_*.py")):
            if is_slice and file.stem not in SLICES[suite]:
                continue
            words = [sys.executable, ROOT / "tests/suites/one_by_one.py", folder, f"tests.{file.stem}"]
            try:
                done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE, cwd=database.folder)
                lines = done.stdout.splitlines() or ["{}"]
                seen |= json.loads(lines[-1]) if done.returncode == 0 else {f"tests.{file.stem}": f"ended with {done.returncode}: {done.stderr[-300:]}"}
            except subprocess.TimeoutExpired:
                seen[f"tests.{file.stem}"] = "timeout"
        return seen

    return run


SUITES = {"asyncpg": of_python("asyncpg"), "plpgsql": plpgsql, "psycopg2": of_python("psycopg2"), "regress": regress}


def run(suite, folder, is_slice, through):
    with Database(through) as database:
        start = time.monotonic()
        return SUITES[suite](database, folder / suite, is_slice), time.monotonic() - start


def failed(outcome):
    return outcome is not None and outcome != "ok" and not outcome.startswith("skipped")


def compare(suite, folder, is_slice, known):
    """Prints the difference; how many tests fail only through countersign."""
    with concurrent.futures.ThreadPoolExecutor(1 if (os.cpu_count() or 1) < 2 else 2) as pool:
        both = [pool.submit(run, suite, folder, is_slice, through) for through in (False, True)]
        (direct, direct_time), (through, through_time) = (it.result() for it in both)
    worse = {name: through.get(name) or "was not run" for name in direct if not failed(direct[name]) and direct[name] != through.get(name)}
    # What fails directly too must fail in the same way.
    worse |= {name: through.get(name) for name in direct if "\0" in direct[name] and through.get(name) != direct[name]}
    better = [name for name in direct if failed(direct[name]) and not failed(through.get(name, ""))]
    count = lambda seen: f"{sum(not failed(it) for it in seen.values())} of {len(seen)} pass"
    print(f"{suite}: directly {count(direct)} in {direct_time:.0f} s, through countersign {count(through)} in {through_time:.0f} s")
    for name in sorted(name for name in direct if failed(direct[name])):
        print(f"  fails directly: {name}: {direct[name].partition(chr(0))[0]}")
    for name in better:
        print(f"  fails only directly: {name}")
    for name, outcome in sorted(worse.items()):
        why = known.get((suite, name))
        print(f"  {'known' if why else 'FAILS ONLY THROUGH'}: {name}: {why or outcome.partition(chr(0))[0]}")
        if not why and "\0" in outcome and direct[name] == "ok":
            show(outcome.partition("\0")[2], squeezed(folder / suite / "expected" / f"{name}.out"))
    return sum((suite, name) not in known for name in worse)


def show(got, expected):
    import difflib

    for line in list(difflib.unified_diff(expected.splitlines(), got.splitlines(), "expected", "through", lineterm="", n=1))[:40]:
        print(f"    {line[:200]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--slice", action="store_true")
    parser.add_argument("--only", default=",".join(SUITES))
    parser.add_argument("--known", type=pathlib.Path, default=ROOT / "tests/suites/known.txt")
    options = parser.parse_args()
    lines = [line.split(maxsplit=2) for line in options.known.read_text().splitlines() if line and not line.startswith("#")]
    known = {(suite, test): why for suite, test, why in lines}
    worse = 0
    for suite in options.only.split(","):
        if (options.folder / suite).exists():
            worse += compare(suite, options.folder.resolve(), options.slice, known)
        else:
            print(f"{suite}: not run, its sources are not there")
    sys.exit(worse > 0)


if __name__ == "__main__":
    main()
