"""Long sounds in parts: no samples are lost, there are no seams, and overlapping parts share their noise."""

import os

import jax
import numpy as np
import pytest

from archijax.pipeline.parts import BLOCK, Parts, noise

LENGTH = 64


def parts(make, **settings):
    return Parts(lambda pieces, starts, progress: (progress(1), make(pieces, starts))[1], LENGTH, **settings)


@pytest.mark.parametrize("fading", [True, False])
def test_any_length_comes_through_in_batches_of_few_sizes(fading):
    sizes, steps = set(), []

    def same(pieces, starts):
        assert pieces.shape[1:] == (2 * LENGTH, 1)
        sizes.add(len(pieces))
        return pieces.repeat(3, axis=1)[:, ::2]

    through = parts(same, rows_in=2, rows_out=3, batch_size=5, fading=fading)
    for units in (1, LENGTH - 1, LENGTH, LENGTH + 1, 20 * LENGTH + 3):
        for rows in (2 * units, 2 * units - 1):
            array = np.random.default_rng(rows).normal(size=(rows, 1)).astype(np.float32)
            wanted = np.pad(array, ((0, rows % 2), (0, 0))).repeat(3, axis=0)[::2]
            steps.clear()
            np.testing.assert_allclose(through(array, steps.append), wanted, atol=1e-6)
            assert sum(steps) == through.steps(rows)
    assert sizes == {1, 2, 5}


def test_parts_of_one_unit_do_not_overlap_and_rows_may_have_any_shape():
    through = Parts(lambda pieces, starts, progress: pieces, 1)
    array = np.arange(42.0).reshape(7, 3, 2)
    np.testing.assert_array_equal(through(array), array)


def test_there_is_no_seam_where_parts_meet():
    """If each part is scaled by its number, the scale changes slowly in an overlap, or at once without blending."""
    ones = np.ones((4 * LENGTH, 1), np.float32)
    stairs = lambda pieces, starts: pieces * (1 + starts[:, None, None] / 48)  # noqa: E731
    joined = parts(stairs)(ones)[:, 0]
    # The outer halves of an overlap come from one part.
    assert np.abs(np.diff(joined)).max() <= 2 / (LENGTH // 4) + 1e-6
    assert (joined[:52] == 1).all()
    assert set(np.round(parts(stairs, fading=False)(ones)[:, 0], 3)) <= {1, 2, 3, 4, 5, 6}


def test_what_is_missing_at_the_end_is_silence_or_the_last_row():
    seen = []
    keep = lambda pieces, starts: seen.append(pieces) or pieces  # noqa: E731
    for edge, last in ((False, 0), (True, 1)):
        parts(keep, edge=edge)(np.ones((LENGTH + 1, 1), np.float32))
        assert seen[-1][-1, -1, 0] == last


def test_the_noise_of_a_sample_depends_on_the_key_and_its_place_alone():
    key, length = jax.random.key(3), BLOCK + 7
    starts = np.array([0, 100, BLOCK + 1, 7 * BLOCK], np.int32)
    # The older emitters of these tests can round the last bit depending on the shape. Users have the newer emitters.
    older = "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]
    options = {"xla_cpu_use_fusion_emitters": True} if older else {}
    drawn = jax.jit(noise, static_argnums=(2, 3), compiler_options=options)
    parts_of_it = np.asarray(drawn(key, starts, length, 2))
    long = np.asarray(drawn(key, np.zeros(1, np.int32), 9 * BLOCK, 2))[0]
    for start, part in zip(starts, parts_of_it, strict=True):
        np.testing.assert_array_equal(part, long[start : start + length])
    first = jax.jit(lambda: jax.random.normal(jax.random.fold_in(key, 0), (BLOCK, 2)))
    np.testing.assert_array_equal(long[:BLOCK], first())
    assert abs(long.std() - 1) < 0.05
