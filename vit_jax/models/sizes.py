"""The sizes of Transformers that have letters."""

# Width, MLP width, heads, layers (arXiv:2010.11929, table 1; Ti and S: arXiv:2106.10270, table 2;
# M: arXiv:2204.07118, table 1; g and G: arXiv:2106.04560, table 2).
SIZES = {
    "testing": (10, 10, 2, 1),
    "Ti": (192, 768, 3, 12),
    "S": (384, 1536, 6, 12),
    "M": (512, 2048, 8, 12),
    "B": (768, 3072, 12, 12),
    "L": (1024, 4096, 16, 24),
    "H": (1280, 5120, 16, 32),
    "g": (1408, 6144, 16, 40),
    "G": (1664, 8192, 16, 48),
}
