"""A workspace of Slack: its Web API, and the people in it who click.

Every payload is checked by the models of Slack's own SDK, and for what those miss. Interactions are signed by its
signature module and shaped so that Slack's own framework (Bolt) takes them; that is checked for each before it is sent.
Prints its port, then one line of JSON for each call of the Web API and for each answer to an order. Orders are lines of
JSON on standard input; it ends when that does.
"""

import inspect
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_bolt import App, BoltRequest
from slack_sdk import WebClient
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View
from slack_sdk.signature import SignatureVerifier

TOKEN, SECRET, TEAM = "xoxb-1-fake", "8f742231b10e8888abcd99yyyzzz85a5", "T0HOME"
messages, views, triggers, refusals = {}, {}, {}, []
users = {}
lock = threading.Lock()
count = iter(range(1, 1_000_000))

bolt = App(signing_secret=SECRET, token_verification_enabled=False, ssl_check_enabled=False,
           authorize=lambda **_: __import__("slack_bolt").authorization.AuthorizeResult(
               enterprise_id=None, team_id=TEAM, bot_token=TOKEN, bot_id="B1", bot_user_id="UBOT"))
taken_by_bolt = []
for action in ("allow", "deny", "modify"):
    bolt.action(action)(lambda ack, body: (ack(), taken_by_bolt.append(body["type"])))
