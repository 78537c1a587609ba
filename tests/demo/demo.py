"""The scripted demo: an unmodified SDK and an unmodified driver, a held call and a held statement, a
person, one run, and the proof.

Everything is real but AWS itself, for which moto's server stands in. Each line marked `$` is run
as shown. The demo checks what it shows and ends with a non-zero exit code when any of it is not so.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target" / "debug" / "countersign"
PATIENCE = 60
RULES = """\
rules:
  - id: keys-that-leave
    description: An access key works from anywhere, without this gate.
    match: { action: [aws:iam:CreateAccessKey] }
    decision: hold
    approvers: [security]
    expires: 15m
    message: An access key works from anywhere. Say what it is for.
    controls: [SOC2 CC6.1, ISO27001 A.8.2]
  - id: rights
    match: { action: ['aws:iam:Attach*', 'aws:iam:Put*Policy'] }
    decision: hold
    approvers: [security]
  - id: no-user-deletion
    match: { action: [aws:iam:DeleteUser] }
    decision: deny
    message: Users are never deleted by agents.
  - id: bulk-export
    description: Whole tables leave the database.
    match: { action: [postgres:copy_out] }
    decision: hold
    approvers: [security]
    message: A copy of customers is a copy for good. A sample may do.
    controls: [SOC2 CC6.7, ISO27001 A.8.12]
  - id: no-drops
    match: { action: ['postgres:drop_*'] }
    decision: deny
    message: Agents migrate; they do not drop.
"""
PEOPLE = """\
people:
  alice: { emails: [alice@example.com], groups: [security] }
  olga: { emails: [olga@example.com], groups: [security] }
