# An agent: unmodified boto3, with the endpoint and the virtual key in its environment.
import boto3
from botocore.exceptions import ClientError

iam = boto3.client("iam")


def attempt(text, call):
    print(text, flush=True)
    try:
        print("->", call(), flush=True)
    except ClientError as error:
        print("->", error, flush=True)


attempt("iam.list_users()", lambda: [user["UserName"] for user in iam.list_users()["Users"]])
attempt(
    "iam.create_access_key(UserName='deploy-bot')",
    lambda: iam.create_access_key(UserName="deploy-bot")["AccessKey"]["AccessKeyId"],
)
attempt(
    "iam.attach_user_policy(UserName='deploy-bot', PolicyArn='…/AdministratorAccess')",
    lambda: iam.attach_user_policy(
        UserName="deploy-bot", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
    )["ResponseMetadata"]["HTTPStatusCode"],
)
