"""What a person sets up after the deployment: fleet.toml and the runner's token."""

import json


def put_fleet(cloud, stack, gitlab, greeting=None):
    text = f'[[runners]]\nname = "main"\nurl = "{gitlab}"\n'
    if greeting:
        text += f'\n[settings]\nenvironment = ["FLEET_GREETING={greeting}"]\n'
    cloud.client("s3").put_object(Bucket=stack.outputs["ConfigurationBucket"], Key="fleet.toml", Body=text.encode())


def put_token(cloud, stack, token):
    secrets = cloud.client("secretsmanager")
    secrets.put_secret_value(SecretId=stack.outputs["RunnerTokens"], SecretString=json.dumps({"main": token}))


def hook_token(cloud, stack):
    """What the stack has generated for GitLab's webhook."""
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=stack.outputs["WebhookSecret"])
    return json.loads(secret["SecretString"])["secret_token"]
