import json

import pytest
from nets import TEXT_MODEL

import archijax as aj
from archijax.configs import from_dict, to_dict


def test_a_configuration_survives_json():
    assert from_dict(json.loads(json.dumps(to_dict(TEXT_MODEL)))) == TEXT_MODEL


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("kind",), "vocoderr", "kind is 'vocoderr': known are diffusion"),
        (("sampel_rate",), 1, "unknown setting 'sampel_rate'"),
        (("unet", "chanels"), [1], "unet has the unknown setting 'chanels'"),
        (("unet", "channels"), "8", "unet.channels is '8': tuple"),
        (("unet", "channels"), [8, "16"], r"unet.channels\[1\] is '16': int"),
        (("sample_rate",), 8000.5, "sample_rate is 8000.5: int"),
        (("remat",), 1, "remat is 1: bool"),
        (("dtype",), "float8", "dtype is 'float8'"),
        (("text",), 3, "text is 3"),
    ],
)
def test_a_damaged_configuration_is_refused_by_name(path, value, message):
    values = json.loads(json.dumps(to_dict(TEXT_MODEL)))
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(aj.InputError, match=message):
        from_dict(values)


def test_missing_settings_and_foreign_objects_are_refused():
    values = to_dict(TEXT_MODEL)
    del values["unet"]["channels"]
    with pytest.raises(aj.InputError, match="unet lacks the setting 'channels'"):
        from_dict(values)
    with pytest.raises(aj.InputError, match="UNetConfig is not a model configuration"):
        to_dict(TEXT_MODEL.unet)
    with pytest.raises(aj.InputError, match="kind is 3"):
        from_dict(3)


def test_lengths_the_net_does_not_divide_are_refused_when_the_model_is_built():
    import dataclasses

    with pytest.raises(aj.InputError, match=r"length 62 is not a multiple of 8 .* use 64"):
        dataclasses.replace(TEXT_MODEL, length=62).build()
    with pytest.raises(aj.InputError, match=r"text.features 9 do not divide into text.num_heads 2"):
        dataclasses.replace(TEXT_MODEL, text=aj.configs.TextConfig(features=9, num_heads=2)).build()
