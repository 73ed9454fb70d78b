"""ministack with IAM in force, and clients for it."""

import hashlib
import sys
from pathlib import Path

import boto3
from botocore.config import Config

from checks import wait_for
from servers import Server, free_port, request

ACCOUNT, REGION = "123456789012", "us-east-1"
ROOT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_SESSION_TOKEN": ""}
ROOT = {name: value for name, value in ROOT.items() if value}


class Cloud:
    def __init__(self, room):
        self.record = room / "decisions-ministack.jsonl"
        self.record.touch()
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        environment = {
            **ROOT, "AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0", "MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint, "MAYFLY_RECORD": str(self.record), "TMPDIR": str(room),
            "LOG_LEVEL": "WARNING",
        }
        wrapper = Path(__file__).with_name("ministack_with_record.py")
        self.server = Server([sys.executable, wrapper], room / "ministack.log", environment)
        wait_for("ministack", self.answers, 60)

    def answers(self):
        assert self.server.is_running(), f"ministack has ended: see {self.server.log}"
        try:
            return request(f"{self.endpoint}/_ministack/health")[0] == 200
        except OSError:
            return False

    def client(self, service, endpoint=None, key=None):
        """A client of root, or with another `key`: its id, secret and session token."""
        access, secret, token = key or ("test", "test", None)
        config = Config(region_name=REGION, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"},
                        connect_timeout=5, read_timeout=60)
        return boto3.client(service, endpoint_url=endpoint or self.endpoint, aws_access_key_id=access,
                            aws_secret_access_key=secret, aws_session_token=token, config=config)

    def function_url(self, url):
        """Where ministack answers what is a function URL on AWS."""
        return f"{self.endpoint}/_aws/lambda-url/{url.split('//')[1].split('.')[0]}"

    def end(self):
        self.server.end()


def function_key(function, role):
    """The credentials that ministack gives a function: they follow from the two ARNs."""
    digest = hashlib.sha256(f"{function}:{role}".encode()).hexdigest()
    hashed = [hashlib.sha256(f"{word}:{digest}".encode()).hexdigest() for word in ("secret", "token")]
    return (f"ASIA{digest[:16].upper()}", *hashed)
