"""Settings of the model; None takes what the named model, or the class, has."""

from vit_jax.settings.rules import (
    BELOW_ONE,
    CONVOLUTIONS,
    COUNTS,
    NOT_NEGATIVE,
    PATCH,
    POSITIVE,
    SHARES,
    Key,
    one_of,
)

MODEL: dict[str, Key] = {
    # Pretrained weights
    "model_or_filename": Key(
        None,
        "Weights to start from, and with them the architecture: a file, a folder, a URL, a workdir "
        "or a published name. With pretrained_dir, as officially: a file in it, without '.npz', or "
        "an AugReg model ('B_16') for its recommended one. None starts from scratch.",
        None,
        str,
        is_path=True,
    ),
    "pretrained_dir": Key(
        None,
        "Folder, or its URL, of official .npz files; without model_or_filename the file there has "
        "the name in model.model_name.",
        None,
        str,
        is_path=True,
    ),
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
    "model.transformer.heads_by_layer": Key(
        None,
        "Heads of each layer, where they differ, as after pruning; in place of num_heads, and with "
        "attention.head_width.",
        COUNTS,
        tuple,
    ),
    "model.transformer.activation": Key(
        None,
        "The MLP's activation: 'gelu_tanh' for official weights, 'gelu_erf' for those of DeiT, "
        "timm and transformers.",
        one_of("gelu_tanh", "gelu_erf"),
        str,
    ),
    "model.transformer.epsilon": Key(None, "That of the LayerNorms.", POSITIVE, float),
    "model.transformer.layer_scale": Key(
        None, "First value of a learned scale of each residual branch.", POSITIVE, float
    ),
    "model.transformer.drop_path_rate": Key(
        None,
        "Stochastic depth: share of images for which training leaves out a residual branch of the "
        "last block; it grows linearly from 0 in the first.",
        BELOW_ONE,
        float,
    ),
    "model.transformer.drop_path_by_layer": Key(
        None,
        "Stochastic depth of each block, where it does not grow so; in place of drop_path_rate.",
        SHARES,
        tuple,
    ),
    "model.transformer.remat": Key(
        None,
        "What the backward pass keeps of a block, by the names of jax.checkpoint_policies, to save "
        "memory (on a CPU only with model.scan_blocks); None keeps all it needs.",
        one_of(
            "nothing_saveable",
            "dots_saveable",
            "dots_with_no_batch_dims_saveable",
            "everything_saveable",
        ),
        str,
    ),
    "model.transformer.attention.kernel": Key(
        None,
        "What computes attention; 'auto' takes the fastest that serves.",
        one_of("auto", "xla", "cudnn"),
        str,
    ),
    "model.transformer.attention.merged_qkv": Key(
        None, "Query, key and value by one matrix product, from the same parameters.", None, bool
    ),
    "model.transformer.attention.qk_norm": Key(
        None, "LayerNorm of each head's queries and keys.", None, bool
    ),
    "model.transformer.attention.qkv_bias": Key(
        None, "Biases of query, key and value.", None, bool
    ),
    "model.transformer.attention.head_width": Key(
        None, "Width of a head; None for hidden_size / num_heads.", POSITIVE, int
    ),
    "model.scan_blocks": Key(
        None,
        "Run the encoder's blocks as a loop over one program, which is smaller and runs a little "
        "slower; the parameters are the same.",
        None,
        bool,
    ),
    "model.resnet.num_layers": Key(None, "Hybrids: units of each ResNet stage.", COUNTS, tuple),
    "model.resnet.width_factor": Key(None, "Hybrids: width of the ResNet over 64.", POSITIVE, int),
    "model.stem": Key(
        None, "Convolutions in place of patches; None is none.", one_of("conv", "cct"), str
    ),
    "model.stem_fields.num_layers": Key(None, "'cct': its convolutions.", POSITIVE, int),
    "model.stem_fields.kernel_size": Key(None, "'cct': pixels of a convolution.", POSITIVE, int),
    "model.stem_fields.stride": Key(None, "'cct': stride of a convolution.", POSITIVE, int),
    "model.stem_fields.pool_size": Key(None, "'cct': pixels of a max-pool.", POSITIVE, int),
    "model.stem_fields.pool_stride": Key(None, "'cct': stride of a max-pool.", POSITIVE, int),
    "model.stem_fields.features": Key(
        None, "'cct': channels of its convolutions but the last.", POSITIVE, int
    ),
    "model.stem_fields.layers": Key(
        None, "'conv': (channels, stride) of each convolution.", CONVOLUTIONS, tuple
    ),
    "model.positions.kind": Key(
        None, "Positions of the tokens.", one_of("learned", "sincos2d", "none"), str
    ),
    "model.positions.resize": Key(
        None,
        "How positions are resized for images of another size; None refuses those.",
        one_of("bilinear", "bicubic"),
        str,
    ),
    "model.positions.grid": Key(
        None, "(rows, columns) of patches that positions were made for.", PATCH, tuple
    ),
    "model.positions.class_row": Key(
        None, "Whether the class token has a position too.", None, bool
    ),
    "model.num_registers": Key(
        None, "Learned tokens beside the patches that the head does not read.", NOT_NEGATIVE, int
    ),
    "model.pool_norm": Key(None, "The last LayerNorm after pooling, not before it.", None, bool),
    "model.classifier": Key(None, "'token' or 'gap': what the head reads.", None, str),
    "model.pool": Key(
        None,
        "What the head reads, whatever the classifier says; None is what that says.",
        one_of("token", "mean", "sequence", "attention", "distilled"),
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
        "Dtype of computation; None takes bfloat16 on TPU and GPU, float32 on CPU and on "
        "NVIDIA GPUs before Ampere, which have no units for bfloat16. Parameters, "
        "statistics, softmax, logits and loss are float32 always.",
        one_of("float32", "bfloat16"),
        str,
    ),
}

# Settings of a model that are no part of what its name says: how it is trained and computed.
_BESIDE_A_NAME = (
    *("model.transformer.dropout_rate", "model.transformer.attention_dropout_rate"),
    *("model.transformer.drop_path_rate", "model.transformer.remat", "model.scan_blocks"),
    *("model.transformer.attention.kernel", "model.transformer.attention.merged_qkv"),
)
# What makes a model that has no name.
ARCHITECTURE = tuple(
    path
    for path in MODEL
    if path.startswith("model.") and path not in (*_BESIDE_A_NAME, "model.model_name")
)
