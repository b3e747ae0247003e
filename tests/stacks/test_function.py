"""A function has the permissions that are listed for it and those that a grant adds, and no other."""

import json
from collections.abc import Callable

import aws_cdk as cdk
import pytest
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from aws_cdk.assertions import Match, Template
from aws_cdk.aws_secretsmanager import Secret

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.settings import from_context

Grant = Callable[[cdk.Stack, LeastPrivilegeFunction], object]


@pytest.fixture
def function() -> LeastPrivilegeFunction:
    """A function alone in a stack."""
    app = cdk.App(context={"aws:cdk:bundling-stacks": []})
    stack = cdk.Stack(app, "Stack")
    return LeastPrivilegeFunction(
        stack,
        "Function",
        settings=from_context({}),
        handler="handler.lambda_handler",
        key=kms.Key(stack, "Key"),
        vpc=ec2.Vpc(stack, "Vpc", subnet_configuration=[_ISOLATED]),
        statements=[],
    )


_ISOLATED = ec2.SubnetConfiguration(name="Private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)


def test_without_a_grant_it_may_write_its_log_its_traces_and_nothing_else(function: LeastPrivilegeFunction) -> None:
    template = Template.from_stack(function.stack)
    template.resource_count_is("AWS::IAM::Policy", 0)
    actions: set[str] = set()
    for policy in template.find_resources("AWS::IAM::ManagedPolicy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                actions |= {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
    assert {action for action in actions if not action.startswith("ec2:")} == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


def _table(stack: cdk.Stack) -> dynamodb.Table:
    key = dynamodb.Attribute(name="id", type=dynamodb.AttributeType.STRING)
    return dynamodb.Table(stack, "Table", partition_key=key)


def _statement(action: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=[action], resources=["arn:aws:s3:::bucket/*"])


@pytest.mark.parametrize(
    ("grant", "action"),
    [
        (lambda stack, function: s3.Bucket(stack, "X").grant_read(function), "s3:GetObject*"),
        (lambda stack, function: s3.Bucket(stack, "X").grant_put(function), "s3:PutObject"),
        (lambda stack, function: _table(stack).grant_read_data(function), "dynamodb:GetItem"),
        (lambda stack, function: _table(stack).grant(function, "dynamodb:Scan"), "dynamodb:Scan"),
        (lambda stack, function: sqs.Queue(stack, "X").grant_send_messages(function), "sqs:SendMessage"),
        (lambda stack, function: sns.Topic(stack, "X").grant_publish(function), "sns:Publish"),
        (lambda stack, function: kms.Key(stack, "X").grant_decrypt(function), "kms:Decrypt"),
        (
            lambda stack, function: Secret(stack, "X").grant_read(function),
            "secretsmanager:GetSecretValue",
        ),
        (
            lambda stack, function: ssm.StringParameter(stack, "X", string_value="x").grant_read(function),
            "ssm:GetParameter",
        ),
        (
            lambda stack, function: lambda_.Function.from_function_name(stack, "X", "other").grant_invoke(function),
            "lambda:InvokeFunction",
        ),
        (lambda _, function: function.add_to_role_policy(_statement("s3:GetObject")), "s3:GetObject"),
        (
            lambda _, function: iam.Grant.add_to_principal(
                grantee=function, actions=["s3:GetObject"], resource_arns=["arn:aws:s3:::bucket/*"]
            ),
            "s3:GetObject",
        ),
        (
            lambda stack, function: function.add_event_source(event_sources.SqsEventSource(sqs.Queue(stack, "X"))),
            "sqs:ReceiveMessage",
        ),
    ],
)
def test_a_grant_adds_its_statement_to_the_functions_policy(
    function: LeastPrivilegeFunction, grant: Grant, action: str
) -> None:
    grant(function.stack, function)
    template = Template.from_stack(function.stack)
    template.resource_count_is("AWS::IAM::Policy", 0)
    policies = template.find_resources("AWS::IAM::ManagedPolicy")
    (own,) = [each for name, each in policies.items() if name.startswith("FunctionPolicy")]
    assert f'"{action}"' in json.dumps(own["Properties"]["PolicyDocument"]["Statement"])


def test_a_managed_policy_can_be_attached(function: LeastPrivilegeFunction) -> None:
    assert function.role is not None
    function.role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name("AmazonS3ReadOnlyAccess"))
    Template.from_stack(function.stack).has_resource_properties(
        "AWS::IAM::Role", {"ManagedPolicyArns": [Match.object_like({"Fn::Join": Match.any_value()})]}
    )


def test_granting_to_others_leaves_the_functions_own_permissions(function: LeastPrivilegeFunction) -> None:
    function.grant_invoke(iam.ServicePrincipal("events.amazonaws.com"))
    template = Template.from_stack(function.stack)
    template.has_resource_properties("AWS::Lambda::Permission", {"Principal": "events.amazonaws.com"})
    assert "lambda:InvokeFunction" not in json.dumps(template.find_resources("AWS::IAM::ManagedPolicy"))
