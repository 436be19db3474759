"""Parameters that are taken without drawing them again."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import NameInUseError, ScopeParamNotFoundError, ScopeParamShapeError

from mg_jax.models.parts import parameter


class Ours(nn.Module):
    @nn.compact
    def __call__(self):
        return parameter(self, "kernel", nn.initializers.normal(), (2, 3))


class Unwilling(nn.Module):
    @nn.compact
    def __call__(self):
        return parameter(self, "kernel", lambda *_: pytest.fail("it was drawn again"), (2, 3))


class Twice(nn.Module):
    @nn.compact
    def __call__(self):
        return [parameter(self, "kernel", nn.initializers.normal(), (2, 3)) for _ in range(2)]


class Flax(nn.Module):
    @nn.compact
    def __call__(self):
        return self.param("kernel", nn.initializers.normal(), (2, 3), jnp.float32)


def test_a_parameter_is_drawn_as_flax_draws_it_and_then_the_one_that_is_there():
    drawn, variables = Ours().init_with_output(jax.random.key(3))
    expected, of_flax = Flax().init_with_output(jax.random.key(3))
    assert jax.tree.structure(variables) == jax.tree.structure(of_flax)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(Unwilling().apply(variables), expected)


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(NameInUseError):
        Twice().init(jax.random.key(3))


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), ()])
def test_a_parameter_of_another_shape_is_refused_as_flax_does(shape):
    variables = {"params": {"kernel": jnp.zeros(shape)}}
    for module in (Flax(), Ours()):
        with pytest.raises(ScopeParamShapeError, match=r"\(2, 3\)"):
            module.apply(variables)


def test_a_missing_parameter_is_refused():
    with pytest.raises(ScopeParamNotFoundError):
        Ours().apply({"params": {"other": jnp.zeros(1)}})