"""

# What the real role may see, with its password, which no agent knows.
REAL_PASSWORD = "the-real-password"
TABLES = (
    f"CREATE ROLE reporting LOGIN PASSWORD '{REAL_PASSWORD}'",
    "CREATE TABLE customers AS SELECT g AS id, 'customer ' || g AS name, 'c' || g || '@example.com' AS email FROM generate_series(1, 25000) g",
    "CREATE TABLE orders AS SELECT g AS id, current_date - g % 7 AS day FROM generate_series(1, 700) g",
    "ALTER TABLE customers OWNER TO reporting",
    "GRANT SELECT ON orders TO reporting",
    "ANALYZE",
)
SAMPLE = "COPY (SELECT * FROM customers LIMIT 100) TO STDOUT"

bold = (lambda text: f"\033[1m{text}\033[0m") if sys.stdout.isatty() else (lambda text: text)
processes = []
databases = []


def title(text):
    print(f"\n{bold('== ' + text)}\n", flush=True)


def lines(who, text):
    for line in text.rstrip().splitlines():
        print(f"{who:>9} | {line}", flush=True)


def check(truth, what):
    if not truth:
        sys.exit(f"demo failed: {what}")


def wait_for(what, look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.05)
    sys.exit(f"demo failed: waited {PATIENCE} s for {what}")


class Demo:
    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        self.environment = {
            "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
            "COUNTERSIGN_DATA": str(self.data),
        }

    def run(self, who, arguments, expect=0, env=None, show=True, shown=None):
        """Runs countersign; shows the command and what it said."""
        if show:
            words = [f"'{word}'" if " " in word else word for word in arguments]
            lines(who, "$ countersign " + " ".join(words).replace(str(self.folder), "."))
        done = subprocess.run(
            [PROGRAM, *arguments], env=self.environment | (env or {}), capture_output=True, text=True, cwd=self.folder
        )
        said = (done.stdout + done.stderr).replace(str(self.folder), ".")
        if show or done.returncode != expect:
            lines("", shown(said) if shown else said)
        check(done.returncode == expect, f"exit code {done.returncode} instead of {expect}")
        return done.stdout

    def start_aws(self):
        server = subprocess.Popen(
            [sys.executable, ROOT / "tests/it/support/cloud.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        processes.append(server)
        self.aws = server.stdout.readline().strip()
        keys = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": "us-east-1"}
        self.iam = boto3.client("iam", endpoint_url=self.aws, **keys)
        self.iam.create_user(UserName="deploy-bot")

    def start_postgres(self):
        server = subprocess.Popen(
            [sys.executable, ROOT / "tests/it/support/database.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        databases.append(server)
        self.postgres = json.loads(server.stdout.readline())
        at = {"host": self.postgres["folder"], "port": self.postgres["port"], "user": "postgres"}
        self.database = psycopg.connect(dbname="postgres", autocommit=True, **at)
        for statement in TABLES:
            self.database.execute(statement)
        (self.folder / "reporting.password").write_text(REAL_PASSWORD)

    def configure(self):
        said = self.run("operator", ["init", "--data", str(self.data), "--approver", "alice"])
        self.log_key = next(line for line in said.splitlines() if line.startswith("audit log key:")).split()[-1]
        (self.data / "countersign.yaml").write_text(
            "listen: { agents: '127.0.0.1:0', postgres: '127.0.0.1:0', api: '127.0.0.1:0', admin: '127.0.0.1:0' }\n"
            f"upstream:\n  aws: {{ endpoint: '{self.aws}', region: us-east-1 }}\n"
            f"  postgres: {{ hosts: ['127.0.0.1:{self.postgres['port']}'], database: postgres, user: reporting, "
            f"password_file: '{self.folder}/reporting.password', tls: disable }}\n{PEOPLE}"
        )
        rules = self.data / "rules"
        shutil.rmtree(rules, ignore_errors=True)
        rules.mkdir()
        (rules / "demo.yaml").write_text(RULES)
        self.run("operator", ["rules", "check"])

    def start_server(self):
        real = {"AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL", "AWS_SECRET_ACCESS_KEY": "the-real-secret"}
        log = open(self.folder / "server.log", "w")
        server = subprocess.Popen(
            [PROGRAM, "serve"], env=self.environment | real, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        processes.append(server)

        def running():
            if server.poll() is not None:
                sys.exit("demo failed: the server ended: " + (self.folder / "server.log").read_text())
            file = self.data / "run.json"
            return file.exists() and json.loads(file.read_text())

        lines("operator", "$ countersign serve &")
        self.server, self.at = server, wait_for("the server", running)
        lines("", "\n".join(f"{name} listening on {self.at[name]}" for name in ("agents", "postgres", "api", "admin")))

    def agent(self, task):
        """Starts the agent; its words appear as it says them."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ENDPOINT_URL": self.at["agents"],
            "AWS_ACCESS_KEY_ID": self.key["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.key["secret_access_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SDK_UA_APP_ID": "ticket-4711",
        }
        return self.started(["agent.py", task], environment)

    def reporter(self, task):
        """The same for the agent that uses the database."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PGHOST": "127.0.0.1",
            "PGPORT": self.at["postgres"].rsplit(":", 1)[1],
            "PGUSER": self.reporter_key["access_key_id"],
            "PGPASSWORD": self.reporter_key["secret_access_key"],
            "PGDATABASE": "postgres",
            "PGAPPNAME": "weekly-report",
        }
        return self.started(["reporter.py", task], environment)

    def started(self, words, environment):
        process = subprocess.Popen(
            [sys.executable, ROOT / "tests/demo" / words[0], *words[1:]],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        processes.append(process)
        process.said = []

        def relay():
            for line in process.stdout:
                process.said.append(line)
                lines("agent", line)

        process.relay = threading.Thread(target=relay)
        process.relay.start()
        return process

    def pending(self):
        found = wait_for("the hold", lambda: self.run("", ["holds", "list", "--ids"], env=self.alice, show=False).split())
        check(len(found) == 1, f"holds: {found}")
        return found[0]

    def timeline(self, log):
        """The log's records, one short line each; `audit tail` shows all of their members."""
        text = self.run("auditor", ["audit", "tail", str(log), "--json", "-n", "100"], show=False)
        for record in map(json.loads, text.splitlines()):
            about = record.get("action") or [action["action"] for action in record.get("actions", [])]
            about = " ".join(about) if isinstance(about, list) else about
            end = record.get("verdict") or record.get("outcome") or record.get("ending") or ""
            who = record.get("person") or record.get("agent") or ""
            status = str(record.get("status", ""))
            words = [record["type"], who, end, status, about]
            lines("auditor", f"{record['seq']:>3}  {record['ts'][11:23]}  {words[0]:<17} " + " ".join(w for w in words[1:] if w))

    def keys_in_aws(self):
        return len(self.iam.list_access_keys(UserName="deploy-bot")["AccessKeyMetadata"])


def ended(process):
    code = process.wait(PATIENCE)
    process.relay.join()
    return code


