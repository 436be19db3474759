"""Augmentation of pixels against Pillow, SciPy and formulas by hand."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from jax.sharding import Mesh
from PIL import Image, ImageEnhance, ImageOps

from mg_jax.runtime import parallel, xla_options
from mg_jax.training.augment import beta, colour, erasing, mixing
from mg_jax.training.augment.batch import augmented, pixels, strength
from mg_jax.training.augment.rand_augment import OPERATIONS, apply
from tests import tiny

T, H, W = 2, 24, 32


@pytest.fixture(scope="module")
def frame_HWC():
    """A smooth picture with some noise, whose channels do not span 0 ... 255."""
    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(H, W, 3)), (3, 3, 0))
    return np.clip(110 + 300 * smooth + rng.normal(size=(H, W, 3)) * 6, 20, 230).astype(np.uint8)


@pytest.fixture(scope="module")
def applied(frame_HWC):
    """Applies an operation by name to a clip of equal frames and returns the one frame."""
    jitted = jax.jit(apply, compiler_options=xla_options.for_once("cpu"))

    def one(name, share, sign=1.0):
        clip_THWC = np.stack([frame_HWC] * T)
        out_THWC = np.asarray(jitted(OPERATIONS.index(name), share, sign, clip_THWC))
        assert out_THWC.dtype == np.uint8
        np.testing.assert_array_equal(out_THWC[0], out_THWC[1])
        return out_THWC[0].astype(int)

    return one


PILLOW = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "colour": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "posterize": lambda image, _: ImageOps.posterize(image, 6),
    "solarize": lambda image, _: ImageOps.solarize(image, 128),
    "auto_contrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "identity": lambda image, _: image,
}


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_operations_on_colours_are_pillows(applied, frame_HWC, name, sign):
    expected = np.asarray(PILLOW[name](Image.fromarray(frame_HWC), 1 + 0.9 * 0.5 * sign))
    # Pillow cuts to whole numbers where we round, in steps between as well.
    assert np.abs(applied(name, 0.5, sign) - expected).max() <= 2


MOVES = {
    "shear_x": [[1, 0], [0.15, 1]],
    "shear_y": [[1, 0.15], [0, 1]],
    "translate_x": (0, 0.5 * 150 / 331 * W),
    "translate_y": (0.5 * 150 / 331 * H, 0),
    "rotate": [[np.cos(np.pi / 12), -np.sin(np.pi / 12)], [np.sin(np.pi / 12), np.cos(np.pi / 12)]],
}


@pytest.mark.parametrize("name", MOVES)
def test_movements_are_scipys(applied, frame_HWC, name):
    move = np.array(MOVES[name], float)
    matrix, shift = (np.eye(2), move) if move.ndim == 1 else (move, np.zeros(2))
    centre = np.array([(H - 1) / 2, (W - 1) / 2])
    offset = centre + shift - matrix @ centre
    for c in range(3):
        plane = frame_HWC[..., c].astype(float)
        settings = {"order": 1, "mode": "constant", "cval": 115}
        expected = scipy.ndimage.affine_transform(plane, matrix, offset, **settings)
        # At the border one interpolates to what is outside and the other does not.
        difference = np.abs(applied(name, 0.5)[..., c] - expected)
        assert np.mean(difference > 1) < 0.1
        assert np.median(difference) < 0.51


def test_jitter_is_torchvisions(frame_HWC):
    x = frame_HWC[None].astype(np.float32)
    luma = x @ np.float32([0.299, 0.587, 0.114])
    mean = np.round(luma).mean()
    expected = {
        colour.brightness: 1.3 * x,
        colour.contrast: mean + 1.3 * (x - mean),
        colour.saturation: luma[..., None] + 1.3 * (x - luma[..., None]),
    }
    for change, values in expected.items():
        np.testing.assert_allclose(change(x, 1.3), np.clip(values, 0, 255), atol=1e-2)
    turned = np.asarray(colour.hue(x, -0.2)).reshape(-1, 3)
    for before, after in zip(x.reshape(-1, 3)[::7], turned[::7], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((h - 0.2) % 1, s, v), atol=1e-2)


def test_an_erased_rectangle_is_the_same_in_all_frames_and_within_its_ranges():
    keys = jax.random.split(jax.random.key(0), 300)
    clip_THWC = jnp.zeros((T, 40, 60, 3))
    erased = np.asarray(jax.vmap(lambda key: erasing.erase(0.7, key, clip_THWC, 1.0))(keys))
    happened = erased.any((1, 2, 3, 4))
    assert abs(happened.mean() - 0.7) < 0.08
    np.testing.assert_array_equal(erased[:, 0], erased[:, 1])
    centres = []
    for mask_HW in erased[happened, 0, :, :, 0]:
        rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert mask_HW.sum() == height * width
        assert 0.015 < height * width / 2400 < 0.36
        assert height in (1, 40) or width == 60 or 0.25 < height / width < 4
        centres.append((rows.mean() / 40, columns.mean() / 60))
    np.testing.assert_allclose(np.mean(centres, 0), 0.5, atol=0.06)


@pytest.fixture
def config():
    config = tiny.get_config()
    config.augment.update(
        rand_layers=2,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
    )
    return config


def mixed(config, share=1.0, count=2000):
    """Pairs of a black and a white clip of classes 0 and 1, mixed: shares of white and of 1."""
    clips = np.zeros((count, 1, 20, 30, 3), np.float32)
    clips[1::2] = 1
    keys = jax.random.split(jax.random.key(1), count)
    label_B = jnp.arange(count) % 2
    clips, label_BK = mixing.mix(config.augment, share, keys, clips, label_B, 2)
    return np.asarray(clips), np.asarray(label_BK)


@pytest.mark.parametrize("alpha", [0.001, 0.2, 0.8, 1.0, 2.0, 32.0, 1000.0])
def test_quantiles_are_those_of_the_beta_distribution(alpha):
    u = np.concatenate([[0], np.linspace(1e-7, 0.5, 10001), 0.5 ** np.arange(1, 24)])
    u = u.astype(np.float32)
    expected = scipy.special.betaincinv(alpha, alpha, u.astype(np.float64))
    found = jax.jit(lambda u: beta.quantile(u, alpha))(u)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    keys = jax.random.split(jax.random.key(int(10 * alpha)), 20000)
    shares = np.asarray(jax.vmap(lambda key: beta.draw(key, alpha))(keys))
    assert shares.min() >= 0 and shares.max() <= 1
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    distribution = scipy.stats.beta(alpha, alpha)
    halves = [shares[shares < 0.5]]
    if alpha > 0.5:  # near 1 float32 has steps of 6e-8, so smaller ones give ties there
        halves.append(1 - shares[shares >= 0.5])
    for half in halves:
        assert len(half) == pytest.approx(10000, abs=300)
        assert scipy.stats.kstest(half, lambda x: 2 * distribution.cdf(x)).pvalue > 0.01


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_labels_are_mixed_as_pixels_are(config, mixup, cutmix):
    config.augment.update(mixup=mixup, cutmix=cutmix)
    clips, label_BK = mixed(config)
    np.testing.assert_allclose(label_BK[:, 1], clips.mean((1, 2, 3, 4)), atol=1e-5)
    np.testing.assert_allclose(label_BK.sum(1), 1, atol=1e-6)
    own = np.where(np.arange(len(clips)) % 2, label_BK[:, 1], label_BK[:, 0])
    whole = np.ptp(clips, (1, 2, 3, 4)) == 0  # mixup changes all pixels alike
    if mixup:
        shares = own[whole] if cutmix == 0 else own[whole & (own < 1)]
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.012)
    if cutmix:
        inside = clips[~whole, 0, :, :, 0] != clips[~whole, 0, :1, :1, 0]
        assert np.isin(clips[~whole], (0, 1)).all()
        assert inside.any(-1).any(-1).all()
    assert (mixup > 0 or whole.mean() < 0.1) and (cutmix > 0 or whole.all())


def test_a_share_of_the_clips_is_mixed(config):
    config.augment.mix = 0.6
    _, label_BK = mixed(config, share=0.5)
    assert np.mean(label_BK.max(1) < 1) == pytest.approx(0.3, abs=0.04)


def random_batch(first, count):
    rng = np.random.default_rng(0)
    return {
        "clips": rng.integers(0, 256, (count, T, H, W, 3), np.uint8),
        "flip": rng.integers(0, 2, count) > 0,
        "label": rng.integers(0, 4, count, np.int32),
        "position": np.arange(first, first + count, dtype=np.uint32),
    }


def test_draws_follow_from_seed_and_position_on_any_number_of_devices(config):
    batch, results = random_batch(2**32 - 6, 8), []
    for devices in (1, 2):
        mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
        mapped = parallel.pmap(
            lambda batch: augmented(config, 8, batch, config.seed),
            mesh,
            (parallel.SPLIT,),
            parallel.SPLIT,
        )
        sharded = parallel.shard(batch, mesh)
        compiled = mapped.lower(sharded).compile(compiler_options=xla_options.CPU)
        results.append(jax.device_get(compiled(sharded)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    other = {**batch, "position": batch["position"] + np.uint32(8)}
    clips, label_BK = jax.device_get(compiled(parallel.shard(other, mesh)))
    changed_B = np.any(clips != results[1][0], axis=(1, 2, 3, 4))
    assert changed_B.all()
    assert not np.array_equal(label_BK, results[1][1])


def test_without_changes_clips_stay_as_they_are(config):
    batch = random_batch(0, 4)
    for setting in config.augment:
        config.augment[setting] = type(config.augment[setting])(0)
    clips, label = pixels(config, 8, batch, config.seed)
    assert clips.dtype == np.uint8
    mirrored = batch["clips"][:, :, :, ::-1]
    expected = np.where(batch["flip"][:, None, None, None, None], mirrored, batch["clips"])
    np.testing.assert_array_equal(clips, expected)
    np.testing.assert_array_equal(label, batch["label"])


def test_strength_falls_evenly_with_each_doubling_of_the_clips():
    found = [strength(0.2, factor) for factor in (1, 2, 4, 8, 16, 32)]
    np.testing.assert_allclose(found, [1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_at_no_strength_nothing_changes(config):
    config.augment.coarse = 0.0
    batch = random_batch(0, 4)
    applied = jax.jit(
        lambda batch: pixels(config, 16 * config.batch, batch, config.seed),
        compiler_options=xla_options.for_once("cpu"),
    )
    clips, label_BK = applied(batch)
    for setting in ("rand_layers", "mixup", "cutmix", "erase", "brightness", "contrast"):
        config.augment[setting] = 0
    config.augment.update(saturation=0.0, hue=0.0)
    plain, label = pixels(config, 8, batch, config.seed)
    np.testing.assert_allclose(clips, plain, atol=1e-3)
    np.testing.assert_array_equal(label_BK, np.eye(4)[label])
