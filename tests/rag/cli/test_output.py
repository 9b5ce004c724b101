"""What commands say on stderr beside their results."""

from __future__ import annotations

import logging

import pytest

from rag.cli.output import COMPILED, compilation_told


def test_that_code_is_compiled_is_said_once_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(COMPILED)
    with compilation_told():
        logger.info("compiling one for this processor")
        logger.info("compiling two for this processor")
    assert capsys.readouterr().err.count("compiling code") == 1
    logger.info("compiling three for this processor")
    assert capsys.readouterr().err == ""
    with compilation_told():
        logger.info("compiling four for this processor")
    assert "once, then it is kept" in capsys.readouterr().err
    assert not logger.handlers
