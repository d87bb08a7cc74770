"""The networks have Keras' parameter counts, layer names and output shapes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError, InputFileError
from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.keras import applications
from convc.keras.applications import imagenet_utils
from tests.keras.running import randomized, run

COUNTS = {
    "ResNet50": (25_636_712, 177),
    "ResNet101": (44_707_176, 347),
    "VGG16": (138_357_544, 23),
    "VGG19": (143_667_240, 26),
    "MobileNet": (4_253_864, 91),
    "MobileNetV2": (3_538_984, 156),
    "DenseNet121": (8_062_504, 429),
    "DenseNet169": (14_307_880, 597),
    "InceptionV3": (23_851_784, 313),
    "Xception": (22_910_480, 134),
    "EfficientNetB0": (5_330_571, 240),
    "EfficientNetB3": (12_320_535, 387),
}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", sorted(COUNTS))
def test_application_has_keras_parameter_count(name: str, data_format: str) -> None:
    keras.backend.set_image_data_format(data_format)
    model = getattr(applications, name)(weights=None)
    assert (model.count_params(), len(model.layers)) == COUNTS[name]
    assert model.output_shape == (None, 1000)


DIGESTS: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "ResNet50V2": ({}, 25_613_800, 192, "e2525e48c512761a"),
    "InceptionResNetV2": ({"classes": 10, "input_shape": (96, 96, 3)}, 54_352_106, 782, "63a7f6336cad730e"),
    "MobileNetV3Small": ({}, 2_554_968, 164, "a0cc6fec4be4663b"),
    "MobileNetV3Large": (
        {"minimalistic": True, "input_shape": (96, 96, 3)}, 3_948_688, 146, "c38875d3376aa140"
    ),
    "EfficientNetV2B0": ({}, 7_200_312, 273, "dfe4863157eb6e21"),
    "EfficientNetV2S": (
        {"include_top": False, "pooling": "max", "input_shape": (96, 96, 3)}, 20_331_360, 514, "106e89536865666e"
    ),
    "ConvNeXtTiny": ({}, 28_589_128, 135, "fd0d3d4f1baaab85"),
    "NASNetMobile": ({"classes": 10, "input_shape": (96, 96, 3)}, 4_280_286, 771, "1f337c87e65da994"),
}  # fmt: skip
"""Options, parameters, layers, and a digest of the layers' names and the weights' shapes in order (Keras 3.15)."""


@pytest.mark.parametrize("name", DIGESTS)
def test_layers_and_weights_stand_in_keras_order(name: str) -> None:
    """So files of weights fit, those that go by order and those that go by name."""
    options, count, layers, digest = DIGESTS[name]
    model = getattr(applications, name)(weights=None, **options)
    assert (model.count_params(), len(model.layers)) == (count, layers)
    seen = [[layer.name for layer in model.layers], [list(w.shape) for w in model.weights]]
    assert hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16] == digest


def test_stochastic_depth_keeps_or_drops_whole_samples() -> None:
    layer = applications.convnext.StochasticDepth(0.5)
    x = np.ones((64, 2, 3), np.float32)
    np.testing.assert_array_equal(layer(x), x)
    found = np.asarray(layer(x, training=True)).reshape(64, -1)
    assert (found == found[:, :1]).all()
    assert set(np.unique(found)) == {0.0, 2.0}


def test_a_network_with_layers_of_its_own_comes_back(tmp_path: Path) -> None:
    """Keras finds their classes where it has them itself."""
    model = applications.ConvNeXtTiny(
        weights=None, input_shape=(32, 32, 3), include_top=False, pooling="avg"
    )
    config = keras.saving.serialize_keras_object(model)
    scale = next(e for e in config["config"]["layers"] if e["class_name"] == "LayerScale")
    assert scale["module"] == "keras.src.applications.convnext"
    assert keras.models.model_from_config(config).count_params() == model.count_params()


def test_non_trainable_parameters_are_the_moving_statistics() -> None:
    for name, expected in (
        ("ResNet50", 53_120),
        ("MobileNetV2", 34_112),
        ("EfficientNetB0", 42_023),
    ):
        model = getattr(applications, name)(weights=None)
        assert sum(int(np.prod(w.shape)) for w in model.non_trainable_weights) == expected


FEATURES = {
    "ResNet50": (7, 7, 2048),
    "VGG16": (7, 7, 512),
    "MobileNetV2": (7, 7, 1280),
    "DenseNet121": (7, 7, 1024),
    "InceptionV3": (8, 8, 2048),
    "EfficientNetB0": (7, 7, 1280),
}


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_application_without_top_ends_with_features(name: str) -> None:
    build = getattr(applications, name)
    channels = FEATURES[name][-1]
    open_sizes = build(weights=None, include_top=False)
    assert open_sizes.output_shape == (None, None, None, channels)
    shape = (299, 299, 3) if name == "InceptionV3" else (224, 224, 3)
    sized = build(weights=None, include_top=False, input_shape=shape)
    assert sized.output_shape == (None, *FEATURES[name])
    pooled = build(weights=None, include_top=False, pooling="max")
    assert pooled.output_shape == (None, FEATURES[name][-1])


def test_layer_names_are_those_of_keras() -> None:
    rows: list[tuple[Any, list[str]]] = [
        (
            applications.ResNet50,
            ["conv1_pad", "conv2_block1_0_conv", "conv5_block3_out", "avg_pool", "predictions"],
        ),
        (
            applications.MobileNetV2,
            ["Conv1", "bn_Conv1", "expanded_conv_project", "block_16_project_BN", "out_relu"],
        ),
        (
            applications.DenseNet121,
            ["conv1_conv", "conv2_block1_0_bn", "pool2_conv", "conv5_block16_concat", "bn", "relu"],
        ),
        (applications.InceptionV3, ["conv2d", "conv2d_93", "mixed0", "mixed9_1", "mixed10"]),
        (
            applications.EfficientNetB0,
            ["stem_conv", "block1a_se_reduce", "block7a_project_bn", "top_dropout"],
        ),
        (applications.VGG16, ["block1_conv1", "block5_pool", "fc1", "fc2"]),
    ]
    for build, names in rows:
        keras.backend.clear_session()
        model = build(weights=None)
        for name in names:
            assert model.get_layer(name).name == name


def test_alpha_scales_mobilenet() -> None:
    for alpha, expected in ((0.35, 410_208), (1.0, 2_257_984), (1.4, 4_363_712)):
        model = applications.MobileNetV2(weights=None, include_top=False, alpha=alpha)
        assert model.count_params() == expected


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ResNet50", 32),
        ("MobileNetV2", 33),
        ("DenseNet121", 32),
        ("InceptionV3", 75),
        ("EfficientNetB0", 33),
    ],
)
def test_both_data_formats_give_the_same_scores(name: str, size: int) -> None:
    options: Any = {"weights": None, "classes": 5}
    last = randomized(getattr(applications, name)(input_shape=(size, size, 3), **options))
    keras.backend.set_image_data_format("channels_first")
    first = getattr(applications, name)(input_shape=(3, size, size), **options)
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    expected = run(last, x)
    assert expected.shape == (1, 5)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-4)
    found = run(first, np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)


def test_preprocessing_follows_the_networks() -> None:
    x = np.full((1, 2, 2, 3), 255.0)
    np.testing.assert_allclose(applications.mobilenet_v2.preprocess_input(x), 1.0)
    np.testing.assert_allclose(
        applications.resnet50.preprocess_input(x)[0, 0, 0],
        [255 - 103.939, 255 - 116.779, 255 - 123.68],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        applications.densenet.preprocess_input(x)[0, 0, 0],
        [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
        rtol=1e-5,
    )


def test_layers_of_resnet_stand_in_keras_order() -> None:
    names = [layer.name for layer in applications.ResNet50(weights=None).layers]
    start = names.index("pool1_pool")
    parts = [
        "1_conv",
        "1_bn",
        "1_relu",
        "2_conv",
        "2_bn",
        "2_relu",
        "0_conv",
        "3_conv",
        "0_bn",
        "3_bn",
        "add",
        "out",
    ]
    assert names[start + 1 : start + 13] == [f"conv2_block1_{part}" for part in parts]


@pytest.mark.parametrize(
    "name", ["ResNet50", "MobileNetV2", "DenseNet121", "InceptionV3", "EfficientNetB0"]
)
def test_graphs_verify_and_read_back(name: str) -> None:
    graph = getattr(applications, name)(weights=None).graphs()["predict"]
    verify_graph(graph)
    assert parse_graph(print_graph(graph), graph.weights) == graph


def test_weights_have_their_variables_shapes_scalars_too() -> None:
    model = applications.EfficientNetB0(weights=None, include_top=False)
    weights = model.get_weights()
    assert () in [w.shape for w in weights]
    assert [w.shape for w in weights] == [v.shape for v in model.weights]
    model.set_weights(weights)


def test_predictions_are_decoded_by_the_cached_class_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {str(k): [f"n{k:08}", f"thing_{k}"] for k in range(1000)}
    file = tmp_path / "imagenet_class_index.json"
    file.write_text(json.dumps(table))
    monkeypatch.setattr(imagenet_utils, "get_file", lambda *args, **kwargs: str(file))
    scores = np.zeros((2, 1000), np.float32)
    scores[0, 7], scores[0, 3], scores[1, 999] = 0.6, 0.4, 1.0
    first, second = applications.resnet50.decode_predictions(scores, top=2)
    assert [name for _, name, _ in first] == ["thing_7", "thing_3"]
    assert second[0] == ("n00000999", "thing_999", 1.0)
    with pytest.raises(
        DataError, match=r"expected scores of shape \(rows, 1000\); received \(2, 10\)"
    ):
        imagenet_utils.decode_predictions(scores[:, :10])
    file.write_text("{}")
    monkeypatch.setattr(imagenet_utils, "_known", {})
    with pytest.raises(InputFileError, match="not ImageNet's class index"):
        imagenet_utils.decode_predictions(scores)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_within_a_model(mode: str) -> None:
    x = np.random.default_rng(2).integers(0, 256, (2, 3, 4, 3)).astype(np.float32)
    wanted = applications.imagenet_utils.preprocess_input(x, mode=mode)
    start = keras.Input((None, None, 3))
    model = keras.Model(start, applications.imagenet_utils.preprocess_input(start, mode=mode))
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, 1e-5, 1e-5)


def test_a_network_for_any_size() -> None:
    """Without its classifier a network takes images of open sizes; its weights are those of any other size."""
    network = applications.MobileNetV2(
        input_shape=(None, None, 3), include_top=False, weights=None, alpha=0.35
    )
    assert network.output_shape == (None, None, None, 1280)
