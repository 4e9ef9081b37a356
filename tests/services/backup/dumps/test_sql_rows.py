"""Rows are counted in the stream, however it is cut into pieces."""

import itertools
import random

from katax_cli.services.backup.dumps.sql_rows import SqlRows

BY_LINE = rb"""-- MariaDB dump
CREATE TABLE `a` (
  `id` int COMMENT '(1),(2)'
);
LOCK TABLES `a` WRITE;
INSERT INTO `a` VALUES
(1,'x\'),(\n(',0x000A29,NULL),
(2,NULL,'\\',NULL),
(3,'it\'s; INSERT INTO',');\n(',NULL);
INSERT INTO `a` VALUES
(4,'','',NULL);
UNLOCK TABLES;
DELIMITER ;;
CREATE TRIGGER x BEFORE INSERT ON a FOR EACH ROW BEGIN
INSERT INTO `b` VALUES
(1),
(2);
END ;;
DELIMITER ;
INSERT INTO `b``\n` (`x`, `y)``(`) VALUES
(1),
(2);
INSERT INTO `unknown` VALUES
(1);
-- Dump completed on 2026-11-21 18:44:41
""".replace(rb"`b``\n`", b"`b``c`")
IN_LINE = rb"""INSERT INTO `a` VALUES (0,'x\'),(\n(',0x00),(2,NULL,'\\'),(3,';\n','it''s ('),(4,'\\\'(','');
INSERT INTO `b``c` (`x`) VALUES (1),(2);
-- Dump completed
"""


def counted(text: bytes, *cuts: int) -> SqlRows:
    rows = SqlRows(["a", "b", "b`c"])
    edges = [0, *sorted(cuts), len(text)]
    for start, end in itertools.pairwise(edges):
        rows.take(text[start:end])
    return rows


def test_rows_are_counted_wherever_the_stream_is_cut() -> None:
    chance = random.Random(7)
    for text in (BY_LINE, IN_LINE):
        cuts = [(cut,) for cut in range(len(text))] + [tuple(range(len(text)))]
        cuts += [tuple(chance.choices(range(len(text)), k=9)) for _ in range(200)]
        for places in cuts:
            rows = counted(text, *places)
            assert rows.counts == {"a": 4, "b": 0, "b`c": 2}, places
            assert rows.is_complete


def test_a_stream_without_its_end_is_not_complete() -> None:
    for cut in range(len(BY_LINE) - 1):
        rows = SqlRows([])
        rows.take(BY_LINE[:cut])
        assert not rows.is_complete, BY_LINE[:cut][-40:]
    rows = SqlRows([])
    rows.take(BY_LINE + b"x")
    assert not rows.is_complete


def test_long_rows_need_no_memory_of_their_length() -> None:
    for head, row_end in (
        (b"INSERT INTO `a` VALUES\n(1,'", b"'),\n(2,'"),
        (b"INSERT INTO `a` VALUES (1,'", b"'),(2,'"),
    ):
        rows = SqlRows(["a"])
        rows.take(head)
        for _ in range(3):
            for _ in range(5):
                rows.take(b"(" * 2**20 + b"\\'")
                assert len(rows._waiting) < 10
            rows.take(row_end)
        rows.take(b"');\n")
        assert rows.counts == {"a": 4}
