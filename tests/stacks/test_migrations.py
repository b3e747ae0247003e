"""The files of migrations/ are checked before anything is deployed."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.packaging.migrations import MigrationsError, check_migrations
from stacks.packaging.mysql_text import TOKEN

RIGHT = "CREATE TABLE a (id INT)"
SECOND = (
    "a second statement, where one is right: MySQL commits each definition by itself, and each needs a record "
    "of its own; put it into the next file (make migration NAME=...)"
)


def _faults(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name.removeprefix('_')}.sql").write_text(text)
    with pytest.raises(MigrationsError) as refused:
        check_migrations(folder)
    return str(refused.value).splitlines()


def test_the_repositorys_own_are_right() -> None:
    check_migrations()


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "0006_f.sql").mkdir()
    faults = _faults(
        tmp_path, _0001_a=RIGHT, _0001_b=RIGHT, _0004_c=f"{RIGHT};\n{RIGHT}", _0005_d="-- nothing", x=RIGHT
    )
    assert [fault.partition(": ")[0::2] for fault in faults] == [
        ("0001_b.sql", "the number 0001 is given twice; make migration NAME=... makes the next file"),
        ("0004_c.sql", "0002 is missing; make migration NAME=... makes the next file"),
        (
            "0004_c.sql:2",
            SECOND,
        ),
        ("0005_d.sql:1", "no statement, where one is right"),
        ("0006_f.sql", "not a file"),
        ("x.sql", "not a name like 0001_create_note.sql"),
    ]


def test_other_tools_files_are_passed_over(tmp_path: Path) -> None:
    for name in (".DS_Store", ".0001_a.sql.swp", ".0001_a.sql", "README.md", "notes.txt", "0001_a.sql~"):
        (tmp_path / name).write_bytes(b"\xff")
    check_migrations(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MigrationsError, match=r"^migrations/ is missing"):
        check_migrations(tmp_path / "migrations")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO a VALUES ('one; two')",
        'INSERT INTO a SELECT ";" -- ;',
        "INSERT INTO a SELECT `;` /* ; */ ;",
        "INSERT INTO a SELECT 1 # ;",
        "INSERT INTO a SELECT 'it''s; \\'; ', \"a\"\"b;\", `a``;` ;;\n-- the end",
        "UPDATE a SET n = 5--1\r\n;\r\n",
        "--\n-- Why\nUPDATE a SET n = 1 /*+ hint */ /**/ /***/",
        "WITH b AS (SELECT 1) DELETE FROM a",
        "REPLACE a VALUES ('🙂', _utf8mb4'ü', N'x', x'00', 1.5e3, @x := 1)",
        "CREATE TABLE b (id INT, `delimiter` INT, engine VARCHAR(9), `SELECT` INT) ENGINE=InnoDB",
        "CREATE TABLE IF NOT EXISTS b (id INT) ENGINE innodb COMMENT 'SELECT'",
        "create table ärger (größe int)",
        "CREATE UNIQUE INDEX i ON a (b)",
        "CREATE FULLTEXT INDEX i ON a (b)",
        "CREATE OR REPLACE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW v AS SELECT id FROM a",
        "ALTER TABLE a ADD COLUMN b INT, ADD CHECK (b > 0), ENGINE = InnoDB, RENAME INDEX i TO j",
        "ALTER TABLE a DROP b, ADD c INT, CHANGE d e INT, RENAME COLUMN f TO g",
        "ALTER TABLE a DROP INDEX b, ADD INDEX b (c), DROP PRIMARY KEY, ADD PRIMARY KEY (b), RENAME TO b, DROP e",
        "ALTER TABLE a DROP b, ADD (c INT, d INT), ADD FOREIGN KEY (c) REFERENCES e (b), RENAME b, DROP `e`",
        "ALTER TABLE a ADD PARTITION (PARTITION p1 VALUES LESS THAN (20))",
        "DROP TABLE IF EXISTS a, b",
        "DROP VIEW v",
        "DROP INDEX i ON a",
        "ALTER TABLE a ADD engine VARCHAR(9), CHANGE engine engine INT, COMMENT 'x' ENGINE InnoDB",
        "CREATE TABLE b (id INT) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (1), PARTITION q VALUES IN (2))",
        "CREATE TABLE b LIKE a",
        "WITH b (n) AS (SELECT 1), c AS (TABLE a) UPDATE a SET n = (SELECT n FROM b)",
        "RENAME TABLE a TO old, b TO a",
        "ANALYZE TABLE a",
        "/* a */ ANALYZE NO_WRITE_TO_BINLOG TABLE a",
    ],
)
def test_one_statement_is_taken_however_it_is_written(tmp_path: Path, sql: str) -> None:
    (tmp_path / "0001_a.sql").write_bytes(sql.encode())
    check_migrations(tmp_path)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("\ufeffUPDATE a SET n = 1", 1, "begins with a byte order mark"),
        ("UPDATE a SET n = 1".encode("utf-16"), 1, "begins with a byte order mark"),
        ("-- \n-- ä".encode("latin-1"), 2, "not UTF-8"),
        ("UPDATE a\nSET n = 'x", 2, "a quote ' that does not end"),
        ('UPDATE a SET n = "x\\"', 1, 'a quote " that does not end'),
        ("UPDATE a SET `n = 1", 1, "a quote ` that does not end"),
        ("UPDATE a /* SET n = 1", 1, "a comment /* that does not end"),
        ("UPDATE a SET n = 5 /*!50000 ; DROP TABLE b */", 1, "/*! is no comment"),
        ("/*M!100000 x */ UPDATE a SET n = 1", 1, "/*! is no comment"),
        ("\n  --comment\nUPDATE a SET n = 1", 2, "-- begins a comment only with a space after it"),
        ("UPDATE a SET n = 5--1; DROP TABLE b", 1, "a second statement"),
        ("UPDATE a SET n = 1\\G", 1, "\\ outside of quotes is of the mysql client"),
        ("UPDATE a SET n = 1\nGO\n", 2, "GO is of another database's client"),
        ("UPDATE a SET n = 1 //", 1, "a delimiter of the mysql client"),
        ("UPDATE a SET n = 1 $$", 1, "a delimiter of the mysql client"),
        ("UPDATE a SET\u00a0n = 1", 1, "an invisible character (U+00A0)"),
        ("UPDATE a SET n\u200b = 1", 1, "an invisible character (U+200B)"),
        ("UPDATE a SET n = 1 \x00", 1, "an invisible character (U+0000)"),
        ("UPDATE a SET n\u2028= 1", 1, "an invisible character (U+2028)"),
        ("UPDATE a SET n\u2029= 1", 1, "an invisible character (U+2029)"),
        (";", 1, "no statement"),
        ("DELIMITER //\nCREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.n = 1//", 1, "DELIMITER is of the"),
        ("CREATE DEFINER=`a`@`%`\nTRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN x; END", 2, "triggers are not migr"),
        ("CREATE PROCEDURE p() SELECT 1", 1, "routines are not migrated: RDS logs in binary form"),
        ("CREATE FUNCTION f() RETURNS INT RETURN 1", 1, "routines are not migrated"),
        ("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM a", 1, "events are not migrated"),
        ("BEGIN; UPDATE a SET n = 1; END", 1, "a body of a routine or a transaction"),
        ("CREATE TEMPORARY TABLE b (id INT)", 1, "a temporary table ends with"),
        ("DROP TEMPORARY TABLE b", 1, "a temporary table ends with"),
        ("CREATE VIEW v AS SELECT 1", 1, "CREATE OR REPLACE SQL SECURITY INVOKER VIEW, without DEFINER"),
        ("CREATE DEFINER=a SQL SECURITY INVOKER VIEW v AS SELECT 1", 1, "without DEFINER"),
        ("CREATE SQL SECURITY DEFINER VIEW v AS SELECT 1", 1, "a view's definer is one of two users"),
        ("ALTER VIEW v AS SELECT 1", 1, "only a view's definer may ALTER it"),
        ("CREATE TABLE b\nAS SELECT 1", 2, "rows in a definition"),
        ("CREATE TABLE b\nAS TABLE a", 2, "rows in a definition"),
        ("CREATE TABLE b (id INT)\nTABLE a", 2, "rows in a definition"),
        ("CREATE TABLE b AS\nVALUES ROW(1)", 2, "rows in a definition"),
        ("CREATE TABLE b AS WITH c AS (TABLE a)\nSELECT 1", 1, "rows in a definition"),
        ("CREATE TABLE b (id INT) ENGINE=MyISAM", 1, "ENGINE=MyISAM cannot take back"),
        ("CREATE TABLE b (id INT) ENGINE MEMORY", 1, "ENGINE=MEMORY cannot take back"),
        ("ALTER TABLE b ENGINE = MyISAM", 1, "ENGINE=MyISAM cannot take back"),
        ("ALTER TABLE b ENGINE\nMyISAM", 2, "ENGINE=MyISAM cannot take back"),
        ("ALTER TABLE b COMMENT 'x' ENGINE 'memory'", 1, "ENGINE='memory' cannot take back"),
        ("ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", 1, "EXCHANGE PARTITION leaves no trace"),
        ("ALTER TABLE a TRUNCATE PARTITION p", 1, "TRUNCATE PARTITION leaves no trace"),
        *(
            (f"ALTER TABLE a {word} PARTITION p", 1, f"{word} PARTITION leaves no trace")
            for word in ("ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR")
        ),
        ("ALTER TABLE a DISCARD TABLESPACE", 1, "DISCARD TABLESPACE leaves no trace"),
        ("ALTER TABLE a IMPORT PARTITION p TABLESPACE", 1, "IMPORT PARTITION leaves no trace"),
        ("RENAME TABLE a TO c, b TO a, c TO b", 1, "an exchange leaves the same names"),
        ("RENAME TABLES `a` TO c, b TO A, c TO b", 1, "an exchange leaves the same names"),
        *(
            (f"ALTER TABLE t {change}", 1, "1: a: given up and taken")
            for change in (
                "DROP COLUMN a, ADD COLUMN a INT",
                "ADD a INT FIRST, DROP `A`",
                "DROP a, ADD (b INT, INDEX (b), a DECIMAL(3, 1))",
                "DROP a, ADD COLUMN (a INT)",
                "DROP a, CHANGE b a INT",
                "RENAME COLUMN a TO b, ADD a INT",
            )
        ),
        *(
            (f"ALTER TABLE t {change}", 1, "1: a, b: given up and taken")
            for change in (
                "CHANGE a b INT, CHANGE b a INT AFTER id",
                "RENAME COLUMN a TO b, RENAME COLUMN b TO a",
                "CHANGE COLUMN a `B` INT, RENAME COLUMN b TO a",
            )
        ),
        ("RENAME USER a TO b", 1, "RENAME USER: only tables, indexes and views"),
        ("CREATE DATABASE b", 1, "CREATE DATABASE: only tables, indexes and views"),
        ("DROP DATABASE b", 1, "DROP DATABASE: only tables, indexes and views"),
        ("CREATE", 1, "CREATE CREATE: only tables"),
        ("UPDATE;\n;x", 2, "a second statement"),
        ("USE other", 1, "a migration stays in the application's database"),
        ("SET sql_mode = ''", 1, "would reach the next file of the same deploy only"),
        ("SELECT 1", 1, "a query changes nothing"),
        ("WITH b AS (SELECT 1)\nSELECT n FROM b FOR UPDATE", 2, "a query changes nothing"),
        ("WITH b AS (SELECT 1)\nTABLE b", 2, "a query changes nothing"),
        ("WITH b AS (DELETE FROM a) (SELECT 1)", 1, "a query changes nothing"),
        ("WITH", 1, "a query changes nothing"),
        ("TRUNCATE TABLE a", 1, "DELETE FROM commits with its record"),
        ("LOAD DATA INFILE 'x' INTO TABLE a", 1, "the server reads no file of yours"),
        ("GRANT SELECT ON a TO b", 1, "GRANT is no change of data"),
        ("DELETE FROM `migrations_history`.schema_history", 1, "migrations_history is the migrations' own database"),
        ("UPDATE migrations_rehearsal.a SET n = 1", 1, "migrations_rehearsal is the migrations' own database"),
        ("UPDATE a SET n = RELEASE_LOCK('x')", 1, "RELEASE_LOCK would let another deploy in"),
        ("UPDATE a SET n = RELEASE_ALL_LOCKS()", 1, "RELEASE_ALL_LOCKS would let another deploy in"),
    ],
)
def test_what_cannot_be_applied_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, said: str
) -> None:
    (tmp_path / "0001_a.sql").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MigrationsError) as refused:
        check_migrations(tmp_path)
    (fault,) = str(refused.value).splitlines()
    assert fault.startswith(f"0001_a.sql:{line}: "), fault
    assert said in fault


@pytest.mark.parametrize("part", ["\\d", "''", "a", '""', "/*", "--", "``", "\\", "'", "*/", "$$", "\n"])
@pytest.mark.parametrize("begin", ["INSERT INTO a VALUES ('", 'UPDATE a SET b = "', "/*", "UPDATE a SET b = ", "`"])
def test_a_file_is_read_in_linear_time(tmp_path: Path, begin: str, part: str) -> None:
    (tmp_path / "0001_a.sql").write_text(begin + part * 40_000)
    started = time.process_time()
    with suppress(MigrationsError):
        check_migrations(tmp_path)
    assert time.process_time() - started < 2


@given(st.text(alphabet=st.sampled_from("ab1 \n;'\"`\\-#/*!()é_$@")))
def test_no_character_is_lost(text: str) -> None:
    assert "".join(match[0] for match in TOKEN.finditer(text)) == text
