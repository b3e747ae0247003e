"""The AWS sample's approach, written plainly: both values asked each time, a connection each time, TLS unverified."""

import json
import os

import pymysql
import urllib3

http = urllib3.PoolManager()
headers = {"X-Aws-Parameters-Secrets-Token": os.environ["AWS_SESSION_TOKEN"]}
extension = f"http://localhost:{os.environ['PARAMETERS_SECRETS_EXTENSION_HTTP_PORT']}"


def lambda_handler(event: object, context: object) -> dict[str, object]:
    """Answer with the configuration and the database's name."""
    name = f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
    answer = http.request("GET", f"{extension}/systemsmanager/parameters/get/?name={name}", headers=headers)
    config = json.loads(json.loads(answer.data)["Parameter"]["Value"])
    answer = http.request("GET", f"{extension}/secretsmanager/get?secretId={os.environ['CREDS_PATH']}", headers=headers)
    secret = json.loads(json.loads(answer.data)["SecretString"])
    connection = pymysql.connect(
        host=secret["host"],
        port=secret["port"],
        user=secret["username"],
        password=secret["password"],
        database=secret["dbname"],
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE(), (SELECT COUNT(*) FROM note), VERSION()")
        return {"config": config, "database": cursor.fetchone()}
