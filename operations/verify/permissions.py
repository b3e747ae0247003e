"""Checks of permissions: IAM's simulator against the table of decisions, and what is open to the public."""

import json
import re
from itertools import groupby

from botocore.exceptions import ClientError

from operations.aws import is_a
from operations.verify.decisions import DECISIONS, Row
from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, check, expect
from stacks.constructs.serving_function import ALIAS


@check("Who may do what, decided by IAM's simulator")
def permissions(deployed: Deployed) -> str:
    """The deployed roles' policies against the table; one call for each role, resource and context."""
    client = deployed.client("iam")
    wrong = []
    rows = [row for each in DECISIONS for row in each.of_each(deployed.serving)]
    names = {role: _named(deployed, role) for role in {row.role for row in rows}}
    for (role, resource, _), group in groupby(sorted(rows, key=_request), key=_request):
        named = names[role]
        asked = {row.action: row for row in group}
        context = next(iter(asked.values())).context
        results = client.simulate_principal_policy(
            PolicySourceArn=named[f"{role} role"],
            ActionNames=list(asked),
            ResourceArns=[named.get(resource, resource)],
            ContextEntries=[
                {"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": [named.get(value, value)]}
                for key, value in context.items()
            ],
        )["EvaluationResults"]
        for result in results:
            row = asked[result["EvalActionName"]]
            if result["EvalDecision"] != row.by_identity:
                wrong.append(f"{role}: {row.action} on {resource}: {result['EvalDecision']}, not {row.by_identity}")
    if wrong:
        raise CheckFailedError("; ".join(wrong), "the decisions of operations/verify/decisions.toml")
    return f"{len(rows)} decisions"


def _request(row: Row) -> tuple[str, str, str]:
    return row.role, row.resource, str(sorted(row.context.items()))


def _named(deployed: Deployed, role: str) -> dict[str, str]:
    """What the names of the table stand for in this environment, for the role of one function."""
    region, account = deployed.region, deployed.account
    partition = deployed.secret_arn.split(":")[1]

    def arn(service: str, resource: str) -> str:
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    parameter = deployed.physical_ids("AWS::SSM::Parameter")["Service/AppConfig"]
    logs = {name.partition("/")[2]: log for name, log in deployed.physical_ids("AWS::Logs::LogGroup").items()}
    functions = {name: arn("lambda", f"function:{function}") for name, function in deployed.functions.items()}
    configuration = deployed.client("lambda").get_function_configuration(FunctionName=deployed.functions[role])
    return {
        "own secret": deployed.secret_arn,
        "schema's secret": deployed.secret_arns[1],
        "master's secret": deployed.instance["MasterUserSecret"]["SecretArn"],
        "other secret": arn("secretsmanager", "secret:other-AbCdEf"),
        "own parameter": arn("ssm", f"parameter{parameter}"),
        "other parameter": arn("ssm", f"parameter/{deployed.settings.env}/other"),
        "key": deployed.key_arn,
        "interface": arn("ec2", "network-interface/eni-00000000000000000"),
        "own log": arn("logs", f"log-group:{logs[f'{role}LogGroup']}:*"),
        "other log": arn("logs", "log-group:other:*"),
        "Secrets Manager": f"secretsmanager.{region}.amazonaws.com",
        "RDS": f"rds.{region}.amazonaws.com",
        f"{role} role": configuration["Role"],
        **functions,
    }


@check("Nothing of the environment is open to the public or to another account")
def public_access(deployed: Deployed) -> str:
    """The resource policies of functions, of what callers invoke, the secrets, the topic; and function URLs."""
    client = deployed.client("lambda")
    documents = {}
    for name, function in deployed.functions.items():
        urls = client.list_function_url_configs(FunctionName=function)["FunctionUrlConfigs"]
        expect([url["FunctionUrl"] for url in urls], [], f"{name}: function URLs")
    invoked = {
        f"{name}:{qualifier}": f"{deployed.functions[name]}:{qualifier}"
        for name, live in deployed.live.items()
        for qualifier in (ALIAS, live["Version"])
    }
    for name, function in (deployed.functions | invoked).items():
        try:
            documents[name] = client.get_policy(FunctionName=function)["Policy"]
        except ClientError as error:
            if not is_a(error, "ResourceNotFoundException"):
                raise
    (topic,) = deployed.physical_ids("AWS::SNS::Topic").values()
    documents["Topic"] = deployed.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"].get("Policy", "{}")
    secrets = deployed.client("secretsmanager")
    for arn in deployed.secret_arns:
        documents[arn] = secrets.get_resource_policy(SecretId=arn).get("ResourcePolicy", "{}")
    for name, document in documents.items():
        for statement in json.loads(document).get("Statement", []):
            principal = str(statement.get("Principal"))
            is_open = "*" in principal and not statement.get("Condition")
            is_foreign = bool(set(re.findall(r"\b\d{12}\b", principal)) - {deployed.account})
            if statement["Effect"] == "Allow" and (is_foreign or is_open):
                raise CheckFailedError(f"{name}: a statement that allows {principal}", "this account alone")
    return f"{len(documents)} resource policies, no function URL"


@check("No secret is in a function's variables, which are encrypted with the environment's key")
def variables(deployed: Deployed) -> str:
    """The variables are those of the template, by name; none of those holds a secret."""
    client = deployed.client("lambda")
    for name, function in deployed.functions.items():
        configuration = client.get_function_configuration(FunctionName=function)
        declared = set(deployed.declared_functions.get(name, {}).get("Environment", {}).get("Variables", {}))
        there = configuration.get("Environment", {}).get("Variables", {})
        expect(sorted(set(there) - declared), [], f"{name}: variables that the stack does not set:")
        if there:
            expect(configuration.get("KMSKeyArn"), deployed.key_arn, f"{name}: key of the variables")
    return f"of {len(deployed.functions)} functions"
