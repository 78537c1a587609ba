"""Runs the scenarios of a driver and prints what it saw as one line of JSON.

    with_DRIVER.py all            every scenario whose result does not depend on what stands between
    with_DRIVER.py NAME ARGUMENT  one of them, or one that waits for a person
"""

import datetime
import decimal
import json
import sys
import traceback

everywhere = {}
alone = {}


def scenario(function):
    """One whose result must be the same with and without countersign."""
    everywhere[function.__name__] = function
    return function


def asked(function):
    """One that is run by name, with an argument."""
    alone[function.__name__] = function
    return function


def plain(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return repr(value)


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception:
        return {"raised": traceback.format_exc(limit=-3)}


def main():
    name, argument = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if name == "all":
        result = {name: attempt(function) for name, function in everywhere.items()}
    elif name in everywhere:
        result = attempt(everywhere[name])
    else:
        result = attempt(alone[name], argument)
    print(json.dumps(result, default=plain))
