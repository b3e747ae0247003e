"""The ways to an environment's database in an account (`make sql ENV=dev`), with their commands.

The database has no public address, and only the functions' security groups may connect.
"""

import sys

from app import lasting_settings
from operations.environment import Environment, EnvironmentUnknownError, command

WAYS = """\
{identifier} answers within its VPC only, and only those whose security group it admits.

To change tables or data for good, write a migration: make migration NAME=...

To look, from AWS CloudShell in the VPC (https://docs.aws.amazon.com/cloudshell/latest/userguide/using-cshell-in-vpc.html):
  aws ec2 create-security-group --group-name {identifier}-look --description "make sql" --vpc-id {vpc}
  aws ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port {port} \\
    --source-group <the new group>
  In the console: CloudShell, +, Create VPC environment, {vpc}, subnet {subnet}, the new group. There:
    mysql -h {host} -P {port} -u <username> -p --ssl-mode=VERIFY_IDENTITY --ssl-ca=rds.pem {database}
  rds.pem is lambda_src/shared/rds-root-certificates.pem of this checkout: paste it, because nothing can be uploaded.
  Afterwards: aws ec2 revoke-security-group-ingress with the same arguments, and aws ec2 delete-security-group.

Through an instance in the VPC that Systems Manager manages, whose security group is admitted likewise:
  aws ssm start-session --target <instance> --document-name AWS-StartPortForwardingSessionToRemoteHost \\
    --parameters 'host={host},portNumber={port},localPortNumber={port}'

The application's user and password, which every rotation replaces:
  aws secretsmanager get-secret-value --secret-id {secret} --query SecretString --output text
The master's:
  aws secretsmanager get-secret-value --secret-id '{master}' --query SecretString --output text
"""


def main(environment: Environment) -> None:
    """Print them, with the environment's own names."""
    identifiers = list(environment.named("AWS::RDS::DBInstance").values())
    if len(identifiers) != 1:
        raise EnvironmentUnknownError(f"no database of {environment.env} here: make deploy ENV={environment.env}")
    rds = environment.client("rds")
    (instance,) = rds.describe_db_instances(DBInstanceIdentifier=identifiers[0])["DBInstances"]
    if "Endpoint" not in instance:
        raise EnvironmentUnknownError(f"{identifiers[0]} is {instance['DBInstanceStatus']}, without an address yet")
    secrets = environment.named("AWS::SecretsManager::Secret")
    print(
        WAYS.format(
            identifier=identifiers[0],
            vpc=instance["DBSubnetGroup"]["VpcId"],
            subnet=instance["DBSubnetGroup"]["Subnets"][0]["SubnetIdentifier"],
            group=instance["VpcSecurityGroups"][0]["VpcSecurityGroupId"],
            host=instance["Endpoint"]["Address"],
            port=instance["Endpoint"]["Port"],
            # One that was adopted may have been made without a database.
            database=instance.get("DBName") or lasting_settings(environment.env).database_name,
            secret=secrets.get("Secret", ", ".join(secrets.values())),
            master=instance["MasterUserSecret"]["SecretArn"],
        ),
        end="",
    )


if __name__ == "__main__":
    command(main, sys.argv[1:])
