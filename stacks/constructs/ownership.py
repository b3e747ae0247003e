"""Keeps one copy of the repository from deploying over what another has deployed under the same name."""

from typing import Final

import aws_cdk as cdk

from stacks.settings import Settings

OWNER: Final = "Owner"
"""The stacks' parameter with the id of the copy that they belong to."""


def keep_others_from_deploying(app: cdk.App, settings: Settings) -> None:
    """Have CloudFormation refuse each stack, before it makes a change, when another copy has deployed it.

    CDK's command line passes no value of a parameter that the stack has: its first one stays, which is the id in the
    first copy's cdk.json, and a rule compares it with the id of the copy that deploys.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
    """
    for stack in app.node.children:
        if isinstance(stack, cdk.Stack):
            _add_rule(stack, settings)


def _add_rule(stack: cdk.Stack, settings: Settings) -> None:
    owner = cdk.CfnParameter(
        stack, OWNER, default=settings.owner, description="The copy of the repository that deploys (cdk.json)"
    )
    if settings.owner:
        # For people; and CloudFormation keeps a new value of the parameter only with a change of a resource.
        stack.add_stack_tag("owner", settings.owner)
    refusals = {
        f"Another copy of the repository than '{settings.owner}' has deployed it; make deploy names both.": (
            cdk.Fn.condition_equals(owner.value_as_string, settings.owner)
        ),
        "cdk.json does not say which copy of the repository this is; make deploy writes it there.": (
            cdk.Fn.condition_not(cdk.Fn.condition_equals(owner.value_as_string, ""))
        ),
    }
    assertions = [cdk.CfnRuleAssertion(assert_=rule, assert_description=said) for said, rule in refusals.items()]
    cdk.CfnRule(stack, "Ownership", assertions=assertions)
