"""An agent: boto3 as it comes from the shelf, pointed at countersign by its environment alone."""

import sys

import boto3
from botocore.exceptions import ClientError


def say(text):
    print(text, flush=True)


def main(task):
    iam = boto3.client("iam")
    if task == "read":
        names = [user["UserName"] for user in iam.list_users()["Users"]]
        say(f"iam.list_users() -> {names}")
    elif task == "key":
        say("iam.create_access_key(UserName='deploy-bot') ...")
        key = iam.create_access_key(UserName="deploy-bot")["AccessKey"]
        say(f"-> {key['AccessKeyId']}, {key['Status']}")
    elif task == "admin":
        policy = "arn:aws:iam::aws:policy/AdministratorAccess"
        say(f"iam.attach_user_policy(UserName='deploy-bot', PolicyArn='{policy}') ...")
        iam.attach_user_policy(UserName="deploy-bot", PolicyArn=policy)
        say("-> attached")


try:
    main(sys.argv[1])
except ClientError as error:
    say(f"-> {error}")
    sys.exit(3)
