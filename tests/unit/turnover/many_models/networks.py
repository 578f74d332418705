"""Networks of torchvision, timm and transformers, small and without weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CLASSES, EXAMPLES = 5, 6


class Model(NamedTuple):
    """A network to try.

    Args:
        library: where it comes from.
        name: its name there.
        build: makes it with random weights.
        inputs: of `EXAMPLES` examples; keyword arguments where it is a mapping.
        refused: a pattern in the refusal, if it is expected to be refused.
        place: the module to mask then, where the refusal leaves the choice.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Any
    refused: str | None = None
    place: str | None = None


def images(size: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(EXAMPLES, channels, size, size, generator=torch.Generator().manual_seed(0))


def tokens(length: int = 9) -> dict[str, Tensor]:
    """Token ids, the last of which are padding in every second text."""
    ids = torch.randint(3, 50, (EXAMPLES, length), generator=torch.Generator().manual_seed(0))
    ids[:, 4] = 1  # the end of a text, for networks that look for it
    present = torch.ones_like(ids)
    present[::2, -3:] = 0
    return {"input_ids": ids.where(present == 1, 0), "attention_mask": present}


def torchvision(
    name: str, size: int = 32, refused: str | None = None, place: str | None = None, **options: Any
) -> Model:
    def build() -> nn.Module:
        models = importlib.import_module("torchvision.models")
        home = models.segmentation if hasattr(models.segmentation, name) else models
        if isinstance(made := getattr(home, name), type):
            return made(num_classes=CLASSES, **options)
        return made(weights=None, num_classes=CLASSES, **options)  # type: ignore[no-any-return]

    return Model("torchvision", name, build, images(size), refused, place)


def timm(name: str, size: int = 32, refused: str | None = None, place: str | None = None, **options: Any) -> Model:
    def build() -> nn.Module:
        create: Callable[..., nn.Module] = importlib.import_module("timm").create_model
        return create(name, pretrained=False, num_classes=CLASSES, **options)

    return Model("timm", name, build, images(size), refused, place)


def hugging_face(name: str, inputs: Any, config: str, refused: str | None = None, **options: Any) -> Model:
    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        return getattr(library, name)(getattr(library, config)(num_labels=CLASSES, **options))  # type: ignore[no-any-return]

    return Model("transformers", name, build, inputs, refused)


# fmt: off
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 50, "max_position_embeddings": 20}
PIXELS: dict[str, Any] = {"pixel_values": images()}
TINY_VIT: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8}
LAYERS = {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
SEGFORMER: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 64], **LAYERS}

DENSE = r"class logits \[batch, classes\]"

