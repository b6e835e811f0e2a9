"""Duplicates are found and domains gathered whatever memory allows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.uploads.partition import BYTES_FOR_A_BUCKET, Partition
from gateway.uploads.plan import assign_fates, read_cell
from shared.address import Address


@pytest.mark.parametrize("rows_in_memory", [10_000, 50])
@pytest.mark.parametrize("buckets", [1, 5])
def test_the_fates_are_those_found_in_memory(tmp_path: Path, rows_in_memory: int, buckets: int) -> None:
    dice = random.Random(1)
    domains = ["big.example.com"] * 20 + [f"d{n}.example.com" for n in range(10)]
    cells = [f"User{dice.randrange(300)}@{dice.choice(domains)}" for _ in range(2_000)]
    partition = Partition(tmp_path / "buckets", (buckets - 1) * BYTES_FOR_A_BUCKET, rows_in_memory)
    for row, cell in enumerate(cells, 1):
        address = read_cell(row, cell)
        assert isinstance(address, Address)
        partition.add(row, address)
    duplicates: dict[int, int] = {}
    unique = list(partition.drain(duplicates.__setitem__))
    expected = assign_fates(enumerate(cells, 1))
    assert duplicates == expected.duplicates
    assert sorted(unique) == sorted(expected.unique)
    if rows_in_memory > len(cells):
        runs = [
            one.domain
            for one, before in zip(unique, [None, *unique], strict=False)
            if not before or one.domain != before.domain
        ]
        assert len(runs) == len(set(runs))
    assert not (tmp_path / "buckets").exists()


def test_a_partition_that_is_given_up_leaves_no_file_open(tmp_path):
    partition = Partition(tmp_path / "buckets", 3 * BYTES_FOR_A_BUCKET)
    partition.close()
    partition.close()
    assert all(bucket.closed for bucket in partition._buckets)
