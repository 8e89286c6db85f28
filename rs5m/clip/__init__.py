"""Two-tower models: loaded by name, images and texts to vectors. Chapter: clip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model": [
            "MAX_TOKENS",
            "Model",
            "autocast",
            "block",
            "check_images",
            "crop",
            "device",
            "encode_images",
            "encode_pixels",
            "encode_texts",
            "in_blocks",
            "normalise_pixels",
            "parameters",
            "preprocess",
            "square",
            "text_vectors",
            "tokenize",
        ],
        "openclip": ["declare_vision_operators", "open_clip", "quiet_transformers"],
        "pocket": [
            "LITE",
            "POCKET_SIZE",
            "STRENGTHS",
            "TOWERS",
            "fold",
            "image_to_text",
            "image_tower_weights",
            "left_out",
            "pocket_model",
            "ridge",
        ],
        "factory": ["load"],
    },
)
