"""What it costs, beside what a user would write or pick instead; `make bench` prints and writes all of it."""
