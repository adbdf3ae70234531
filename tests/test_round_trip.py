"""Every model that a format has goes out and comes back to the last bit; others are refused."""

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_jax import trees
from vit_jax.checkpoints import kinds, writing
from vit_jax.checkpoints.formats import open_weights
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of, model_of, shapes_of


def tiny(**changes):
    """Fields of a small model; `attention` and `encoder` go one level deeper."""
    encoder = {"num_layers": 2, "num_heads": 2, "mlp_dim": 24, "dropout_rate": 0.0}
    encoder |= {"attention_dropout_rate": 0.0, **changes.pop("encoder", {})}
    return {"patches": {"size": (8, 8)}, "hidden_size": 16, "transformer": encoder, **changes}


def random_params(model, size=(32, 32), seed=0):
    rng = np.random.default_rng(seed)
    shapes = shapes_of(model, size)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


OPTIONS = {
    "everywhere": {},
    "erf": {"encoder": {"activation": "gelu_erf", "epsilon": 1e-6}},
    "no bias": {"encoder": {"attention": {"qkv_bias": False}}},
    "no head": {"num_classes": None},
    "gap": {"classifier": "gap"},
    "fc_norm": {"classifier": "gap", "pool_norm": True},
    "registers": {"num_registers": 3, "positions": {"class_row": False}},
    "registers, gap": {"num_registers": 1, "classifier": "gap"},
    "layer scale": {"encoder": {"layer_scale": 0.1}},
    "qk norm": {"encoder": {"attention": {"qk_norm": True}}},
    "no class row": {"positions": {"class_row": False}},
    "map": {"pool": "attention"},
    "distilled": {"pool": "distilled"},
    "pre_logits": {"representation_size": 12},
    "pooler": {"representation_size": 12, "num_classes": None},
    "hybrid": {"patches": {"size": (1, 1)}, "resnet": {"num_layers": (3, 4, 9), "width_factor": 1}},
    "stem alone": {"patches": {"size": (2, 2)}, "resnet": {"num_layers": (), "width_factor": 1}},
    "gated": {"encoder": {"mlp": "gated"}},
    "sequence": {"pool": "sequence"},
    "narrow heads": {"encoder": {"attention": {"head_width": 4}}},
    "heads of layers": {"encoder": {"num_heads": (4, 2)}},
    "no positions": {"positions": "none", "classifier": "gap"},
    "positions left out": {"encoder": {"add_position_embedding": False}},
    "no encoder": {"transformer": None, "classifier": "gap"},
    "layer scale, gap": {"encoder": {"layer_scale": 0.1}, "classifier": "gap"},
    "no bias, gap": {"encoder": {"attention": {"qkv_bias": False}}, "classifier": "gap"},
}
EVERYWHERE = {"everywhere", "erf", "no bias", "no head"}
NOT_IN_TIMM = {
    *("pre_logits", "pooler", "gated", "sequence", "narrow heads", "heads of layers"),
    "no encoder",
}
HELD = {
    "official": set(OPTIONS),
    "timm": EVERYWHERE | set(OPTIONS) - NOT_IN_TIMM,
    "transformers": EVERYWHERE | {"distilled", "pooler"},
    "big_vision": {"gap", "no class row", "map"},
}


@functools.cache
def case(option):
    """A model and random parameters for it, the same for all formats."""
    changes = dict(OPTIONS[option])
    model = create_model(None, changes.pop("num_classes", 5), **tiny(**changes))
    return model, random_params(model)


@pytest.mark.parametrize("to", kinds.FORMATS)
@pytest.mark.parametrize("option", OPTIONS)
def test_out_and_back_is_the_identity(option, to, tmp_path):
    model, params = case(option)
    fields, folder = fields_of(model), tmp_path / "out"

    def write():
        beside = writing.configs(to, fields, (32, 32), Preprocess((32, 32)).to_dict(), None)
        writing.write_weights(folder, to, params, fields, beside)

    if option not in HELD[to]:
        with pytest.raises(CheckpointError, match=r"no place|has no|no position"):
            write()
        return
    write()
    weights = open_weights(folder / "model.npz" if (folder / "model.npz").exists() else folder)
    assert weights.layout.format == to
    weights.check({path: array.shape for path, array in params.items()})
    assert trees.difference(weights.load(), params) == []
    told = fields_of(model_of(weights.fields))
    assert {k: v for k, v in told.items() if k != "transformer"} == {
        **{k: v for k, v in fields.items() if k != "transformer"},
        "positions": told["positions"],
        "classifier": told["classifier"],
    }


CONFIGS = st.fixed_dictionaries({
    "width": st.sampled_from([8, 12, 16]),
    "heads": st.sampled_from([1, 2, 4]),
    "layers": st.integers(1, 12),
    "mlp": st.integers(1, 30),
    "grid": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "patch": st.sampled_from([(2, 2), (4, 4), (2, 3)]),
    "classes": st.integers(1, 12),
    "bias": st.booleans(),
})  # fmt: skip


@given(CONFIGS, st.sampled_from(["official", "timm", "transformers"]))
@settings(max_examples=10, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_out_and_back_for_random_sizes(tmp_path, config, to):
    (rows, columns), patch = config["grid"], config["patch"]
    size = (rows * patch[0], columns * patch[1])
    encoder = {"num_layers": config["layers"], "num_heads": config["heads"]}
    encoder |= {"mlp_dim": config["mlp"], "attention": {"qkv_bias": config["bias"]}}
    model = create_model(
        None, config["classes"], hidden_size=config["width"], transformer=encoder,
        patches={"size": patch}, positions={"grid": (rows, columns)},
    )  # fmt: skip
    params, fields = random_params(model, size), fields_of(model)
    beside = writing.configs(to, fields, size, Preprocess(size).to_dict(), None)
    ending = "npz" if to == "official" else "safetensors"
    alone = tmp_path / f"weights.{ending}"
    writing.write_weights(alone, to, params, fields, beside)
    weights = open_weights(alone)
    assert trees.difference(weights.load(), params) == []
    assert weights.image_size == size
