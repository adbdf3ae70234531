import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "pp": {"crop": 16},
            "augment": {"rotate": 15.0, "shift": 0.1, "scale": 0.15},
            "model": {
                "patches": {"size": (4, 4)},
                "hidden_size": 96,
                "transformer": {
                    "num_layers": 4,
                    "num_heads": 4,
                    "mlp_dim": 192,
                    "dropout_rate": 0.0,
                    "attention_dropout_rate": 0.0,
                },
                "classifier": "gap",
            },
            "epochs": 60.0,
            "batch": 128,
            "optimizer": "adamw",
            "base_lr": 2e-3,
            "warmup_steps": 50,
            "weight_decay": 0.05,
            "label_smoothing": 0.1,
            "eval_every": 100,
            "checkpoint_every": 200,
        }
    )
