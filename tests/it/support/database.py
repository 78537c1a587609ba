"""PostgreSQL on a free port, in a folder of its own: prints where it is as one line of JSON, ends when
standard input closes and takes its files with it.

    database.py [NAME=VALUE...]     with these settings more

Durability is off. The superuser is `postgres` with the password `real-secret`; over the Unix socket in
the folder it needs none.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 200
max_prepared_transactions = 10
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = logical
password_encryption = 'scram-sha-256'
"""
ACCESS = "local all postgres trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n"
PATIENCE = 30


def program(name):
    """Of the newest version that is installed, or from the PATH."""
    versions = [path for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    versions.sort(key=lambda path: int(path.parent.name))
    return str(versions[-1] / name) if versions else name


def as_owner(*words):
    """The server refuses to run as root."""
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
    return [*drop, *words]


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def main(settings):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="countersign-postgres-"))
    data = folder / "data"
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    try:
        # Locale C, as PostgreSQL's own tests expect it.
        initdb = as_owner(program("initdb"), "--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres", "--auth=trust", "-D", str(data))
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
        port = free_port()
        with open(data / "postgresql.conf", "a") as file:
            file.write(SETTINGS.format(port=port, folder=folder) + "\n".join(settings) + "\n")
        (data / "pg_hba.conf").write_text(ACCESS)
        with open(folder / "server.log", "w") as log:
            server = subprocess.Popen(as_owner(program("postgres"), "-D", str(data)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        try:
            psql = [program("psql"), "-XAtq", "-h", str(folder), "-p", str(port), "-U", "postgres", "-c"]
            give_up = time.monotonic() + PATIENCE
            while subprocess.run([*psql, "ALTER ROLE postgres PASSWORD 'real-secret'"], stderr=subprocess.DEVNULL).returncode != 0:
                if server.poll() is not None or time.monotonic() > give_up:
                    sys.exit("PostgreSQL did not start: " + (folder / "server.log").read_text())
                time.sleep(0.05)
            where = {"folder": str(folder), "port": port, "user": "postgres", "password": "real-secret", "bin": str(pathlib.Path(program("psql")).parent)}
            print(json.dumps(where), flush=True)
            # An interrupt from the terminal goes to everyone; the end of standard input is what counts.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.stdin.read()
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main(sys.argv[1:])
