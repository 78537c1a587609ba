# A local AWS on a free port, until stdin closes. The user of the story is there from the beginning.
import logging
import sys

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://{}:{}".format(*server.get_host_and_port())
boto3.client(
    "iam", endpoint_url=url, region_name="us-east-1", aws_access_key_id="root", aws_secret_access_key="root"
).create_user(UserName="deploy-bot")
print(url, flush=True)
sys.stdin.read()
server.stop()
