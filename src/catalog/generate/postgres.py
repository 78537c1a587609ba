"""Makes src/catalog/data/postgres.bin: commands and functions of PostgreSQL with what they can do.

Functions and their volatility come from the catalogue of a running server (`psql` finds it by the usual PG*
variables; without PGHOST one is started for it); what a catalogue does not say comes from curated/postgres.toml. The
server's version goes into the table.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import struct
import subprocess
import sys
import tomllib
import zlib

HERE = pathlib.Path(__file__).parent
MAGIC = b"CSPGS01\n"
LEVELS = ["list", "read", "tagging", "write", "permissions"]
QUERY = """SELECT proname, max(CASE provolatile WHEN 'v' THEN 2 WHEN 's' THEN 1 ELSE 0 END), array_agg(oid::int8 ORDER BY oid)
FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1 ORDER BY 1"""


SERVER = HERE.parents[2] / "tests/it/support/database.py"


def start():
    """A server that ends with this process, found by the PG* variables."""
    server = subprocess.Popen([sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    where = json.loads(server.stdout.readline())
    os.environ |= {"PGHOST": where["folder"], "PGPORT": str(where["port"]), "PGUSER": where["user"], "PGDATABASE": "postgres"}
    return server


def ask(query):
    command = ["psql", "-XAtqc", f"SELECT json_agg(q) FROM ({query}) q"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def matching(patterns, names, what):
    """The names that the patterns mean; each pattern must mean something."""
    found = set()
    for pattern in patterns.split():
        hits = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            raise SystemExit(f"{what}: nothing is named `{pattern}`")
        found.update(hits)
    return found


def commands(curated):
    access = {name: level for level, names in curated["commands"].items() for name in names.split()}
    certain, possible = ({name: [] for name in access} for _ in range(2))
    for table, section in ((certain, "traits"), (possible, "possible")):
        for trait, names in curated[section].items():
            for name in matching(names, access, f"{section}.{trait}"):
                table[name].append(trait)
    return [[name, LEVELS.index(access[name]), certain[name], possible[name]] for name in sorted(access)]


def functions(curated, rows):
    """Name, volatility, traits, 1 when a call writes, place of the argument that is SQL, oids."""
    volatility = {row["proname"]: row["max"] for row in rows}
    oids = {row["proname"]: row["array_agg"] for row in rows}
    for name in curated["newer"]["names"].split():
        volatility.setdefault(name, 1)
    said = {}
    for group, entry in curated["function"].items():
        for name in matching(entry["names"], volatility, f"function.{group}"):
            if name in said:
                raise SystemExit(f"`{name}` stands twice")
            said[name] = (entry["traits"], int(entry.get("write", False)), entry.get("text"))
    harmless = matching(curated["harmless"]["names"], volatility, "harmless")
    if both := harmless & said.keys():
        raise SystemExit(f"harmless and not: {sorted(both)}")
    if left := {name for name, level in volatility.items() if level == 2} - harmless - said.keys():
        raise SystemExit(f"volatile and nowhere in curated/postgres.toml: {sorted(left)}")
    rows = []
    for name in sorted(volatility):
        traits, write, text = said.get(name, ([], 0, None))
        rows.append([name, volatility[name], traits, write, text, oids.get(name, [])])
    return rows


def extensions(curated):
    return sorted(
        [name, 2, entry["traits"], int(entry.get("write", False)), entry.get("text"), []]
        for entry in curated["extension"].values()
        for name in entry["names"].split()
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=HERE.parent / "data/postgres.bin", type=pathlib.Path)
    options = parser.parse_args()
    server = None if "PGHOST" in os.environ else start()
    curated = tomllib.loads((HERE.parent / "curated/postgres.toml").read_text())
    version = ask("SELECT current_setting('server_version') AS version")[0]["version"]
    table = {
        "version": version,
        "commands": commands(curated),
        "functions": functions(curated, ask(QUERY)),
        "extensions": extensions(curated),
        "types": sorted(row["typname"] for row in ask(
            "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype <> 'c' AND typname NOT LIKE E'\\\\_%'")),
        "relations": sorted(row["relname"] for row in ask(
            "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')")),
        "collecting": sorted(curated["collecting"]["names"].split()),
        "settings": sorted([name, trait] for trait, names in curated["settings"].items() for name in names.split()),
    }
    packed = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 9)
    options.out.write_bytes(MAGIC + struct.pack("<I", len(packed)) + packed)
    print(f"{options.out}: {options.out.stat().st_size} bytes, PostgreSQL {version}", file=sys.stderr)
    if server:
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    main()
