"""Make (`ensure`) or remove (`remove`) one tenant's account and bucket in the model store.

Runs in a Job beside the store. The root's and the tenant's keys come from the environment, and so does what the store's
certificate is verified by (AWS_CA_BUNDLE, which boto3 reads by itself). Repeating it changes nothing. The
administration calls are the gateway's own (PATCH, signed like any S3 request:
https://github.com/versity/versitygw, s3api/admin-router.go).
"""

import os
import sys
import urllib.parse
from xml.etree import ElementTree as ET

import boto3
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.exceptions import ClientError

ENDPOINT, REGION, BUCKET = os.environ["ENDPOINT"], os.environ["REGION"], os.environ["BUCKET"]
TENANT, SECRET = os.environ["TENANT_ACCESS_KEY_ID"], os.environ["TENANT_SECRET_ACCESS_KEY"]

session = boto3.session.Session(region_name=REGION)
s3 = session.client("s3", endpoint_url=ENDPOINT, config=Config(s3={"addressing_style": "path"}))
http = urllib3.PoolManager(timeout=10, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=os.environ["AWS_CA_BUNDLE"])


def administer(path: str, query: dict[str, str], body: bytes = b"", accept: tuple[str, ...] = ()) -> str:
    """Send one administration call; return "" or the error code when it is one of `accept`. Anything else ends us."""
    url = f"{ENDPOINT}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = AWSRequest("PATCH", url, data=body)
    S3SigV4Auth(session.get_credentials(), "s3", REGION).add_auth(request)
    reply = http.request("PATCH", url, body=body, headers=dict(request.headers))
    if reply.status < 300:  # noqa: PLR2004 (HTTP's own boundary)
        return ""
    root = ET.fromstring(reply.data) if reply.data.startswith(b"<") else None  # noqa: S314 (our own store's answer)
    found = (root.findtext("Code") if root is not None else None) or ""
    if found in accept:
        return found
    sys.exit(f"model store: PATCH {path} for bucket {BUCKET}: HTTP {reply.status} {found}")


def document(tag: str, **fields: str) -> bytes:
    """Return a small XML document."""
    root = ET.Element(tag)
    for name, value in fields.items():
        ET.SubElement(root, name).text = value
    return ET.tostring(root)


def ensure() -> None:
    """Account, bucket, ownership: each made when it is not there."""
    exists = "XAdminUserExists"
    account = document("Account", Access=TENANT, Secret=SECRET, Role="user")
    if administer("/create-user", {}, account, accept=(exists,)) == exists:
        administer("/update-user", {"access": TENANT}, document("MutableProps", Secret=SECRET))
    try:
        s3.create_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    administer("/change-bucket-owner", {"bucket": BUCKET, "owner": TENANT})


def remove() -> None:
    """Every object, the bucket, the account: each removed when it is there."""
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for entry in page.get("Contents", []):
                s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
        s3.delete_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
    administer("/delete-user", {"access": TENANT}, accept=("XAdminUserNotFound",))


{"ensure": ensure, "remove": remove}[sys.argv[1]]()
