"""An agent that reports: psycopg as it comes from the shelf, pointed at countersign by its environment alone."""

import sys

import psycopg


def say(text):
    print(text, flush=True)


def main(task):
    with psycopg.connect("", autocommit=True) as database:
        database.add_notice_handler(lambda it: say(f"{it.severity}: {it.message_primary}\n  {it.message_detail}"))
        if task == "count":
            (count,) = database.execute("SELECT count(*) FROM orders WHERE day = current_date").fetchone()
            say(f"SELECT count(*) FROM orders WHERE day = current_date -> {count}")
        elif task == "export":
            text = "COPY (SELECT * FROM customers) TO STDOUT"
            say(f"{text} ...")
            with database.cursor().copy(text) as copy:
                rows = sum(1 for _ in copy.rows())
            say(f"-> {rows} rows")
        elif task == "drop":
            say("DROP TABLE customers ...")
            database.execute("DROP TABLE customers")
            say("-> dropped")


try:
    main(sys.argv[1])
except psycopg.Error as error:
    say(f"-> {error.sqlstate} {error}")
    sys.exit(3)
