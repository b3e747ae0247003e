"""CloudWatch's rules, as far as the local cloud needs them: alarms, metric math and filter patterns of logs."""