MODELS = [
    torchvision("resnet18"),
    torchvision("wide_resnet50_2"),
    torchvision("googlenet", aux_logits=True, init_weights=False),
    torchvision("inception_v3", 96, aux_logits=False, init_weights=False),
    torchvision("densenet121"),
    torchvision("mobilenet_v3_small"),
    torchvision("shufflenet_v2_x0_5"),
    torchvision("efficientnet_b0"),
    torchvision("regnet_y_400mf"),
    torchvision("convnext_tiny"),
    torchvision("VisionTransformer", image_size=32, patch_size=8, num_layers=2, num_heads=2,
                hidden_dim=32, mlp_dim=48),
    torchvision("SwinTransformer", patch_size=[4, 4], embed_dim=24, depths=[1, 1], num_heads=[1, 2],
                window_size=[2, 2]),
    torchvision("MaxVit", input_size=(32, 32), stem_channels=16, partition_size=2, block_channels=[16, 32],
                block_layers=[1, 1], head_dim=8, stochastic_depth_prob=0.1),
    torchvision("squeezenet1_1", refused="no torch.nn.Linear", place="features"),
    torchvision("lraspp_mobilenet_v3_large", weights_backbone=None, refused="OrderedDict with out, .*no logits"),
    timm("resnet18"),
    timm("resnetv2_50", layers=(1, 1, 1, 1), norm_layer="groupnorm", refused="no torch.nn.Linear", place="norm"),
    timm("test_efficientnet_gn"),
    timm("test_convnext"),
    timm("test_nfnet"),
    timm("test_mambaout"),
    timm("test_byobnet", refused="BatchNormAct2d"),
    timm("efficientnet_b0", refused="BatchNormAct2d"),
    timm("regnety_002", refused="BatchNormAct2d"),
    timm("mixer_s32_224", 64, img_size=64),
    timm("levit_128s", 64, img_size=64, refused="past the mask"),
    timm("vit_tiny_patch16_224", **TINY_VIT),
    timm("beit_base_patch16_224", **TINY_VIT),
    timm("deit_tiny_distilled_patch16_224", **TINY_VIT, refused="past the mask"),
    timm("swin_tiny_patch4_window7_224", img_size=32, window_size=2, depths=(1, 1, 1, 1), embed_dim=24,
         num_heads=(1, 2, 4, 8)),
    timm("cait_xxs24_224", img_size=32, patch_size=8, depth=2),
    timm("xcit_nano_12_p16_224", img_size=32, depth=2),
    timm("volo_d1_224", 64, img_size=64, refused="past the mask"),
    timm("poolformer_s12"),
    timm("pvt_v2_b0"),
    timm("edgenext_xx_small"),
    timm("repvit_m0_9", refused="past the mask"),
    hugging_face("BertForSequenceClassification", tokens(), "BertConfig", **TEXT),
    hugging_face("RobertaForSequenceClassification", tokens(), "RobertaConfig", **TEXT),
    hugging_face("DistilBertForSequenceClassification", tokens(), "DistilBertConfig",
                 vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    hugging_face("ElectraForSequenceClassification", tokens(), "ElectraConfig", **TEXT),
    hugging_face("AlbertForSequenceClassification", tokens(), "AlbertConfig", **TEXT),
    hugging_face("DebertaV2ForSequenceClassification", tokens(), "DebertaV2Config", **TEXT),
    hugging_face("GPT2ForSequenceClassification", tokens(), "GPT2Config", vocab_size=50, n_positions=20, n_embd=32,
                 n_layer=2, n_head=2, pad_token_id=0, bos_token_id=1, eos_token_id=1),
    hugging_face("LlamaForSequenceClassification", tokens(), "LlamaConfig", **TEXT, pad_token_id=0),
    hugging_face("T5ForSequenceClassification", tokens(), "T5Config", vocab_size=50, d_model=32, d_kv=16, d_ff=48,
                 num_layers=2, num_heads=2, decoder_start_token_id=0),
    hugging_face("BertForTokenClassification", tokens(), "BertConfig", **TEXT, refused=DENSE),
    hugging_face("ViTForImageClassification", PIXELS, "ViTConfig", **SMALL, image_size=32, patch_size=8),
    hugging_face("DeiTForImageClassificationWithTeacher", PIXELS, "DeiTConfig", **SMALL, image_size=32, patch_size=8,
                 refused="past the mask"),
    hugging_face("ResNetForImageClassification", PIXELS, "ResNetConfig",
                 embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1]),
    hugging_face("SegformerForImageClassification", PIXELS, "SegformerConfig", **SEGFORMER),
    hugging_face("SegformerForSemanticSegmentation", PIXELS, "SegformerConfig", **SEGFORMER, refused=DENSE),
    hugging_face("ASTForAudioClassification", {"input_values": images()[:, 0]}, "ASTConfig",
                 **SMALL, max_length=32, num_mel_bins=32, patch_size=8, frequency_stride=8, time_stride=8),
    hugging_face("Wav2Vec2ForSequenceClassification", {"input_values": images().flatten(1)}, "Wav2Vec2Config", **SMALL,
                 conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 4), num_conv_pos_embeddings=8,
                 num_conv_pos_embedding_groups=2, apply_spec_augment=False),
]
# fmt: on