def main(folder):
    demo = Demo(folder)
    title("An operator sets up countersign before AWS (moto stands in for it) and PostgreSQL")
    demo.start_aws()
    demo.start_postgres()
    demo.configure()
    token = json.loads(demo.run("", ["approver", "add", "alice", "--json"], show=False))["token"]
    demo.alice = {"COUNTERSIGN_TOKEN": token}
    demo.key = json.loads(demo.run("", ["agent", "add", "deployer", "--owner", "olga", "--json"], show=False))
    lines("operator", "$ countersign agent add deployer --owner olga")
    lines("", f"AWS_ACCESS_KEY_ID={demo.key['access_key_id']} (only countersign accepts it)")
    demo.reporter_key = json.loads(demo.run("", ["agent", "add", "reporter", "--owner", "olga", "--json"], show=False))
    lines("operator", "$ countersign agent add reporter --owner olga")
    lines("", f"PGUSER={demo.reporter_key['access_key_id']} (the real role is `reporting`)")
    demo.start_server()

    title("The agent reads: nothing holds that")
    check(ended(demo.agent("read")) == 0, "an ordinary call did not pass")

    title("The agent creates an access key: suspended on its own connection")
    call = demo.agent("key")
    hold = demo.pending()
    check(call.poll() is None and demo.keys_in_aws() == 0, "the call was not held")
    lines("agent", "(waits; the SDK knows nothing of it)")
    print()
    demo.run("alice", ["holds", "show", hold], env=demo.alice)
    print()
    demo.run("alice", ["approve", hold, "--reason", "key for the blue/green rollout, ticket-4711"], env=demo.alice)
    check(ended(call) == 0, "the approved call failed")
    check(demo.keys_in_aws() == 1, "AWS must have seen the call exactly once")
    lines("aws", f"deploy-bot has {demo.keys_in_aws()} access key")

    title("The agent asks for too much: a person says no")
    call = demo.agent("admin")
    hold = demo.pending()
    demo.run("alice", ["deny", hold, "--reason", "not for a deployer; ask for s3:PutObject"], env=demo.alice)
    check(ended(call) == 3, "the denied call did not fail")
    check("not for a deployer" in "".join(call.said), "the agent was not told why")
    attached = demo.iam.list_attached_user_policies(UserName="deploy-bot")["AttachedPolicies"]
    check(attached == [], "the denied call ran")
    lines("aws", "deploy-bot has no policy attached")

    title("An agent reads the database: nothing holds that")
    check(ended(demo.reporter("count")) == 0, "an ordinary statement did not pass")

    title("It exports all customers: held in its session, and narrowed")
    call = demo.reporter("export")
    hold = demo.pending()
    check(call.poll() is None, "the statement was not held")
    demo.run("alice", ["holds", "show", hold], env=demo.alice)
    print()
    demo.run("alice", ["modify", hold, "--set", f"sql={SAMPLE}", "--reason", "100 rows show the format"], env=demo.alice)
    check(ended(call) == 0, "the narrowed statement failed")
    check("-> 100 rows\n" in call.said, "the agent must have got exactly 100 rows")
    check(SAMPLE in "".join(call.said), "the agent was not told what ran")

    title("It drops the table: a rule says no")
    check(ended(demo.reporter("drop")) == 3, "the denied statement did not fail")
    (count,) = demo.database.execute("SELECT count(*) FROM customers").fetchone()
    check(count == 25000, "the denied statement ran")
    lines("postgres", f"customers has {count} rows")

    title("An auditor verifies the log, offline")
    log = demo.data / "audit"
    demo.timeline(log)
    print()
    demo.run("auditor", ["audit", "verify", str(log), "--key", demo.log_key])

    title("Somebody rewrites history")
    forged = folder / "forged"
    shutil.copytree(log, forged)
    segment = next(path for path in sorted(forged.iterdir()) if path.is_file() and b"alice" in path.read_bytes())
    lines("intruder", f"$ sed -i 's/\"person\":\"alice\"/\"person\":\"mallo\"/' {segment.relative_to(folder)}")
    segment.write_bytes(segment.read_bytes().replace(b'"person":"alice"', b'"person":"mallo"'))
    demo.run("auditor", ["audit", "verify", str(forged), "--key", demo.log_key], expect=1)

    demo.server.terminate()
    check(demo.server.wait(PATIENCE) == 0, "the server did not end cleanly")
    title("Done: held, decided by a person, run once, proven, before a cloud and a database")


if __name__ == "__main__":
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is missing: run `make demo`")
    with tempfile.TemporaryDirectory(prefix="countersign-demo-") as temporary:
        try:
            main(pathlib.Path(temporary))
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
            for database in databases:
                # It takes its files with it.
                database.stdin.close()
                database.wait(PATIENCE)
