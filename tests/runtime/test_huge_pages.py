"""Huge pages: asked for where it helps, once, and in the place of the program that asks."""

import os
import subprocess
import sys

import pytest

from vit_jax.runtime.huge_pages import tunables

MADVISE = "always [madvise] never\n"
GLIBC = ("glibc", "2.36")

PROGRAM = """
import os, pathlib, platform, sys
from vit_jax.runtime import huge_pages
huge_pages._MODE = pathlib.Path(sys.argv[1])
platform.libc_ver = lambda: ("glibc", "2.36")
huge_pages.ask()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("said", "mode", "libc", "wish"),
    [
        ("", MADVISE, GLIBC, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.perturb=1", MADVISE, GLIBC, "glibc.malloc.perturb=1:glibc.malloc.hugetlb=1"),
        ("", MADVISE, ("glibc", "2.35"), "glibc.malloc.hugetlb=1"),
        ("", MADVISE, ("glibc", "3.0"), "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", MADVISE, GLIBC, None),
        ("glibc.malloc.hugetlb=1", MADVISE, GLIBC, None),
        ("", "[always] madvise never\n", GLIBC, None),
        ("", "always madvise [never]\n", GLIBC, None),
        ("", "", GLIBC, None),
        ("", MADVISE, ("glibc", "2.34"), None),
        ("", MADVISE, ("", ""), None),
    ],
)
def test_they_are_asked_for_where_the_answer_depends_on_it(said, mode, libc, wish):
    assert tunables(said, mode, libc) == wish


@pytest.mark.parametrize(("mode", "said"), [(MADVISE, "glibc.malloc.hugetlb=1"), ("", None)])
def test_the_program_goes_on_as_the_same_process_with_the_same_words(tmp_path, mode, said):
    modes = tmp_path / "modes"
    modes.write_text(mode)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    words = ["--a=b c", "", "é"]
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(modes), *words],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    printed, _ = started.communicate(timeout=60)
    assert printed.split("\n")[:-1] == [f"{started.pid} {said} {words}"]
