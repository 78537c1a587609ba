"""Gets the test suites of others that run through countersign; none of them is in the repository.

    fetch.py FOLDER

`asyncpg` and `psycopg2` are the sources of the installed versions, by pip. `regress` is that of the
installed PostgreSQL, as Debian's source package; without one it is left out, and that is said.
"""

import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

MARK = "fetched"


def python_source(name, folder):
    version = importlib.metadata.version("psycopg2-binary" if name == "psycopg2" else name)
    goal = folder / name
    if (goal / MARK).exists() and (goal / MARK).read_text() == version:
        return
    shutil.rmtree(goal, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        # The archive alone: its requirements are for building it.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", temporary, f"{name}=={version}"], check=True)
        archive = next(pathlib.Path(temporary).glob(f"{name}-*.tar.gz"))
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if "/tests/" in member.name or member.name.endswith("/tests")]
            tar.extractall(temporary, members, filter="data")
        shutil.copytree(next(pathlib.Path(temporary).glob(f"{name}-*/tests")), goal / "tests")
    (goal / MARK).write_text(version)


def postgres_source(folder):
    """The regression tests and the C functions they load."""
    installed = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\n", "postgresql-[0-9][0-9]"], capture_output=True, text=True)
    versions = re.findall(r"^ii *(postgresql-\d+) (\S+)$", installed.stdout, re.MULTILINE)
    if not versions:
        raise LookupError("PostgreSQL is not from a Debian package")
    package, version = max(versions)
    goal = folder / "regress"
    if (goal / MARK).exists() and (goal / MARK).read_text() == version:
        return
    shutil.rmtree(goal, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        apt = apt_with_sources(temporary)
        source = [*apt, "source", "--quiet=2", "--download-only", f"{package}={version}"]
        subprocess.run(source, check=True, cwd=temporary, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        headers = f"{package.replace('postgresql', 'postgresql-server-dev')}={version}"
        subprocess.run(["apt-get", "download", "--quiet=2", headers], check=True, cwd=temporary, stderr=subprocess.DEVNULL)
        with tarfile.open(next(temporary.glob("*.orig.tar.*"))) as tar:
            wanted = re.compile(r"[^/]+/src/(test/regress|pl/plpgsql/src)/")
            tar.extractall(temporary, [member for member in tar if wanted.match(member.name)], filter="data")
        subprocess.run(["dpkg-deb", "-x", next(temporary.glob("*.deb")), temporary / "headers"], check=True)
        regress = next(temporary.glob("*/src/test/regress"))
        include = next((temporary / "headers").glob("usr/include/postgresql/*/server"))
        compile = ["cc", "-O1", "-w", "-fPIC", "-shared", "-I", include, "-o", regress / "regress.so", regress / "regress.c"]
        subprocess.run(compile, check=True)
        goal.mkdir(parents=True)
        for name in ("sql", "expected", "data"):
            shutil.copytree(regress / name, goal / name)
        for name in ("regress.so", "parallel_schedule", "resultmap"):
            shutil.copy(regress / name, goal / name)
        shutil.rmtree(folder / "plpgsql", ignore_errors=True)
        for name in ("sql", "expected", "data"):
            shutil.copytree(regress.parents[1] / "pl/plpgsql/src" / name, folder / "plpgsql" / name)
    (goal / MARK).write_text(version)


def apt_with_sources(temporary):
    """apt-get that also knows the source packages of the archives that it is set up with."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (temporary / name).mkdir(parents=True)
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = subprocess.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"], check=True, capture_output=True, text=True)
    lines = {f"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {line}" for line in targets.stdout.splitlines()}
    (temporary / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    places = {"Dir::Etc::sourcelist": "sources.list", "Dir::Etc::sourceparts": "parts", "Dir::State::lists": "lists", "Dir::Cache": "cache"}
    options = {name: temporary / place for name, place in places.items()}
    options["APT::Sandbox::User"] = "root"
    apt = ["apt-get", *(word for name, place in options.items() for word in ("-o", f"{name}={place}"))]
    subprocess.run([*apt, "update", "--quiet=2"], check=True)
    return apt


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("asyncpg", "psycopg2"):
        python_source(name, folder)
    try:
        postgres_source(folder)
    except (LookupError, OSError, StopIteration, subprocess.CalledProcessError) as error:
        print(f"PostgreSQL's regression tests are left out: {error}")


main(pathlib.Path(sys.argv[1]))
