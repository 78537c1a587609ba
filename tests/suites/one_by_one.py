"""Runs one module of a unittest suite and prints what became of each test as one line of JSON.

    one_by_one.py FOLDER MODULE
"""

import json
import sys
import unittest


class Outcomes(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.seen = {}

    def note(self, test, outcome):
        self.seen.setdefault(test.id(), outcome)

    def addSuccess(self, test):
        self.note(test, "ok")

    def addError(self, test, error):
        self.note(test, f"error: {error[0].__name__}: {error[1]}"[:300])

    def addFailure(self, test, error):
        self.note(test, f"failure: {error[1]}"[:300])

    def addSkip(self, test, reason):
        self.note(test, f"skipped: {reason}"[:300])

    def addExpectedFailure(self, test, error):
        self.note(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.note(test, "unexpected success")

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.note(test, f"failure: {error[1]}"[:300])


folder, module = sys.argv[1:]
sys.path.insert(0, folder)
outcomes = Outcomes()
real, sys.stdout = sys.stdout, sys.stderr
unittest.defaultTestLoader.loadTestsFromName(module).run(outcomes)
print(json.dumps(outcomes.seen), file=real)
