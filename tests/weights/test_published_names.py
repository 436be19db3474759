"""No network is published here whose numbers are not compared with its own code's."""

from mg_jax.published import PUBLISHED, differences
from tests.published import MODELS, config_of
from tests.published_files import NETWORKS


def network(name):
    """Settings without those of the clips, in which alone names of one network differ."""
    clips = ("frames", "data.stride")
    return {setting: value for setting, value in PUBLISHED[name].items() if setting not in clips}


def test_the_logits_of_every_published_network_are_compared():
    """In `test_other_networks.py`, or by golden files in `tests/models/test_published.py`."""
    compared = [network(name) for name in NETWORKS]
    others = [name for name in PUBLISHED if network(name) not in compared]
    golden = [config_of(model) for model in MODELS]
    assert [n for n in others if not any(differences(c, n) == {} for c in golden)] == []
    assert others == ["slowfast_8x8_r50", "slow_4x16_r50", "slow_8x8_r50"]
