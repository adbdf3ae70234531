"""What a model is called: by its name, by its sizes, or both."""

import pytest

from vit_jax.models.zoo import create_model, list_models
from vit_jax.origin import describe_model


@pytest.mark.parametrize("name", ["ViT-B_16", "compact_cifar_token", "Mixer-B_16", "R50+ViT-B_16"])
def test_a_named_model_has_its_name(name):
    assert name in list_models()
    assert describe_model(create_model(name, 10)) == name


def test_a_named_model_of_other_sizes_has_them_beside():
    """As ViT-B/6 of CIFAR-100 at 72 px, which is no ViT-B/16."""
    model = create_model("ViT-B_16", 100, patches={"size": (6, 6)})
    assert describe_model(model) == "ViT-B_16 as ViT of 12 blocks, 768 wide, patches of 6×6"


def test_a_model_without_a_name_has_that_of_its_sizes_or_these():
    sizes = {"hidden_size": 192, "patches": {"size": (16, 16)}}
    encoder = {"num_layers": 12, "num_heads": 3, "mlp_dim": 768}
    assert describe_model(create_model(None, 10, transformer=encoder, **sizes)) == "ViT-Ti_16"
    encoder["num_layers"] = 5
    found = describe_model(create_model(None, 10, transformer=encoder, **sizes))
    assert found == "ViT of 5 blocks, 192 wide, patches of 16×16"