bolt.view("verdict")(lambda ack, body: (ack(), taken_by_bolt.append(body["type"])))


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def texts(value):
    """Every text object and text element below a value."""
    if isinstance(value, dict):
        if value.get("type") in ("plain_text", "mrkdwn", "text"):
            yield value
        for member in value.values():
            yield from texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def check_blocks(blocks, most):
    assert 0 < len(blocks) <= most, f"{len(blocks)} blocks"
    for block in blocks:
        Block.parse(block).validate_json()
        for field in block.get("fields", []):
            assert len(field["text"]) <= 2000, "a field"
        if block["type"] == "input":
            assert len(block["label"]["text"]) <= 2000, "a label"
    found = list(texts(blocks))
    assert all(0 < len(it["text"]) <= 13_000 for it in found), "a text"
    assert all(it["type"] != "mrkdwn" for it in found), "a text with marks"
    total = sum(len(it["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) for it in found)
    assert total < 8_000, f"{total} characters"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    assert len(ids) == len(set(ids)), "block ids"


def check_arguments(method, arguments):
    known = inspect.signature(getattr(WebClient, method.replace(".", "_"))).parameters
    # Of the documentation, not of the SDK's signature.
    unknown = set(arguments) - set(known)
    assert not unknown, f"{method} knows no {unknown}"


def check_message(arguments):
    check_blocks(arguments["blocks"], 50)
    assert 0 < len(arguments["text"]) <= 4000
    marks = arguments["text"].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set("<>&") & set(marks), "a text that is not escaped"


def answer(method, arguments):
    if method == "chat.postMessage":
        check_message(arguments)
        assert arguments["unfurl_links"] is False and arguments["unfurl_media"] is False
        ts = f"{1700000000 + next(count)}.000100"
        messages[ts] = arguments
        return {"ok": True, "channel": arguments["channel"], "ts": ts}
    if method == "chat.update":
        check_message(arguments)
        if arguments["ts"] not in messages:
            return {"ok": False, "error": "message_not_found"}
        messages[arguments["ts"]] = arguments
        return {"ok": True, "channel": arguments["channel"], "ts": arguments["ts"]}
    if method == "chat.postEphemeral":
        assert 0 < len(arguments["text"]) <= 4000
        return {"ok": True, "message_ts": "1.2"}
    if method == "views.open":
        View(**arguments["view"]).validate_json()
        check_blocks(arguments["view"]["blocks"], 100)
        opened = triggers.pop(arguments["trigger_id"], None)
        if opened is None or time.time() - opened > 3:
            return {"ok": False, "error": "expired_trigger_id"}
        view = f"V{next(count)}"
        views[view] = arguments["view"]
        return {"ok": True, "view": {"id": view}}
    if method == "users.info":
        user = users.get(arguments["user"])
        return {"ok": True, "user": user} if user else {"ok": False, "error": "user_not_found"}
    return {"ok": False, "error": "unknown_method"}


class Workspace(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        method = self.path.removeprefix("/api/")
        headers, status = {}, 200
        try:
            if self.headers["content-type"].startswith("application/json"):
                arguments = json.loads(body)
            else:
                arguments = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=bool(body)))
            assert method != "users.info" or not self.headers["content-type"].startswith("application/json")
            refusal = next((it for it in refusals if it["method"] == method), None)
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                reply = {"ok": False, "error": "invalid_auth"}
            elif refusal:
                refusals.remove(refusal)
                reply, status = refusal["reply"], refusal["status"]
                headers = refusal["headers"]
            else:
                check_arguments(method, arguments)
                reply = answer(method, arguments)
            say(call=method, arguments=arguments, reply=reply, status=status, at=time.monotonic())
        except Exception as error:
            say(call=method, mistake=repr(error), body=body.decode(errors="replace")[:20000])
            reply = {"ok": False, "error": "invalid_arguments"}
        reply = json.dumps(reply).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def person(user):
    return {"id": user, "username": user.lower(), "name": user.lower(), "team_id": users.get(user, {}).get("team_id", TEAM)}


def payload(order):
    """An interaction as Slack's documentation shows it."""
    common = {
        "team": {"id": order.get("team", TEAM), "domain": "home"},
        "user": person(order["user"]),
        "api_app_id": "A0APP",
        "token": "deprecated",
        "enterprise": order.get("enterprise"),
        "is_enterprise_install": False,
    }
    trigger = f"{next(count)}.{next(count)}.{os.urandom(8).hex()}"
    triggers[trigger] = time.time()
    if order["do"] == "click":
        message = messages[order["ts"]]
        buttons = [it for block in message["blocks"] if block["type"] == "actions" for it in block["elements"]]
        found = [it for it in buttons if it["action_id"] == order["action"]] or [order["button"]]
        action = found[0] | {"block_id": "b", "action_ts": f"{time.time():.6f}"}
        return common | {
            "type": "block_actions",
            "container": {"type": "message", "message_ts": order["ts"], "channel_id": message["channel"],
                          "is_ephemeral": False},
            "trigger_id": trigger,
            "channel": {"id": message["channel"], "name": "approvals"},
            "message": {"type": "message", "ts": order["ts"], "text": message["text"], "blocks": message["blocks"]},
            "state": {"values": {}},
            "response_url": "https://hooks.slack.com/actions/T0HOME/1/x",
            "actions": [action],
        }
    view = views[order["view"]]
    values = {}
    for block in view["blocks"]:
        if block["type"] == "input":
            element = block["element"]
            given = order["values"].get(block["block_id"])
            state = {"type": element["type"]}
            if element["type"] == "checkboxes":
                state["selected_options"] = element["options"] if given else []
            else:
                state["value"] = given if given is not None else element.get("initial_value")
            values[block["block_id"]] = {element["action_id"]: state}
    return common | {
        "type": "view_submission",
        "trigger_id": trigger,
        "view": view | {"id": order["view"], "team_id": TEAM, "state": {"values": values}, "hash": "1.x",
                        "previous_view_id": None, "root_view_id": order["view"], "app_id": "A0APP",
                        "external_id": "", "app_installed_team_id": TEAM, "bot_id": "B1"},
        "response_urls": [],
    }


def send(order):
    body = urllib.parse.urlencode({"payload": json.dumps(payload(order))})
    stamp = str(int(time.time()) + order.get("offset", 0))
    signature = SignatureVerifier(order.get("secret", SECRET)).generate_signature(timestamp=stamp, body=body)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Slack-Request-Timestamp": stamp,
               "X-Slack-Signature": signature}
    before = len(taken_by_bolt)
    by_bolt = bolt.dispatch(BoltRequest(body=body, headers=headers, mode="http")).status
    taken = len(taken_by_bolt) > before
    body = order.get("tampered", "") + body
    statuses = []
    for _ in range(order.get("times", 1)):
        request = urllib.request.Request(order["url"], data=body.encode(), headers=headers)
        try:
            with urllib.request.urlopen(request) as reply:
                status, said = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read().decode()
        statuses.append(status)
    say(order=order["tag"], statuses=statuses, said=said, bolt=by_bolt, taken=taken)


def obey(order):
    if order["do"] == "users":
        users.update(order["users"])
    elif order["do"] == "refuse":
        refusals.append(order["refusal"])
    elif order["do"] == "delete":
        del messages[order["ts"]]
    else:
        threading.Thread(target=send, args=[order]).start()


def orders():
    for line in sys.stdin:
        obey(json.loads(line))
    os._exit(0)


server = ThreadingHTTPServer(("127.0.0.1", 0), Workspace)
print(server.server_address[1], flush=True)
threading.Thread(target=orders, daemon=True).start()
server.serve_forever()
