"""Well-known networks with Keras' layer names and parameter counts, without pretrained weights."""

from convc.keras.applications import (
    densenet,
    efficientnet,
    imagenet_utils,
    inception_v3,
    mobilenet,
    mobilenet_v2,
    resnet,
    resnet50,
    vgg16,
    vgg19,
    xception,
)
from convc.keras.applications.densenet import DenseNet121, DenseNet169, DenseNet201
from convc.keras.applications.efficientnet import (
    EfficientNetB0,
    EfficientNetB1,
    EfficientNetB2,
    EfficientNetB3,
    EfficientNetB4,
    EfficientNetB5,
    EfficientNetB6,
    EfficientNetB7,
)
from convc.keras.applications.inception_v3 import InceptionV3
from convc.keras.applications.mobilenet import MobileNet
from convc.keras.applications.mobilenet_v2 import MobileNetV2
from convc.keras.applications.resnet import ResNet50, ResNet101, ResNet152
from convc.keras.applications.vgg16 import VGG16
from convc.keras.applications.vgg19 import VGG19
from convc.keras.applications.xception import Xception

__all__ = [
    "VGG16",
    "VGG19",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "Xception",
    "densenet",
    "efficientnet",
    "imagenet_utils",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "resnet",
    "resnet50",
    "vgg16",
    "vgg19",
    "xception",
]  # fmt: skip
