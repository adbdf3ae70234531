"""Settings of the model; None takes what the named model, or the class, has."""

from vit_jax.settings.rules import BELOW_ONE, PATCH, POSITIVE, Key, one_of

MODEL: dict[str, Key] = {
    # Model
    "model.model_name": Key(
        None, "A known model; None for one of your own, with all sizes given.", None, str
    ),
    "model.patches.size": Key(None, "(height, width) of a patch, in pixels.", PATCH, tuple),
    "model.hidden_size": Key(None, "Width of a token.", POSITIVE, int),
    "model.transformer.num_layers": Key(None, "Encoder blocks.", POSITIVE, int),
    "model.transformer.num_heads": Key(None, "Attention heads of a block.", POSITIVE, int),
    "model.transformer.mlp_dim": Key(None, "Hidden width of a block's MLP.", POSITIVE, int),
    "model.transformer.mlp": Key(
        None, "A block's MLP; None is the official 'mlp'.", one_of("mlp", "gated"), str
    ),
    "model.transformer.dropout_rate": Key(
        None, "Dropout after attention, MLP and positions.", BELOW_ONE, float
    ),
    "model.transformer.attention_dropout_rate": Key(
        None, "Dropout of the attention weights.", BELOW_ONE, float
    ),
    "model.resnet.num_layers": Key(None, "Hybrids: units of each ResNet stage.", None, tuple),
    "model.resnet.width_factor": Key(None, "Hybrids: width of the ResNet over 64.", None, int),
    "model.stem": Key(
        None, "Convolutions in place of patches; None is none.", one_of("conv", "cct"), str
    ),
    "model.classifier": Key(None, "'token' or 'gap': what the head reads.", None, str),
    "model.pool": Key(
        None,
        "What the head reads, whatever the classifier says; None is what that says.",
        one_of("token", "mean", "sequence", "attention"),
        str,
    ),
    "model.representation_size": Key(None, "Width of the layer before the head.", POSITIVE, int),
    "model.head_bias_init": Key(None, "First value of the head's bias.", None, float),
    "model.num_blocks": Key(None, "Mixer: blocks.", POSITIVE, int),
    "model.hidden_dim": Key(None, "Mixer: width of a token.", POSITIVE, int),
    "model.tokens_mlp_dim": Key(None, "Mixer: width of the MLP over tokens.", POSITIVE, int),
    "model.channels_mlp_dim": Key(None, "Mixer: width of the MLP over channels.", POSITIVE, int),
    "dtype": Key(
        None,
        "Dtype of computation; None takes bfloat16 on GPU and TPU, float32 on CPU. Parameters, "
        "statistics, softmax, logits and loss are float32 always.",
        one_of("float32", "bfloat16"),
        str,
    ),
}
