-- The keys of work that is done at most once, each with its answer (lambda_src/shared/keys.py).
CREATE TABLE transaction_key (
    id BINARY(32) NOT NULL PRIMARY KEY,
    request BINARY(32) NOT NULL,
    answer MEDIUMTEXT CHARACTER SET utf8mb4 NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    INDEX created_at (created_at)
);
